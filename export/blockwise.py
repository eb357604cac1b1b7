"""A float32 model.onnx in, the same with 4-bit linears out.

The linears of the blocks have 4-bit weights, in blocks along a column with a scale each
(com.microsoft.MatMulNBits). A step of few rows only reads weights, so this is the fastest form
there; activations are rounded to 8 bits a block at run time. Embeddings and head are those of
`export.embeddings`. Knows nothing of checkpoints, nor of the graph with 8-bit rows
(`export.quantized`).

Measured on the demo model, mean KL on 16,459 tokens of code, with GPTQ (`export.compensation`):
1.9e-2; in blocks of 128, 64 and 32 1.7e-2, 1.5e-2 and 1.4e-2, which cost time; without GPTQ 7.5e-2
(docs/precisions.md, docs/ENGINE_SPEED.md). llama.cpp's Q4_0 rounding of the weights: 4.5e-2.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.architecture import is_linear
from export.embeddings import ACCURACY_LEVEL, quantize_tables, settled_head, settled_top
from export.model_file import CONTRIB_DOMAIN, Model

BLOCK_SIZES = (32, 64, 128, 256)  # how many weights of a column have one scale
BLOCK_SIZE = 256
# A block's range may be cut by so much: its extremes are rounded worse, all others better. With
# 256 steps there is nothing to win.
CUTS = {4: np.linspace(1, 0.7, 7, dtype=np.float32), 8: np.ones(1, np.float32)}
NUM_COLUMNS = 64  # rounded at a time, so that what is tried stays in the processor's cache

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Blocks:
    """A weight (in, out) in blocks: weight = (code - zero point) * scale.

    codes (out, blocks, block size), scales and zero_points (out, blocks); the last block of a
    column is filled up with zeros.
    """

    bits: int
    codes: Codes
    scales: Floats
    zero_points: Codes

    def restored(self, num_inputs: int) -> Floats:
        """The weight (in, out) that the codes stand for."""
        steps = self.codes.astype(np.float32) - self.zero_points[..., None]
        flat = (steps * self.scales[..., None]).reshape(len(self.codes), -1)
        result: Floats = flat[:, :num_inputs].T
        return result


# A product, its weight (in, out) and the plain rounding of that to a better one.
Refine = Callable[[NodeProto, NDArray[Any], Blocks], Blocks]


def quantize_blocks(
    model: Model, refine: Refine | None = None, block_size: int = BLOCK_SIZE
) -> Model:
    """Replace each product with a weight, and the embeddings; 4-bit weights may be refined."""
    model = quantize_tables(model)
    nodes: list[NodeProto] = []
    weights: dict[str, NDArray[Any]] = {}
    for node in model.nodes:
        if node.op_type == "Gemm":
            head = settled_head(node, model.weights[node.input[1]].shape)
            nodes += head.nodes
            weights |= head.weights
            continue
        if node.op_type == "TopK":
            nodes += settled_top(node)
            continue
        bits = _num_bits(node, model)
        if bits is None:
            nodes.append(node)
            continue
        weight = model.weights[node.input[1]]
        blocks = round_weight(weight, bits, block_size)
        if refine is not None and bits == 4:
            blocks = refine(node, weight, blocks)
        packed = _packed(node.input[1].removesuffix(".weight"), blocks)
        weights |= packed
        nodes.append(_product(node, packed, weight.shape, blocks))
    used = {name for node in nodes for name in node.input}
    kept = {name: model.weights[name] for name in model.weights if name in used}
    return Model(nodes, model.inputs, model.outputs, kept | weights)


def _packed(name: str, blocks: Blocks) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.weight_int{blocks.bits}": pack(blocks.codes, blocks.bits),
        f"{name}.block_scale": blocks.scales,
        f"{name}.block_zero_point": pack(blocks.zero_points, blocks.bits),
    }


def _product(
    node: NodeProto, packed: Iterable[str], shape: tuple[int, ...], blocks: Blocks
) -> NodeProto:
    """In the place of one with a weight of a shape (in, out)."""
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *packed],
        node.output,
        name=f"{node.input[1].removesuffix('.weight')}.blocks",
        domain=CONTRIB_DOMAIN,
        K=shape[0],
        N=shape[1],
        bits=blocks.bits,
        block_size=blocks.codes.shape[-1],
        accuracy_level=ACCURACY_LEVEL,
    )


def four_bit_inputs(model: Model) -> dict[str, int]:
    """What the 4-bit linears read, name to width."""
    return {
        node.input[0]: model.weights[node.input[1]].shape[0]
        for node in model.nodes
        if _num_bits(node, model) == 4
    }


def _num_bits(node: NodeProto, model: Model) -> int | None:
    """Of the weight of a linear; None when the node is none, nor the last norm's gain."""
    if node.op_type != "MatMul" or node.input[1] not in model.weights:
        return None
    return 4 if is_linear(node.input[1]) else 8


