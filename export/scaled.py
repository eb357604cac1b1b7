"""A float32 model and rows that entered its 4-bit linears in, the same function out, with weights
that lose less when they are rounded.

AWQ (Lin et al., arXiv:2306.00978): the rows of a weight that meet large activations matter most.
They are multiplied by s = (mean |x|)^a before rounding, so that they lose less of themselves, and
the norm in front is divided by s, which is exact and costs nothing when the model runs. The
exponent is searched for each linear: the one whose rounded products miss the true ones least on the
recorded rows; with 0 nothing changes, so no linear gets worse on them. A linear behind a GELU has
no norm to divide, and stays. Knows nothing of where the rows come from.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from export.blockwise import BLOCK_SIZE, four_bit_inputs, round_weight
from export.model_file import Model

EXPONENTS = np.linspace(0, 1, 11)
SMALLEST = 1e-4  # of a channel's mean, as a share of the largest: dead ones aren't blown up

Floats = NDArray[np.float32]


def scale_model(model: Model, rows: Mapping[str, Floats], block_size: int = BLOCK_SIZE) -> Model:
    """Scale every 4-bit linear that alone reads a norm; `rows` (N, in) by the name of its input."""
    weights: Mapping[str, NDArray[Any]] = model.weights
    changed: dict[str, NDArray[Any]] = {}
    for norm, linear in _pairs(model):
        weight = weights[linear.input[1]]
        scales = find_scales(weight, rows[linear.input[0]], block_size)
        changed[linear.input[1]] = weight * scales[:, None]
        for name in norm.input[1:]:  # gain, and bias if there is one
            changed[name] = weights[name] / scales
    return Model(model.nodes, model.inputs, model.outputs, _Overlaid(weights, changed))


def find_scales(weight: Floats, rows: Floats, block_size: int = BLOCK_SIZE) -> Floats:
    """(in,) factors for a weight (in, out) that is rounded to 4 bits, all 1 when none is better."""
    with np.errstate(over="ignore", invalid="ignore"):
        moments = rows.T @ rows
        means = np.abs(rows).mean(axis=0)
    scales = np.ones(len(weight), np.float32)
    if not np.isfinite(moments).all() or not means.any():
        return scales
    means = np.maximum(means, means.max() * SMALLEST)
    least = np.inf
    for exponent in EXPONENTS:
        tried = (means**exponent).astype(np.float32)
        tried /= np.sqrt(tried.max() * tried.min())  # as the paper does: the middle stays
        loss = rounding_loss(weight, tried, moments, block_size)
        if loss < least:
            least, scales = loss, tried
    return scales


def rounding_loss(
    weight: Floats, scales: Floats, moments: Floats, block_size: int = BLOCK_SIZE
) -> float:
    """The paper's objective, |X (round(s W) / s - W)|^2, with X^T X as `moments`."""
    restored = round_weight(weight * scales[:, None], 4, block_size).restored(len(weight))
    missed = restored / scales[:, None] - weight
    return float((missed * (moments @ missed)).sum())


class _Overlaid(Mapping[str, NDArray[Any]]):
    """Weights of which some are others; the rest are still read when they are asked for."""

    def __init__(
        self, weights: Mapping[str, NDArray[Any]], changed: Mapping[str, NDArray[Any]]
    ) -> None:
        self._weights = weights
        self._changed = changed

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._changed[name] if name in self._changed else self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _pairs(model: Model) -> list[tuple[NodeProto, NodeProto]]:
    """Norms, each with the 4-bit linear that reads it and that nothing else does."""
    norms = {one.output[0]: one for one in model.nodes if one.op_type == "LayerNormalization"}
    four_bit = four_bit_inputs(model)
    readers: dict[str, list[NodeProto]] = {}
    for node in model.nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return [
        (norm, readers[name][0])
        for name, norm in norms.items()
        if name in four_bit and len(readers[name]) == 1
    ]
