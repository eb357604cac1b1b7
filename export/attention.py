"""Nodes of a layer's attention: N tokens' packed queries, keys and values in, what they see out.

GroupQueryAttention takes B sequences of one token, or one of T: behind a past, T > 1 needs B = 1.
So the tokens part: the chunk (1, T) attends its slot's cache, the decode rows (B, 1) those of
theirs, and both come together again. It takes no part of 0 tokens either; whoever calls gives a
part that is missing one token and a cache of one position, and `attention_rows` leaves it out.
Knows nothing of linears. The operator's contract:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Callable

from onnx import TensorProto, ValueInfoProto, helper

from export.architecture import Config
from export.model_file import CONTRIB_DOMAIN
from nanotriton import contract

# Appends a node to a graph and returns its first output's name.
AddNode = Callable[..., str]
# What the contract's names of the decode part are in a part.
Rename = Callable[[str], str]

PARTS: tuple[tuple[Rename, str | int, str | int], ...] = (  # its batch size and tokens
    (contract.chunk_name, 1, "T"),
    (str, "B", 1),
)


def attend(node: AddNode, config: Config, layer: int, qkv: str) -> str:
    """(N, 3 * H * D) to (N, H * D); `flat_shape` is a weight of the graph."""
    parts = [_attend_part(node, config, layer, qkv, name) for name, _, _ in PARTS]
    both = node("Concat", *parts, axis=0)
    return node("Gather", both, contract.GRAPH_ATTENTION_ROWS)


def attention_inputs(config: Config) -> list[ValueInfoProto]:
    """What the nodes of all layers read besides the weights."""
    values = [_value(contract.GRAPH_ATTENTION_ROWS, TensorProto.INT64, "N")]
    for name, batch, tokens in PARTS:
        values += [
            _value(name(contract.GRAPH_ATTENDED), TensorProto.INT64, batch, tokens),
            _value(name(contract.GRAPH_SEQLENS_K), TensorProto.INT32, batch),
            _value(name(contract.GRAPH_TOTAL_LEN), TensorProto.INT32, 1),
        ]
    return values + _caches(config, contract.past_name)


def attention_outputs(config: Config) -> list[ValueInfoProto]:
    """The caches, bound to the memory of those that come in."""
    return _caches(config, contract.present_name)


def _attend_part(node: AddNode, config: Config, layer: int, qkv: str, name: Rename) -> str:
    attention = node(
        "GroupQueryAttention",
        node("Gather", qkv, name(contract.GRAPH_ATTENDED)),  # (B, T, 3 * H * D)
        "",  # key and value are packed behind the query
        "",
        name(contract.past_name(layer, "k")),
        name(contract.past_name(layer, "v")),
        name(contract.GRAPH_SEQLENS_K),
        name(contract.GRAPH_TOTAL_LEN),
        outputs=[
            name(f"attention_{layer}"),
            name(contract.present_name(layer, "k")),
            name(contract.present_name(layer, "v")),
        ],
        domain=CONTRIB_DOMAIN,
        num_heads=config.num_heads,
        kv_num_heads=config.num_heads,
        scale=config.head_dim**-0.5,
    )
    return node("Reshape", attention, "flat_shape")  # (B * T, H * D)


def _caches(config: Config, name: Callable[[int, str], str]) -> list[ValueInfoProto]:
    return [
        _value(
            part(name(layer, kind)),
            TensorProto.FLOAT,
            batch,
            config.num_heads,
            part("M"),  # a part's own: it is 1 where the part is missing
            config.head_dim,
        )
        for part, batch, _ in PARTS
        for layer in range(config.num_layers)
        for kind in ("k", "v")
    ]


def _value(name: str, dtype: int, *axes: str | int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, axes)