def round_weight(weight: NDArray[Any], bits: int, block_size: int = BLOCK_SIZE) -> Blocks:
    """(in, out) float32 to codes; each block takes the cut of its range that errs least."""
    num_inputs, num_outputs = weight.shape
    num_blocks = -(-num_inputs // block_size)
    blocks = Blocks(
        bits,
        np.empty((num_outputs, num_blocks, block_size), np.uint8),
        np.empty((num_outputs, num_blocks), np.float32),
        np.empty((num_outputs, num_blocks), np.uint8),
    )
    for start in range(0, num_outputs, NUM_COLUMNS):
        part = slice(start, start + NUM_COLUMNS)
        columns = weight[:, part].T
        values = np.zeros((len(columns), num_blocks * block_size), np.float32)
        values[:, :num_inputs] = columns
        best = _best_blocks(values.reshape(-1, num_blocks, block_size), bits)
        blocks.codes[part] = best.codes
        blocks.scales[part] = best.scales
        blocks.zero_points[part] = best.zero_points
    return blocks


def pack(codes: Codes, bits: int) -> Codes:
    """Codes to bytes along the last axis; of 4 bits the first stands low, an odd rest beside 0."""
    if bits == 8:
        return codes
    padding = [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)]
    even = np.pad(codes, padding)
    high = np.left_shift(even[..., 1::2], 4, dtype=np.uint8)
    packed: Codes = even[..., 0::2] | high
    return packed


def _best_blocks(values: Floats, bits: int) -> Blocks:
    best = _round_blocks(values, bits, CUTS[bits][0])
    least = _errors(values, best)
    for cut in CUTS[bits][1:]:
        found = _round_blocks(values, bits, cut)
        errors = _errors(values, found)
        better = errors < least
        best = Blocks(
            bits,
            np.where(better[..., None], found.codes, best.codes),
            np.where(better, found.scales, best.scales),
            np.where(better, found.zero_points, best.zero_points),
        )
        least = np.minimum(least, errors)
    return best


def _round_blocks(values: Floats, bits: int, cut: np.float32) -> Blocks:
    """0 is always a code of its own, so that padding and zeros stay zero."""
    largest = 2**bits - 1
    low = np.minimum(values.min(axis=-1), 0) * cut
    high = np.maximum(values.max(axis=-1), 0) * cut
    scales = np.where(high > low, (high - low) / largest, 1).astype(np.float32)
    zero_points = np.rint(-low / scales)
    codes = np.rint(values / scales[..., None]) + zero_points[..., None]
    return Blocks(
        bits,
        np.clip(codes, 0, largest).astype(np.uint8),
        scales,
        zero_points.astype(np.uint8),
    )


def _errors(values: Floats, blocks: Blocks) -> Floats:
    """The sum of squared errors of each block."""
    steps = blocks.codes.astype(np.float32) - blocks.zero_points[..., None]
    errors: Floats = np.square(steps * blocks.scales[..., None] - values).sum(axis=-1)
    return errors
