"""A checkpoint and what enters its linears in, the same function out with inputs of even size.

A few channels of a GPT's activations are many times larger than the others, and one scale for a
whole tensor then leaves the others few steps. Channel j of a linear's input is divided by s_j and
row j of its weight multiplied, so the function stays. The division is folded into what makes the
input, and nothing is computed more: into gain and bias of the norm before `attn.c_attn` and
`mlp.c_fc`, and into the values' columns of `attn.c_attn` before `attn.c_proj`, for attention only
mixes values. The input of `mlp.c_proj` comes from GELU, which no factor passes. After SmoothQuant
(Xiao et al., arXiv:2211.10438, equation 4).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.checkpoint import Checkpoint
from export.rotated import READERS

STRENGTH = 0.5  # alpha: how much of a channel's size moves into the weight; the paper's choice
SMALLEST = 1e-5  # of a channel that is nearly dead, whose factor must stay finite

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A checkpoint of the same function, and by a linear's name what its input is divided by."""

    checkpoint: Checkpoint
    factors: Mapping[str, Floats]


def smooth(
    checkpoint: Checkpoint, sizes: Mapping[str, Floats], strength: float = STRENGTH
) -> Smoothed:
    """Even out; `sizes` holds by a linear's name the largest input of each channel, (in,)."""
    weights = dict(checkpoint.weights)
    factors: dict[str, Floats] = {}
    for name in sizes:
        _, layer, linear = name.split(".", 2)
        if linear == "mlp.c_proj":
            continue
        factor = smoothing_factor(sizes[name], weights[f"{name}.weight"], strength)
        if linear in READERS:
            _divide(weights, f"h.{layer}.{READERS[linear]}", factor)
        else:
            _divide_values(weights, f"h.{layer}.attn.c_attn", factor)
        weights[f"{name}.weight"] = weights[f"{name}.weight"] * factor[:, None]
        factors[name] = factor
    return Smoothed(dataclasses.replace(checkpoint, weights=weights), factors)


def smoothing_factor(size: Floats, weight: Floats, strength: float) -> Floats:
    """size^alpha / largest weight^(1 - alpha) of each channel, (in,)."""
    rows = np.abs(weight).max(axis=1)
    factor = np.maximum(size, SMALLEST) ** strength
    result: Floats = (factor / np.maximum(rows, SMALLEST) ** (1 - strength)).astype(np.float32)
    return result


def _divide(weights: dict[str, Floats], norm: str, factor: Floats) -> None:
    for name in (f"{norm}.weight", f"{norm}.bias"):
        if name in weights:
            weights[name] = weights[name] / factor


def _divide_values(weights: dict[str, Floats], name: str, factor: Floats) -> None:
    """The last third of packed queries, keys and values."""
    whole = np.concatenate([np.ones(2 * len(factor), np.float32), factor])
    _divide(weights, name, whole)
