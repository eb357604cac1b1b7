"""Node of a layer's attention: N tokens' packed queries, keys and values in, what they see out.

It is the operator of `export.slot_attention`, for a chunk and decode rows at once. Knows nothing of
linears.
"""

from collections.abc import Callable

from onnx import TensorProto, ValueInfoProto, helper

from export import slot_attention
from export.architecture import Config
from nanotriton import contract

# Appends a node to a graph and returns its first output's name.
AddNode = Callable[..., str]
# What the contract's names of the decode part are in a part.
Rename = Callable[[str], str]

PARTS: tuple[tuple[Rename, str | int, str | int], ...] = (  # its batch size and tokens
    (str, "B", 1),
    (contract.chunk_name, 1, "T"),
)


def attend(node: AddNode, config: Config, layer: int, qkv: str) -> str:
    """(N, 3 * H * D) to (N, H * D)."""
    inputs, presents = [qkv], []
    for name, _, _ in PARTS:
        inputs += [
            name(contract.GRAPH_ATTENDED),
            name(contract.GRAPH_SEQLENS_K),
            name(contract.GRAPH_TOTAL_LEN),
            *(name(contract.past_name(layer, kind)) for kind in "kv"),
        ]
        presents += [name(contract.present_name(layer, kind)) for kind in "kv"]
    return node(
        slot_attention.FLOAT,
        *inputs,
        contract.GRAPH_ATTENTION_ROWS,
        outputs=[f"attention_{layer}", *presents],
        domain=slot_attention.DOMAIN,
        num_heads=config.num_heads,
        scale=config.head_dim**-0.5,
    )


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
