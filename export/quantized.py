"""A float32 model.onnx in, the same with 8-bit linears out ("row8").

Every linear of the blocks and the head: signed 8-bit weights with one scale a column, unsigned
8-bit activations, computed at run time. So a row's result does not depend on its batch mates, and
no calibration is needed. Embeddings have 8 bits, and a tied head reads the same array
(`export.embeddings`). Knows nothing of checkpoints.

Activations have one scale a ROW, but behind a norm all rows have the same: a row that leaves
LayerNorm has the length sqrt(H * D), and the turn of `export.rotated` spreads it over all channels,
whatever the model. They are then close to normal, with deviation 1, and the nodes that find a
row's scale and undo it fall away (docs/ENGINE_SPEED.md has what that brings).

Traps that this form avoids: signed activations are 15 to 20 times slower on AVX-512 VNNI, and
DynamicQuantizeLinear scales a whole tensor, so that rows depend on their neighbours.

A limit: on x86 without VNNI, ONNX Runtime's u8 x s8 kernel adds pairs in 16 bits and may saturate
(onnxruntime.ai, "Quantize ONNX models", reduce_range); run parity on such a machine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.embeddings import Part, quantize_tables, signed_head
from export.model_file import CONTRIB_DOMAIN, Model

LARGEST = 127  # of a signed 8-bit weight
# Below every activation that matters and above float32's subnormals: a row of zeros stays zero.
SMALLEST_AMAX = 1e-30
GELUS = {"FastGelu", "Gelu"}
GELU_OFFSET = 0.1701  # GELU's least value is -0.16997 by erf and -0.17004 by tanh
# Of the values that leave a norm: what is beyond is cut, 6 of 100,000 if they are normal. Measured
# on the demo (8,192 tokens), mean KL by range: 3.5 1.52e-3, 4 1.49e-3, 4.5 1.69e-3, 6 2.46e-3.
NORM_RANGE = 4

_AddNode = Callable[..., str]  # appends a node, returns its output


@dataclass(frozen=True, slots=True)
class _Activations:
    """How a linear's input becomes unsigned: x + `offset` lies in +-1 (or 0 to 1) times `range`,
    or times its row's largest if there is none; 1 is `levels` steps, and `zero_point` stands for 0.
    """

    name: str
    offset: float
    levels: int
    zero_point: int
    range: float | None = None


SIGNED = _Activations("signed", 0, 127, 128)
# GELU gives hardly any negative values: moved above zero they get twice the steps.
AFTER_GELU = _Activations("gelu", GELU_OFFSET, 255, 0)
AFTER_NORM = _Activations("norm", 0, 127, 128, NORM_RANGE)


def quantize_model(model: Model) -> Model:
    """Replace each product with a weight, and its bias, and the embeddings."""
    model = quantize_tables(model)
    made_by = {node.output[0]: node for node in model.nodes}
    nodes: list[NodeProto] = []
    weights: dict[str, NDArray[Any]] = {}
    rest = iter(model.nodes)
    for node in rest:
        is_head = node.op_type == "Gemm"
        if not is_head and (node.op_type != "MatMul" or node.input[1] not in model.weights):
            nodes.append(node)
            continue
        name = node.input[1].removesuffix(".weight")
        weight, y = model.weights[node.input[1]], node.output[0]
        bias: list[str] = []
        if not is_head and f"{name}.bias" in model.weights:
            added = next(rest)  # behind its product
            assert list(added.input) == [y, f"{name}.bias"], added
            bias, y = [f"{name}.bias"], added.output[0]
        linear = _Linear(
            name,
            _activations(made_by.get(node.input[0]), model.weights),
            signed_head(node.input[1], len(weight)) if is_head else None,
        )
        added_weights = linear.quantize(weight)
        if bias and linear.moved in added_weights:
            added_weights[linear.moved] += model.weights[bias.pop()]
        weights |= added_weights
        nodes += linear.nodes(node.input[0], y, bias)
    weights |= _constants()
    used = {name for node in nodes for name in node.input}
    kept = {name: model.weights[name] for name in model.weights if name in used - weights.keys()}
    made = {name: weight for name, weight in weights.items() if name in used}
    return Model(nodes, model.inputs, model.outputs, kept | made)


def _activations(maker: NodeProto | None, weights: Mapping[str, NDArray[Any]]) -> _Activations:
    """By the node whose output they are."""
    if maker is None:
        return SIGNED
    if maker.op_type in GELUS:
        return AFTER_GELU
    # Gain and bias of a norm have moved into the linear, or its values are of any size.
    if maker.op_type == "LayerNormalization" and (
        (weights[maker.input[1]] == 1).all()
        and not any(weights[name].any() for name in maker.input[2:])
    ):
        return AFTER_NORM
    return SIGNED


def _constants() -> dict[str, NDArray[Any]]:
    constants: dict[str, NDArray[Any]] = {
        "row8.smallest": np.array(SMALLEST_AMAX, np.float32),
        "row8.axis": np.array([-1], np.int64),
    }
    for kind in (SIGNED, AFTER_GELU, AFTER_NORM):
        constants[f"{kind.name}.offset"] = np.array(kind.offset, np.float32)
        constants[f"{kind.name}.scale"] = np.array((kind.range or 1) / kind.levels, np.float32)
        constants[f"{kind.name}.zero_point"] = np.array(kind.zero_point, np.uint8)
    return constants


@dataclass(frozen=True, slots=True)
class _Linear:
    """One product with a weight, in 8 bits; the head's is a table."""

    name: str
    kind: _Activations
    head: Part | None = None

    @property
    def moved(self) -> str:
        """The vector that undoes the activations' offset."""
        return f"{self.name}.moved"

    def quantize(self, weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """(in, out) float32 to int8 and (out,) scales; symmetric, rounded to nearest."""
        if self.head is not None:
            return self.head.weights
        amax = np.abs(weight).max(axis=0)  # (out,)
        scale = np.where(amax > 0, amax / LARGEST, 1).astype(np.float32)
        rounded = np.rint(weight / scale).astype(np.int8)
        quantized = {f"{self.name}.weight_int8": rounded, f"{self.name}.weight_scale": scale}
        if self.kind.offset:  # (x + offset) W, less offset W
            sums = rounded.sum(axis=0, dtype=np.int64)
            quantized[self.moved] = (-self.kind.offset * sums * scale).astype(np.float32)
        return quantized

    def nodes(self, x: str, y: str, bias: Sequence[str]) -> list[NodeProto]:
        """y = x @ weight + bias; the bias of moved activations is in `moved` already."""
        made = [*self.head.nodes] if self.head is not None else []

        def node(op: str, *inputs: str, domain: str = "", **attributes: int) -> str:
            output = f"{self.name}.row8_{len(made)}"
            new = helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)
            made.append(new)
            return output

        if self.kind.range:
            self._product(node, x, bias)
        else:
            self._product_of_rows(node, x, [self.moved] if self.kind.offset else bias)
        made[-1].output[0] = y
        return made

    def _product_of_rows(self, node: _AddNode, x: str, bias: Sequence[str]) -> None:
        """A row is divided by its largest value, so one scale serves all."""
        if self.kind.offset:
            x = node("Add", x, f"{self.kind.name}.offset")
        size = x if self.kind.offset else node("Abs", x)
        largest = node("Max", node("ReduceMax", size, "row8.axis"), "row8.smallest")  # (..., 1)
        result = node("Mul", self._product(node, node("Div", x, largest)), largest)
        for added in bias:
            result = node("Add", result, added)

    def _product(self, node: _AddNode, x: str, bias: Sequence[str] = ()) -> str:
        scale, zero_point = f"{self.kind.name}.scale", f"{self.kind.name}.zero_point"
        if self.head is not None:  # whose rows are the columns of the product
            rounded = [node("QuantizeLinear", x, scale, zero_point), scale, zero_point]
            weight = ["head.signed", "head.scales", "head.zero_points"]
            return node("QGemm", *rounded, *weight, domain=CONTRIB_DOMAIN, transB=1)
        return node(
            "MatMulIntegerToFloat",
            node("QuantizeLinear", x, scale, zero_point),
            f"{self.name}.weight_int8",
            scale,
            f"{self.name}.weight_scale",
            zero_point,
            *(["", *bias] if bias else []),  # "": the weight's zero point
            domain=CONTRIB_DOMAIN,
        )
