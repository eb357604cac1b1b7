"""Checkpoint and token ids in, logits out: the architecture once more, in plain NumPy float32.

The yardstick of parity: teacher-forced, no cache, no runtime of anybody's, one sequence at a time.
Attention runs head by head, and the head on the rows that are asked for, so memory stays small.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from export.architecture import EMBEDDING_WEIGHT, HEAD_WEIGHT, Activation
from export.checkpoint import Checkpoint

Floats = NDArray[np.float32]


class Reference:
    """Computes what a checkpoint means."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._config = checkpoint.config
        self._weights: Mapping[str, Floats] = checkpoint.weights
        self._head = checkpoint.weights[EMBEDDING_WEIGHT if checkpoint.tied else HEAD_WEIGHT]

    def hidden(self, ids: NDArray[np.int64]) -> Floats:
        """(T,) ids, T at most M, to the (T, H * D) that enter the head."""
        assert len(ids) <= self._config.context, len(ids)
        x = self._weights[EMBEDDING_WEIGHT][ids] + self._weights["wpe.weight"][: len(ids)]
        for layer in range(self._config.num_layers):
            name = f"h.{layer}"
            x = x + self._attend(self._norm(x, f"{name}.ln_1"), f"{name}.attn")
            inner = self._linear(self._norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
            x = x + self._linear(gelu(inner, self._config.activation), f"{name}.mlp.c_proj")
        return self._norm(x, "ln_f")

    def logits(self, hidden: Floats) -> Floats:
        """(R, H * D) rows of `hidden` to (R, V)."""
        return hidden @ self._head.T

    def _attend(self, x: Floats, name: str) -> Floats:
        num_tokens, width = x.shape
        head_dim = self._config.head_dim
        qkv = self._linear(x, f"{name}.c_attn").reshape(num_tokens, 3, -1, head_dim)
        future = np.triu(np.full((num_tokens, num_tokens), -np.inf, np.float32), 1)
        y = np.empty((num_tokens, self._config.num_heads, head_dim), np.float32)  # (T, H, D)
        for head in range(self._config.num_heads):
            query, key, value = qkv[:, 0, head], qkv[:, 1, head], qkv[:, 2, head]  # (T, D)
            scores = query @ key.T * np.float32(head_dim**-0.5) + future  # (T, T)
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            y[:, head] = scores @ value / scores.sum(axis=-1, keepdims=True)
        return self._linear(y.reshape(num_tokens, width), f"{name}.c_proj")

    def _linear(self, x: Floats, name: str) -> Floats:
        y: Floats = x @ self._weights[f"{name}.weight"]
        bias = self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _norm(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        unit = centred / np.sqrt(variance + np.float32(self._config.epsilon))
        y: Floats = unit * self._weights[f"{name}.weight"]
        bias = self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias


def gelu(x: Floats, activation: Activation) -> Floats:
    """GELU, exact or by GPT-2's tanh (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    if activation == "gelu_erf":
        below = 1 + erf(x * np.float32(0.5**0.5))
    else:
        cubic = x + np.float32(0.044715) * x * x * x
        below = 1 + np.tanh(np.float32((2 / np.pi) ** 0.5) * cubic)
    y: Floats = x * below / 2
    return y


def erf(x: Floats) -> Floats:
    """The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26), which NumPy has not."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = np.zeros_like(t)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(coefficient)) * t
    return np.copysign(1 - series * np.exp(-size * size), x)
