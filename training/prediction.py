"""Rows of token ids in; the log-probabilities of what comes next, row by row, out.

The model's rows keep their keys and values, so that each further token costs one position only.
Knows nothing of how a token is chosen or of text.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from training.gpt import GPT

Floats = npt.NDArray[np.float64]


class Predictor(Protocol):
    """Foresees a batch of rows in step."""

    def begin(self, rows: Sequence[Sequence[int]]) -> Floats:
        """Log-probabilities (B, V) of the token after each row, at least one token long."""
        ...

    def advance(self, tokens: Sequence[int]) -> Floats:
        """The same (B, V) once each row has got one more token."""
        ...


class ModelPredictor:
    """A GPT over rows of different lengths, left-padded to one; no row may outgrow the context.

    Ids from ``num_ids`` on, with which some checkpoints fill up their vocabulary, are left out.
    """

    def __init__(self, model: GPT, num_ids: int) -> None:
        self.model = model.eval()
        self.num_ids = num_ids

    def begin(self, rows: Sequence[Sequence[int]]) -> Floats:
        width = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])  # (B, T)
        self.num_padding = torch.tensor([[width - len(row)] for row in rows])
        self.cache: list[Tensor] = [torch.empty(0) for _ in range(self.model.config.n_layer)]
        self.num_seen = 0
        return self._log_probabilities(ids)

    def advance(self, tokens: Sequence[int]) -> Floats:
        return self._log_probabilities(torch.tensor(tokens)[:, None])  # (B, 1)

    @torch.no_grad()
    def _log_probabilities(self, ids: Tensor) -> Floats:
        parts: Any = self.model.transformer
        places = torch.arange(self.num_seen, self.num_seen + ids.shape[1])
        self.num_seen += ids.shape[1]
        positions = (places - self.num_padding).clamp(min=0)  # (B, T)
        mask = self._mask(places)
        x = parts["wte"](ids) + parts["wpe"](positions)  # (B, T, H * D)
        for layer, block in enumerate(parts["h"]):
            x = x + self._attend(layer, block.attn, block.ln_1(x), mask)
            x = x + block.mlp(block.ln_2(x))
        logits = self.model.lm_head(parts["ln_f"](x[:, -1]))  # (B, V)
        rows: Floats = logits[:, : self.num_ids].double().log_softmax(dim=-1).numpy()
        return rows

    def _mask(self, places: Tensor) -> Tensor:
        """What each place sees, (B, 1, T, all): itself, and what is before it and no padding."""
        keys = torch.arange(self.num_seen)
        is_before = (keys <= places[:, None]) & (keys >= self.num_padding[:, :, None])
        return (is_before | (keys == places[:, None]))[:, None]  # padding too needs one key

    def _attend(self, layer: int, attention: Any, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, H * D) -> (B, T, H * D); adds the new keys and values to the layer's cache."""
        batch, num_tokens, width = x.shape
        heads = attention.c_attn(x).view(batch, num_tokens, 3, attention.n_head, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        new = torch.stack((key, value))  # (2, B, H, T, D)
        old = self.cache[layer]
        self.cache[layer] = torch.cat((old, new), dim=3) if old.numel() else new
        keys, values = self.cache[layer]
        y = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        out: Tensor = attention.c_proj(y.transpose(1, 2).reshape(batch, num_tokens, width))
        return out


def pick(log_probabilities: Floats, temperature: float, generator: np.random.Generator) -> int:
    """One id of (V,); temperature 0 takes the likeliest and draws nothing."""
    if temperature == 0:
        return int(log_probabilities.argmax())
    scaled = (log_probabilities - log_probabilities.max()) / temperature
    cumulative = np.exp(scaled).cumsum()
    drawn = generator.random() * cumulative[-1]
    return int(np.searchsorted(cumulative, drawn, side="right").clip(max=len(cumulative) - 1))
