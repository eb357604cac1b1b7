"""A float32 model.onnx in, the same with 8-bit linears out ("row8").

Every linear of the blocks and the head: signed 8-bit weights with one scale a column, unsigned
8-bit activations with one scale a ROW, computed at run time. So a row's result does not depend on
its batch mates, and no calibration is needed. Embeddings stay float32. What makes the activations
easy to round happens before, in `export.rotated`. Knows nothing of checkpoints.

Traps that this form avoids: signed activations are 15 to 20 times slower on AVX-512 VNNI, and
DynamicQuantizeLinear scales a whole tensor, so that rows depend on their neighbours.

A limit: on x86 without VNNI, ONNX Runtime's u8 x s8 kernel adds pairs in 16 bits and may saturate
(onnxruntime.ai, "Quantize ONNX models", reduce_range); run parity on such a machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.model_file import CONTRIB_DOMAIN, Model

LARGEST = 127  # of a signed 8-bit weight
# Below every activation that matters and above float32's subnormals: a row of zeros stays zero.
SMALLEST_AMAX = 1e-30
GELUS = {"BiasGelu", "FastGelu", "Gelu"}
GELU_OFFSET = 0.1701  # GELU's least value is -0.16997 by erf and -0.17004 by tanh


@dataclass(frozen=True, slots=True)
class _Activations:
    """How a linear's input becomes unsigned: x + `offset` lies in +-1 (or 0 to 1) times its row's
    largest, which `levels` steps divide, and `zero_point` stands for 0.
    """

    name: str
    offset: float
    levels: int
    zero_point: int


SIGNED = _Activations("signed", 0, 127, 128)
# GELU gives hardly any negative values: moved above zero they get twice the steps.
AFTER_GELU = _Activations("gelu", GELU_OFFSET, 255, 0)


def quantize_model(model: Model) -> Model:
    """Replace each product with a weight; the head becomes (H * D, V)."""
    gelus = {node.output[0] for node in model.nodes if node.op_type in GELUS}
    nodes: list[NodeProto] = []
    weights = _constants()
    for node in model.nodes:
        is_head = node.op_type == "Gemm"
        if not is_head and (node.op_type != "MatMul" or node.input[1] not in model.weights):
            nodes.append(node)
            continue
        name = node.input[1].removesuffix(".weight")
        weight = model.weights[node.input[1]]
        linear = _Linear(name, AFTER_GELU if node.input[0] in gelus else SIGNED)
        weights |= linear.quantize(weight.T if is_head else weight)
        bias = list(node.input[2:])  # a head behind a norm with bias, see export.rotated
        nodes += linear.nodes(node.input[0], node.output[0], bias)
    used = {name for node in nodes for name in node.input}
    kept = {name: model.weights[name] for name in model.weights if name in used}
    return Model(nodes, model.inputs, model.outputs, kept | weights)


def _constants() -> dict[str, NDArray[Any]]:
    constants: dict[str, NDArray[Any]] = {
        "row8.smallest": np.array(SMALLEST_AMAX, np.float32),
        "row8.axis": np.array([-1], np.int64),
    }
    for kind in (SIGNED, AFTER_GELU):
        constants[f"{kind.name}.offset"] = np.array(kind.offset, np.float32)
        constants[f"{kind.name}.scale"] = np.array(1 / kind.levels, np.float32)
        constants[f"{kind.name}.zero_point"] = np.array(kind.zero_point, np.uint8)
    return constants


@dataclass(frozen=True, slots=True)
class _Linear:
    """One product with a weight, in 8 bits."""

    name: str
    kind: _Activations

    def quantize(self, weight: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """(in, out) float32 to int8 and (out,) scales; symmetric, rounded to nearest."""
        amax = np.abs(weight).max(axis=0)  # (out,)
        scale = np.where(amax > 0, amax / LARGEST, 1).astype(np.float32)
        rounded = np.rint(weight / scale).astype(np.int8)
        quantized = {f"{self.name}.weight_int8": rounded, f"{self.name}.weight_scale": scale}
        if self.kind.offset:  # (x + offset) W, less offset W
            sums = rounded.sum(axis=0, dtype=np.int64)
            moved = (-self.kind.offset * sums * scale).astype(np.float32)
            quantized[f"{self.name}.moved"] = moved
        return quantized

    def nodes(self, x: str, y: str, bias: Sequence[str]) -> list[NodeProto]:
        """y = x @ weight + bias: a row is divided by its largest value, so one scale serves all."""
        made: list[NodeProto] = []

        def node(op: str, *inputs: str, domain: str = "") -> str:
            output = f"{self.name}.row8_{len(made)}"
            made.append(helper.make_node(op, inputs, [output], name=output, domain=domain))
            return output

        kind = self.kind.name
        if self.kind.offset:
            x = node("Add", x, f"{kind}.offset")
        size = x if self.kind.offset else node("Abs", x)
        largest = node("Max", node("ReduceMax", size, "row8.axis"), "row8.smallest")  # (..., 1)
        scale, zero_point = f"{kind}.scale", f"{kind}.zero_point"
        product = node(
            "MatMulIntegerToFloat",
            node("QuantizeLinear", node("Div", x, largest), scale, zero_point),
            f"{self.name}.weight_int8",
            scale,
            f"{self.name}.weight_scale",
            zero_point,
            domain=CONTRIB_DOMAIN,
        )
        result = node("Mul", product, largest)
        for added in (*([f"{self.name}.moved"] if self.kind.offset else []), *bias):
            result = node("Add", result, added)
        made[-1].output[0] = y
        return made
