"""Checkpoint in, nodes and weights of the ONNX Runtime graph out, float32, opset 20.

Built by hand: named axes and the exact operators that measured fastest, in milliseconds. One call
takes N tokens, a chunk of T of one sequence and one of each of B others, through the same linears;
only attention parts them (`export.attention`). It appends them to KV caches that live in the
caller's memory (past and present of a layer are bound to the same address), and gives the K best
logits of R of the N: behind the last layer's attention, which writes the last keys and values, only
these rows go on. Knows nothing of files or of text.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from export.architecture import EMBEDDING_WEIGHT, HEAD_WEIGHT, Config
from export.attention import attend, attention_inputs, attention_outputs
from export.checkpoint import Checkpoint
from export.model_file import CONTRIB_DOMAIN, Model
from nanotriton import contract
from nanotriton.errors import CheckpointError

MAX_CANDIDATES = 64
HEAD_DIM_UNIT = 8  # GroupQueryAttention refuses other sizes when it runs


def num_candidates(config: Config) -> int:
    """K: how many logits of a row leave the graph sorted."""
    return min(MAX_CANDIDATES, config.vocab_size)


def build_graph(checkpoint: Checkpoint) -> Model:
    """The whole model, its tied embedding stored once; raises CheckpointError."""
    config = checkpoint.config
    if config.head_dim % HEAD_DIM_UNIT:
        raise CheckpointError(
            f"the checkpoint's heads have {config.head_dim} dimensions, ONNX Runtime's attention "
            f"takes multiples of {HEAD_DIM_UNIT}: train with another n_embd or n_head"
        )
    graph = _Graph(dict(checkpoint.weights))
    x = _embed(graph)
    for layer in range(config.num_layers):
        x = _block(graph, config, layer, x)
    x = graph.layer_norm(x, "ln_f", config.epsilon)
    _head(graph, config, x)
    return Model(graph.nodes, _inputs(config), _outputs(config), graph.weights)


class _Graph:
    """Nodes and weights so far; every method appends and returns its output's name."""

    def __init__(self, weights: dict[str, NDArray[np.generic]]) -> None:
        self.nodes: list[NodeProto] = []
        self.weights = weights

    def node(
        self,
        op: str,
        *inputs: str,
        outputs: Sequence[str] = (),
        domain: str = "",
        **attributes: float,
    ) -> str:
        name = f"{op}_{len(self.nodes)}"
        made = helper.make_node(
            op, list(inputs), list(outputs) or [name], name=name, domain=domain, **attributes
        )
        self.nodes.append(made)
        return str(made.output[0])

    def constant(self, name: str, values: Sequence[int]) -> str:
        self.weights[name] = np.array(values, np.int64)
        return name

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        bias = [f"{name}.bias"] if f"{name}.bias" in self.weights else []
        return self.node("LayerNormalization", x, f"{name}.weight", *bias, epsilon=epsilon)

    def linear(self, x: str, name: str) -> str:
        y = self.node("MatMul", x, f"{name}.weight")
        return self.node("Add", y, f"{name}.bias") if f"{name}.bias" in self.weights else y

    def linear_gelu(self, x: str, name: str, activation: str) -> str:
        # Where a bias is still a node of its own, ONNX Runtime draws it into the GELU.
        op = {"gelu_erf": "Gelu", "gelu_tanh": "FastGelu"}[activation]
        return self.node(op, self.linear(x, name), domain=CONTRIB_DOMAIN)

    def rows(self, x: str) -> str:
        return self.node("Gather", x, contract.GRAPH_ROWS)


def _embed(graph: _Graph) -> str:
    tokens = graph.node("Gather", EMBEDDING_WEIGHT, contract.GRAPH_INPUT_IDS)
    positions = graph.node("Gather", "wpe.weight", contract.GRAPH_POSITION_IDS)
    return graph.node("Add", tokens, positions)  # (N, H * D)


def _block(graph: _Graph, config: Config, layer: int, x: str) -> str:
    name = f"h.{layer}"
    qkv = graph.linear(
        graph.layer_norm(x, f"{name}.ln_1", config.epsilon), f"{name}.attn.c_attn"
    )  # (N, 3 * H * D)
    attention = attend(graph.node, config, layer, qkv)  # (N, H * D)
    if layer == config.num_layers - 1:
        x, attention = graph.rows(x), graph.rows(attention)  # (R, H * D)
    x = graph.node("Add", x, graph.linear(attention, f"{name}.attn.c_proj"))
    hidden = graph.linear_gelu(
        graph.layer_norm(x, f"{name}.ln_2", config.epsilon), f"{name}.mlp.c_fc", config.activation
    )
    return graph.node("Add", x, graph.linear(hidden, f"{name}.mlp.c_proj"))


def _head(graph: _Graph, config: Config, x: str) -> None:
    weight = HEAD_WEIGHT if HEAD_WEIGHT in graph.weights else EMBEDDING_WEIGHT
    logits = graph.node("Gemm", x, weight, outputs=[contract.GRAPH_LOGITS], transB=1)  # (R, V)
    top = graph.node(
        "TopK",
        logits,
        graph.constant("num_candidates", [num_candidates(config)]),
        outputs=[contract.GRAPH_TOP_LOGITS, contract.GRAPH_TOP_TOKENS],
    )  # (R, K), sorted
    # By hand: ReduceLogSumExp costs 4 to 5 ms at R = 32, this less than one.
    zero, one = graph.constant("zero", [0]), graph.constant("one", [1])
    largest = graph.node("Slice", top, zero, one, one)  # (R, 1)
    total = graph.node(
        "ReduceSum", graph.node("Exp", graph.node("Sub", logits, largest)), one, keepdims=1
    )
    lse = graph.node("Add", largest, graph.node("Log", total))  # (R, 1)
    graph.node("Squeeze", lse, one, outputs=[contract.GRAPH_LSE])


def _inputs(config: Config) -> list[ValueInfoProto]:
    return [
        _value(contract.GRAPH_INPUT_IDS, TensorProto.INT64, "N"),
        _value(contract.GRAPH_POSITION_IDS, TensorProto.INT64, "N"),
        _value(contract.GRAPH_ROWS, TensorProto.INT64, "R"),
        *attention_inputs(config),
    ]


def _outputs(config: Config) -> list[ValueInfoProto]:
    return [
        _value(contract.GRAPH_TOP_LOGITS, TensorProto.FLOAT, "R", num_candidates(config)),
        _value(contract.GRAPH_TOP_TOKENS, TensorProto.INT64, "R", num_candidates(config)),
        _value(contract.GRAPH_LSE, TensorProto.FLOAT, "R"),
        _value(contract.GRAPH_LOGITS, TensorProto.FLOAT, "R", config.vocab_size),
        *attention_outputs(config),
    ]


def _value(name: str, dtype: int, *axes: str | int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, axes)
