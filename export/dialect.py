"""Checkpoint in, nodes and weights of the TensorRT dialect out: standard operators alone.

The same function as `export.graph`, in what TensorRT's parser reads and ONNX Runtime checks. Types
stand in the graph, as a strongly typed network wants them: in FP16 the norms and the logits are
float32, and a hidden key gets -1e4, which FP16 can say. Forms differ in where keys and values live
(`export.caches`); each takes any B and T. Knows nothing of files, of TensorRT or of text.

    static  the engine's: a cache of M positions, written in place; candidates of R rows
    concat  a function of a past of P tokens, batched on axis 0 as a plain `tensorrt_plan` must be;
            candidates at C positions of each row
    none    no past: what C given tokens of each row are worth, for the model `score`
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from export.architecture import EMBEDDING_WEIGHT, HEAD_WEIGHT, Config
from export.caches import (
    Cache,
    ConcatCache,
    KeysValues,
    KvForm,
    NoCache,
    StaticCache,
    declare,
)
from export.checkpoint import Checkpoint
from export.graph import num_candidates
from export.half import to_half
from export.model_file import Model
from export.operators import Operators
from nanotriton import contract

OPSET = 24  # the first with TensorScatter
HIDDEN = -1e4  # of a key that a query may not see: its share underflows to zero in FP16 too
GELUS = {"gelu_erf": "none", "gelu_tanh": "tanh"}
Dtype = type[np.float16] | type[np.float32]
CACHES: dict[KvForm, Callable[[Operators, Config, int], Cache]] = {
    "static": StaticCache,
    "concat": ConcatCache,
    "none": NoCache,
}


def build_dialect(checkpoint: Checkpoint, *, half: bool, kv: KvForm) -> Model:
    """The whole model in FP16 (`half`) or float32, its tied embedding stored once.

    Raises CheckpointError for a weight that FP16 can't hold.
    """
    return _Builder(checkpoint, np.float16 if half else np.float32, kv).build()


class _Builder:
    """Builds one graph; every method appends nodes and returns its output's name."""

    def __init__(self, checkpoint: Checkpoint, dtype: Dtype, kv: KvForm) -> None:
        self._config = checkpoint.config
        self._dtype = dtype
        self._onnx_dtype = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
        self._kv = kv
        weights = {name: _typed(name, w, dtype) for name, w in checkpoint.weights.items()}
        self._ops = Operators(weights)
        self._cache = CACHES[kv](self._ops, self._config, self._onnx_dtype)

    def build(self) -> Model:
        """Tokens to candidates, or to scores."""
        x = self._embed()
        mask = self._mask()
        for layer in range(self._config.num_layers):
            x = self._block(layer, x, mask)
        logits = self._logits(self._pick(self._norm(x, "ln_f")))
        outputs = self._scores(logits) if self._kv == "none" else self._candidates(logits)
        return Model(
            self._ops.nodes,
            self._inputs(),
            [*outputs, *self._cache.outputs()],
            self._ops.weights,
            OPSET,
        )

    def _embed(self) -> str:
        tokens = self._ops.node("Gather", EMBEDDING_WEIGHT, contract.GRAPH_INPUT_IDS)
        positions = self._ops.node("Gather", "wpe.weight", self._cache.positions)
        return self._ops.node("Add", tokens, positions)  # (B, T, H * D)

    def _mask(self) -> str:
        """What is added to a query's scores, (B, 1, T, M)."""
        zero, hidden = (self._ops.constant(value, self._dtype) for value in (0, HIDDEN))
        return self._ops.node("Where", self._cache.visible, zero, hidden)

    def _block(self, layer: int, x: str, mask: str) -> str:
        name = f"h.{layer}"
        attention = self._attend(layer, self._norm(x, f"{name}.ln_1"), mask)
        x = self._ops.node("Add", x, self._linear(attention, f"{name}.attn.c_proj"))
        hidden = self._linear(self._norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        hidden = self._ops.node("Gelu", hidden, approximate=GELUS[self._config.activation])
        return self._ops.node("Add", x, self._linear(hidden, f"{name}.mlp.c_proj"))

    def _attend(self, layer: int, x: str, mask: str) -> str:
        node = self._ops.node
        qkv = self._linear(x, f"h.{layer}.attn.c_attn")  # (B, T, 3 * H * D)
        packed = [f"{kind}_{layer}" for kind in ("query", "key", "value")]
        query, key, value = map(
            self._split_heads, self._ops.split("Split", [qkv], packed, axis=2, num_outputs=3)
        )  # (B, H, T, D)
        cache = self._cache.append(layer, KeysValues(key, value))  # (B, H, M, D)
        scale = self._ops.constant(self._config.head_dim**-0.5, self._dtype)
        keys = node("Transpose", cache.keys, perm=[0, 1, 3, 2])
        scores = node("MatMul", node("Mul", query, scale), keys)
        weights = node("Softmax", node("Add", scores, mask), axis=-1)  # (B, H, T, M)
        heads = node("Transpose", node("MatMul", weights, cache.values), perm=[0, 2, 1, 3])
        return node("Reshape", heads, self._ops.constant([0, 0, self._config.width]))

    def _split_heads(self, x: str) -> str:
        """(B, T, H * D) to (B, H, T, D)."""
        shape = self._ops.constant([0, 0, self._config.num_heads, self._config.head_dim])
        return self._ops.node("Transpose", self._ops.node("Reshape", x, shape), perm=[0, 2, 1, 3])

    def _linear(self, x: str, name: str) -> str:
        y = self._ops.node("MatMul", x, f"{name}.weight")
        bias = f"{name}.bias"
        return self._ops.node("Add", y, bias) if bias in self._ops.weights else y

    def _norm(self, x: str, name: str) -> str:
        """In float32: the square of an FP16 activation is easily an infinity."""
        bias = [f"{name}.bias"] if f"{name}.bias" in self._ops.weights else []
        y = self._ops.node(
            "LayerNormalization",
            self._cast(x, np.float32),
            f"{name}.weight",
            *bias,
            epsilon=self._config.epsilon,
        )
        return self._cast(y, self._dtype)

    def _cast(self, x: str, dtype: Dtype) -> str:
        if self._dtype is np.float32:
            return x
        to = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
        return self._ops.node("Cast", x, to=to)

    def _pick(self, x: str) -> str:
        """The rows that reach the head: (R, H * D), or (B, C, H * D)."""
        if self._kv == "static":
            flat = self._ops.node("Reshape", x, self._ops.constant([-1, self._config.width]))
            return self._ops.node("Gather", flat, contract.GRAPH_ROWS)
        places = self._ops.node("Unsqueeze", contract.GRAPH_PLACES, self._ops.constant([2]))
        return self._ops.node("GatherND", x, places, batch_dims=1)

    def _logits(self, rows: str) -> str:
        """(..., V) float32, of a product in the graph's own type."""
        weight = EMBEDDING_WEIGHT if HEAD_WEIGHT not in self._ops.weights else HEAD_WEIGHT
        turned = self._ops.node("Transpose", weight, perm=[1, 0])
        product = self._ops.node("MatMul", rows, turned)
        return self._ops.node("Cast", product, name=contract.GRAPH_LOGITS, to=TensorProto.FLOAT)

    def _candidates(self, logits: str) -> list[ValueInfoProto]:
        """The K best of each row, its log-sum-exp, and all of them."""
        rows = self._rows()
        config, best = self._config, num_candidates(self._config)
        names = [contract.GRAPH_TOP_LOGITS, contract.GRAPH_TOP_TOKENS]
        self._ops.split("TopK", [logits, self._ops.constant([best])], names)
        zero, one, last = (self._ops.constant([i]) for i in (0, 1, -1))
        largest = self._ops.node("Slice", names[0], zero, one, last)  # (..., 1)
        self._log_sum_exp(logits, largest, contract.GRAPH_LSE)
        return [
            declare(names[0], TensorProto.FLOAT, *rows, best),
            declare(names[1], TensorProto.INT64, *rows, best),
            declare(contract.GRAPH_LSE, TensorProto.FLOAT, *rows),
            declare(contract.GRAPH_LOGITS, TensorProto.FLOAT, *rows, config.vocab_size),
        ]

    def _scores(self, logits: str) -> list[ValueInfoProto]:
        """Of each given token its log-probability, and how many tokens are likelier."""
        node, last = self._ops.node, self._ops.constant([-1])
        none, zero = self._ops.constant(0), self._ops.constant(0, np.float32)
        is_given = node("GreaterOrEqual", contract.GRAPH_TARGETS, none)
        given = node("Where", is_given, contract.GRAPH_TARGETS, none)
        found = node("GatherElements", logits, node("Unsqueeze", given, last), axis=-1)
        lse = self._log_sum_exp(logits, node("ReduceMax", logits, last), contract.GRAPH_LSE)
        logprobs = node("Sub", node("Squeeze", found, last), lse)  # (B, C)
        node("Where", is_given, logprobs, zero, name=contract.GRAPH_LOGPROBS)
        node("ReduceSum", contract.GRAPH_LOGPROBS, last, name=contract.GRAPH_LOGPROB, keepdims=1)
        above = node("Cast", node("Greater", logits, found), to=TensorProto.FLOAT)
        count = node("Cast", node("ReduceSum", above, last, keepdims=0), to=TensorProto.INT64)
        node("Where", is_given, count, none, name=contract.GRAPH_RANKS)
        return [
            declare(contract.GRAPH_LOGPROBS, TensorProto.FLOAT, *self._rows()),
            declare(contract.GRAPH_RANKS, TensorProto.INT64, *self._rows()),
            declare(contract.GRAPH_LOGPROB, TensorProto.FLOAT, "B", 1),
        ]

    def _log_sum_exp(self, logits: str, largest: str, name: str) -> str:
        node, last = self._ops.node, self._ops.constant([-1])
        total = node("ReduceSum", node("Exp", node("Sub", logits, largest)), last, keepdims=1)
        return node("Squeeze", node("Add", largest, node("Log", total)), last, name=name)

    def _rows(self) -> tuple[str, ...]:
        """Axes of what the head is asked for."""
        return ("R",) if self._kv == "static" else ("B", "C")

    def _inputs(self) -> list[ValueInfoProto]:
        int64 = TensorProto.INT64
        inputs = [declare(contract.GRAPH_INPUT_IDS, int64, "B", "T"), *self._cache.inputs()]
        asked = contract.GRAPH_ROWS if self._kv == "static" else contract.GRAPH_PLACES
        inputs.append(declare(asked, int64, *self._rows()))
        if self._kv == "none":
            inputs.append(declare(contract.GRAPH_TARGETS, int64, *self._rows()))
        return inputs


def _typed(name: str, weight: NDArray[np.float32], dtype: Dtype) -> NDArray[np.generic]:
    """A weight in the graph's type; norms stay float32."""
    if name.rpartition(".")[0].endswith(("ln_1", "ln_2", "ln_f")):
        return weight
    return to_half(name, weight) if dtype is np.float16 else weight
