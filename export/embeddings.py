"""A float32 model in, the same with embeddings and head of 8 bits out, and how a head reads them.

A table keeps a row of codes for each token (or position) and one scale a row, in one array that
stands in the file once: rows are gathered from it as they are, and a tied head multiplies with the
same bytes. Its operators want them in another form, which nodes without any input make of the
table; ONNX Runtime computes such nodes once, when it loads the graph. Knows nothing of the other
weights.

A head of few rows takes as long as reading it does, so it is read in 4 bits, the upper half of each
code; the best tokens by that are then settled, multiplied with their whole codes. What is left of
the rough logits is the tail of the distribution.
"""

from collections import ChainMap
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from export.architecture import EMBEDDING_WEIGHT, HEAD_WEIGHT
from export.model_file import CONTRIB_DOMAIN, Model

# Stored codes are unsigned; so moved, their upper halves are they rounded to 4 bits, and 8 is zero.
LARGEST, OFFSET = 119, 136
HIGH_BITS, HIGH_STEP = 4, 16  # the upper half of a code, and what one step of it is worth
SIGN = 128  # the bit that makes an unsigned number a signed one that is so much smaller
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256  # of MatMulNBits
NUM_SETTLED = 128  # twice as many as leave the graph sorted
TABLES = (EMBEDDING_WEIGHT, "wpe.weight", HEAD_WEIGHT)
ACCURACY_LEVEL = 4  # products of 8-bit integers; without it a row takes up to 60 times longer

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes, and the constants that they read."""

    nodes: list[NodeProto]
    weights: Arrays


def quantize_tables(model: Model) -> Model:
    """Round every table; the head (Gemm) still has its float32 weight to be replaced."""
    nodes: list[NodeProto] = []
    rounded: Arrays = {}
    for node in model.nodes:
        table = next((name for name in node.input[:2] if name in TABLES), None)
        if table is not None:
            rounded |= _round_rows(table, model.weights[table])
        is_gather = table is not None and node.op_type == "Gather"
        nodes.append(_gathered(node, model) if is_gather else node)
    unchanged = cast("Arrays", model.weights)  # which is only read, when needed
    return Model(nodes, model.inputs, model.outputs, ChainMap(rounded, unchanged))


def _gathered(node: NodeProto, model: Model) -> NodeProto:
    table, ids = node.input
    return _gather(table, ids, node.output[0], model.weights[table].shape[1])


def settled_head(head: NodeProto, shape: tuple[int, ...]) -> Part:
    """Logits (R, V) of rows (R, H * D) by a head of a shape (V, H * D), for steps of few rows."""
    num_tokens, width = shape
    x, table = head.input
    high = _high_half(table, num_tokens, width)
    rough = helper.make_node(
        "MatMulNBits",
        [x, "head.high", "head.scales"],
        ["head.rough"],
        name="head.rough",
        domain=CONTRIB_DOMAIN,
        K=width,
        N=num_tokens,
        bits=HIGH_BITS,
        block_size=_block_size(width),
        accuracy_level=ACCURACY_LEVEL,
    )
    best = helper.make_node(
        "TopK",
        ["head.rough", "head.num_settled"],
        ["head.best_rough", "head.best"],
        name="head.best",
    )  # (R, K)
    nodes = [
        rough,
        best,
        _gather(table, "head.best", "head.rows", width),  # (R, K, H * D)
        _node("Unsqueeze", [x, "head.last"], "head.column"),  # (R, H * D, 1)
        _node("MatMul", ["head.rows", "head.column"], "head.products"),  # (R, K, 1)
        _node("Squeeze", ["head.products", "head.last"], "head.settled"),
        _node(
            "ScatterElements", ["head.rough", "head.best", "head.settled"], head.output[0], axis=1
        ),
    ]
    weights: Arrays = {
        "head.num_settled": np.array([min(NUM_SETTLED, num_tokens)], np.int64),
        "head.last": np.array([2], np.int64),
    }
    return Part([*high.nodes, *nodes], high.weights | weights)


def settled_top(top: NodeProto) -> list[NodeProto]:
    """In the place of a search through all logits: the best are among those that were settled."""
    logits, tokens = top.output
    return [
        helper.make_node(
            "TopK", ["head.settled", top.input[1]], [logits, "head.order"], name="head.top"
        ),
        _node("GatherElements", ["head.best", "head.order"], tokens, axis=1),
    ]


def _high_half(table: str, num_tokens: int, width: int) -> Part:
    """`head.high` (V, blocks, block size / 2), two codes a byte, and `head.scales` (V, blocks)."""
    codes, scales, _ = _names(table)
    size = _block_size(width)
    num_blocks = -(-width // size)
    weights: Arrays = {
        "head.ends": np.array([0, 0, 0, num_blocks * size - width], np.int64),
        "head.filling": np.array(OFFSET, np.uint8),
        "head.first": np.array([0], np.int64),
        "head.second": np.array([1], np.int64),
        "head.end": np.array([num_blocks * size], np.int64),
        "head.two": np.array([2], np.int64),
        "head.shift": np.array(HIGH_BITS, np.uint8),
        "head.mask": np.array(256 - HIGH_STEP, np.uint8),
        "head.shape": np.array([num_tokens, num_blocks, size // 2], np.int64),
        "head.step": np.array(HIGH_STEP, np.float32),
        "head.blocks": np.array([num_tokens, num_blocks], np.int64),
    }
    nodes = []
    if width % size:
        nodes.append(_node("Pad", [codes, "head.ends", "head.filling"], "head.padded"))
        codes = "head.padded"
    every_other = ["head.end", "head.second", "head.two"]  # end, axis, step
    nodes += [
        _node("Slice", [codes, "head.first", *every_other], "head.even"),
        _node("Slice", [codes, "head.second", *every_other], "head.odd"),
        _node("BitShift", ["head.even", "head.shift"], "head.lower", direction="RIGHT"),
        _node("BitwiseAnd", ["head.odd", "head.mask"], "head.upper"),
        _node("BitwiseOr", ["head.lower", "head.upper"], "head.joined"),
        _node("Reshape", ["head.joined", "head.shape"], "head.high"),
        _node("Mul", [scales, "head.step"], "head.high_scale"),
        _node("Expand", ["head.high_scale", "head.blocks"], "head.scales"),
    ]
    used = {name for node in nodes for name in node.input}
    return Part(nodes, {name: weights[name] for name in weights if name in used})


def signed_head(table: str, num_tokens: int) -> Part:
    """`head.signed` (V, H * D) in int8, `head.scales` and `head.zero_points` (V,)."""
    codes, scales, _ = _names(table)
    weights: Arrays = {
        "head.sign": np.array(SIGN, np.uint8),
        "head.flat": np.array([-1], np.int64),
        "head.zero_points": np.full(num_tokens, OFFSET - SIGN, np.int8),
    }
    nodes = [
        _node("BitwiseXor", [codes, "head.sign"], "head.turned"),
        _node("Cast", ["head.turned"], "head.signed", to=TensorProto.INT8),
        _node("Reshape", [scales, "head.flat"], "head.scales"),
    ]
    return Part(nodes, weights)


def _block_size(width: int) -> int:
    """The largest that divides a row; one that is filled up where none does."""
    sizes = (LARGEST_BLOCK >> shift for shift in range(LARGEST_BLOCK.bit_length()))
    return next(size for size in sizes if width % size == 0 or size == SMALLEST_BLOCK)


def _round_rows(name: str, table: NDArray[Any]) -> Arrays:
    """(rows, width) float32 to uint8 codes, (rows, 1) scales and zero points; to the nearest."""
    amax = np.abs(table).max(axis=1, keepdims=True)
    scale = np.where(amax > 0, amax / LARGEST, 1).astype(np.float32)
    codes = (np.rint(table / scale) + OFFSET).astype(np.uint8)
    zero_points = np.full(scale.shape, OFFSET, np.uint8)
    return dict(zip(_names(name), (codes, scale, zero_points), strict=True))


def _gather(table: str, ids: str, rows: str, width: int) -> NodeProto:
    codes, scales, zero_points = _names(table)
    return helper.make_node(
        "GatherBlockQuantized",
        [codes, ids, scales, zero_points],
        [rows],
        name=rows,
        domain=CONTRIB_DOMAIN,
        bits=8,
        block_size=max(SMALLEST_BLOCK, 1 << (width - 1).bit_length()),  # one block a row
        gather_axis=0,
        quantize_axis=1,
    )


def _names(table: str) -> tuple[str, str, str]:
    name = table.removesuffix(".weight")
    return f"{name}.codes", f"{name}.scale", f"{name}.zero_point"


def _node(op: str, inputs: list[str], output: str, **attributes: int | str) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)
