"""The operator of our own that attends KV slots, as the functions that a graph brings along.

ONNX Runtime takes an operator that a library registers (`nanotriton/native`) before a function of
its name, and puts the function's nodes in its place where there is none. So one graph serves every
machine: with the library the cache is read once, by instructions that the processor has; without,
by ONNX Runtime's GroupQueryAttention. Knows nothing of layers or of weights.

GroupQueryAttention takes B sequences of one token, or one of T: behind a past, T > 1 needs B = 1.
So the function parts the tokens: the chunk (1, T) attends its slot's cache, the decode rows (B, 1)
those of theirs, and both come together again. It takes no part of 0 tokens either; whoever calls
gives a part that is missing one token and a cache of one position, and `attention_rows` leaves it
out. The library looks at no part whose cache has one position. The operator's contract:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Callable, Iterable, Sequence

from onnx import (
    AttributeProto,
    FunctionProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

from nanotriton import contract

DOMAIN = "nanotriton"
VERSION = 1
FLOAT = "SlotAttention"
INT8 = "SlotAttentionInt8"  # over a cache of 8 bits
NAMES = (FLOAT, INT8)

PACKED = "packed"  # (N, 3 * H * D), queries, keys and values
PAST, PRESENT = ("past_k", "past_v"), ("present_k", "present_v")
SCALES = ("key_scales", "value_scales")  # (H * D,) each, of INT8 alone
# What a part, chunk or decode rows, has of its own.
PART = (contract.GRAPH_ATTENDED, contract.GRAPH_SEQLENS_K, contract.GRAPH_TOTAL_LEN, *PAST)
Rename = Callable[[str], str]
PARTS: tuple[Rename, ...] = (str, contract.chunk_name)  # in the order of inputs and of outputs
INPUTS = (
    PACKED,
    *(rename(name) for rename in PARTS for name in PART),
    contract.GRAPH_ATTENTION_ROWS,
)
OUTPUTS = ("attention", *(rename(name) for rename in PARTS for name in PRESENT))
QUANTIZED = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
NUM_UNUSED = 5  # of GroupQueryAttention's inputs, between the totals and the scales


def functions_of(
    nodes: Iterable[NodeProto], opsets: Sequence[OperatorSetIdProto]
) -> list[FunctionProto]:
    """The functions that these nodes name, written in ONNX's operators and the contributed ones."""
    named = {node.op_type for node in nodes if node.domain == DOMAIN}
    return [_function(name, opsets) for name in NAMES if name in named]


def types_of(nodes: Iterable[NodeProto]) -> list[ValueInfoProto]:
    """What comes out of these nodes: ONNX's checker can't see through contributed operators."""
    return [
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        for node in nodes
        if node.domain == DOMAIN
    ]


def caches_of(node: NodeProto) -> set[str]:
    """What its caches are called, coming in and going out."""
    names = {rename(name) for rename in PARTS for name in PAST}
    pasts = [given for name, given in zip(INPUTS, node.input, strict=False) if name in names]
    return {*pasts, *node.output[1:]}


def over_int8(node: NodeProto, scales: Sequence[str]) -> NodeProto:
    """The same node over a cache of 8 bits with these scales of keys and of values."""
    made = NodeProto()
    made.CopyFrom(node)
    made.op_type = INT8
    made.input.extend(scales)
    return made


def _function(name: str, opsets: Sequence[OperatorSetIdProto]) -> FunctionProto:
    scales = SCALES if name == INT8 else ()
    nodes = [node for axis, rename in enumerate(PARTS) for node in _part(axis, rename, scales)]
    rows = [rename("rows") for rename in reversed(PARTS)]  # the chunk's are the first
    nodes.append(helper.make_node("Concat", rows, ["both"], axis=0))
    nodes.append(helper.make_node("Gather", ["both", INPUTS[-1]], [OUTPUTS[0]]))
    return helper.make_function(
        DOMAIN, name, [*INPUTS, *scales], OUTPUTS, nodes, opsets, ["num_heads", "scale"]
    )


def _part(axis: int, rename: Rename, scales: Sequence[str]) -> list[NodeProto]:
    """One part's rows; its tokens lie along `axis` of (B, 1) or (1, T)."""
    taken, attended, one = (rename(name) for name in ("taken", "attended_rows", "one_axis"))
    seqlens, total, *past = (rename(name) for name in PART[1:])
    behind = [*[""] * NUM_UNUSED, *scales] if scales else []
    attention = helper.make_node(
        "GroupQueryAttention",
        [taken, "", "", *past, seqlens, total, *behind],  # key and value are packed in the first
        [attended, *(rename(name) for name in PRESENT)],
        domain="com.microsoft",
        **(QUANTIZED if scales else {}),
    )
    attention.attribute.extend(
        AttributeProto(name=name, ref_attr_name=given, type=kind)
        for name, given, kind in (
            ("num_heads", "num_heads", AttributeProto.INT),
            ("kv_num_heads", "num_heads", AttributeProto.INT),
            ("scale", "scale", AttributeProto.FLOAT),
        )
    )
    return [
        helper.make_node("Gather", [PACKED, rename(PART[0])], [taken]),  # (B, T, 3 * H * D)
        attention,
        helper.make_node("Constant", [], [one], value_ints=[1 - axis]),
        helper.make_node("Squeeze", [attended, one], [rename("rows")]),  # (B * T, H * D)
    ]
