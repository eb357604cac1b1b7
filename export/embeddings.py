"""A float32 model in, the same with embeddings of 8 bits out, and how a head reads such a table.

A table keeps a row of signed codes for each token (or position) and one scale a row, in one array
that stands in the file once: rows are gathered from it as they are, and a tied head multiplies with
the same bytes. Its operators want them in another form, which nodes without any input make of the
table; ONNX Runtime computes such nodes once, when it loads the graph. Knows nothing of the other
weights.
"""

from collections import ChainMap
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from export.architecture import EMBEDDING_WEIGHT
from export.model_file import CONTRIB_DOMAIN, Model

LARGEST = 127  # of a signed code
OFFSET = 128  # stored codes are unsigned: what the operators that read blocks take for zero
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256  # of MatMulNBits
TABLES = (EMBEDDING_WEIGHT, "wpe.weight")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class HeadForm:
    """The table as one operator wants it: what makes it, and the names of what is made."""

    nodes: list[NodeProto]
    weights: Arrays
    codes: str
    scales: str
    block_size: int = 0


def quantize_embeddings(model: Model) -> Model:
    """Round both tables; a head that reads one still has its float32 weight to be replaced."""
    nodes: list[NodeProto] = []
    rounded: Arrays = {}
    for node in model.nodes:
        if node.op_type == "Gather" and node.input[0] in TABLES:
            rounded |= _round_rows(node.input[0], model.weights[node.input[0]])
            nodes.append(_gather(node, model.weights[node.input[0]].shape[1]))
        else:
            nodes.append(node)
    unchanged = cast("Arrays", model.weights)  # which is only read, when needed
    return Model(nodes, model.inputs, model.outputs, ChainMap(rounded, unchanged))


def is_tied(head: NodeProto) -> bool:
    """Whether a head multiplies with the token embeddings."""
    return bool(head.input[1] == EMBEDDING_WEIGHT)


def block_form(model: Model) -> HeadForm:
    """Codes (V, blocks, block size), filled up with zeros if need be, and scales (V, blocks)."""
    num_tokens, width = model.weights[EMBEDDING_WEIGHT].shape
    sizes = (LARGEST_BLOCK >> shift for shift in range(LARGEST_BLOCK.bit_length()))
    size = next(one for one in sizes if width % one == 0 or one == SMALLEST_BLOCK)
    num_blocks = -(-width // size)
    weights: Arrays = {
        "head.ends": np.array([0, 0, 0, num_blocks * size - width], np.int64),
        "head.zero": np.array(OFFSET, np.uint8),
        "head.shape": np.array([num_tokens, num_blocks, size], np.int64),
        "head.blocks": np.array([num_tokens, num_blocks], np.int64),
    }
    codes, scales = _names(EMBEDDING_WEIGHT)
    nodes = []
    if width % size:
        nodes.append(_node("Pad", [codes, "head.ends", "head.zero"], "head.padded"))
        codes = "head.padded"
    nodes += [
        _node("Reshape", [codes, "head.shape"], "head.codes"),
        _node("Expand", [scales, "head.blocks"], "head.scales"),
    ]
    return HeadForm(nodes, weights, "head.codes", "head.scales", size)


def column_form() -> HeadForm:
    """Signed codes (V, H * D) and scales (V,)."""
    codes, scales = _names(EMBEDDING_WEIGHT)
    weights: Arrays = {
        "head.sign": np.array(OFFSET, np.uint8),
        "head.flat": np.array([-1], np.int64),
    }
    nodes = [
        _node("BitwiseXor", [codes, "head.sign"], "head.turned"),  # code - 128, as unsigned bits
        _node("Cast", ["head.turned"], "head.codes", to=TensorProto.INT8),
        _node("Reshape", [scales, "head.flat"], "head.scales"),
    ]
    return HeadForm(nodes, weights, "head.codes", "head.scales")


def _round_rows(name: str, table: NDArray[Any]) -> Arrays:
    """(rows, width) float32 to uint8 codes and (rows, 1) scales; symmetric, to the nearest."""
    amax = np.abs(table).max(axis=1, keepdims=True)
    scale = np.where(amax > 0, amax / LARGEST, 1).astype(np.float32)
    codes = (np.rint(table / scale) + OFFSET).astype(np.uint8)
    return dict(zip(_names(name), (codes, scale), strict=True))


def _gather(node: NodeProto, width: int) -> NodeProto:
    codes, scales = _names(node.input[0])
    return helper.make_node(
        "GatherBlockQuantized",
        [codes, node.input[1], scales],
        node.output,
        name=node.name,
        domain=CONTRIB_DOMAIN,
        bits=8,
        block_size=max(SMALLEST_BLOCK, 1 << (width - 1).bit_length()),  # one block a row
        gather_axis=0,
        quantize_axis=1,
    )


def _names(table: str) -> tuple[str, str]:
    name = table.removesuffix(".weight")
    return f"{name}.codes", f"{name}.scale"


def _node(op: str, inputs: list[str], output: str, **attributes: int) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)
