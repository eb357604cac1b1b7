"""A checkpoint and calibration text in, the TensorRT dialect with 8-bit linears out.

Both sides of a block's linears are signed 8-bit numbers without a zero point, as TensorRT wants
them: weights with a scale for each column, activations with one for the whole tensor, fixed ahead
by what calibration saw of it. QuantizeLinear and DequantizeLinear say so in the graph, and the
builder fuses them with the product. The head stays FP16. `export.smoothing` goes before. Knows
nothing of files or of TensorRT.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.architecture import is_linear
from export.caches import KvForm
from export.calibration import Rows, record_rows
from export.checkpoint import Checkpoint
from export.dialect import build_dialect
from export.graph import build_graph
from export.model_file import Model
from export.parity import Ids
from export.smoothing import smooth

LARGEST = 127
# The least scale: below it FP16 loses digits (its smallest normal number).
LEAST_SCALE = float(np.finfo(np.float16).tiny)
# A range may be cut by so much: the few beyond it are clipped, all others rounded better.
CUTS = np.linspace(1, 0.4, 13, dtype=np.float32)
MAX_ROWS = 1024  # that the cut is chosen by

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StaticInt8:
    """An evened-out checkpoint and, by a linear's name, one 8-bit step of its input."""

    checkpoint: Checkpoint
    scales: Mapping[str, float]

    @classmethod
    def calibrate(cls, checkpoint: Checkpoint, windows: Sequence[Ids]) -> "StaticInt8":
        """Record what enters the linears, smooth, and choose the scales."""
        with tempfile.TemporaryDirectory() as folder:
            rows = LinearInputs(checkpoint, windows, Path(folder))
            sizes = {name: np.abs(rows[name]).max(axis=0) for name in rows}
            smoothed = smooth(checkpoint, sizes)
            scales = {
                name: choose_scale(rows[name] / smoothed.factors.get(name, np.float32(1)))
                for name in rows
            }
        return cls(smoothed.checkpoint, scales)

    def build(self, kv: KvForm) -> Model:
        """The dialect in FP16, its linears in 8 bits."""
        return quantize_static(build_dialect(self.checkpoint, half=True, kv=kv), self.scales)


class LinearInputs(Mapping[str, Floats]):
    """By a linear's name what entered it, (N, in)."""

    def __init__(self, checkpoint: Checkpoint, windows: Sequence[Ids], folder: Path) -> None:
        model = build_graph(checkpoint)
        self._tensors = {
            node.input[1].removesuffix(".weight"): node.input[0]
            for node in model.nodes
            if node.op_type == "MatMul" and is_linear(node.input[1])
        }
        widths = {
            tensor: checkpoint.weights[f"{name}.weight"].shape[0]
            for name, tensor in self._tensors.items()
        }
        self._rows: Rows = record_rows(model, widths, windows, folder)

    def __getitem__(self, name: str) -> Floats:
        return self._rows[self._tensors[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def choose_scale(rows: Floats) -> float:
    """One step of 8 bits for (N, width) activations: the cut of their range that errs least."""
    sample = rows[:: -(-len(rows) // MAX_ROWS)]
    largest = float(np.abs(rows).max()) or 1.0
    errors = [float(np.square(_round(sample, largest * cut) - sample).mean()) for cut in CUTS]
    return largest * float(CUTS[int(np.argmin(errors))]) / LARGEST


def _round(x: Floats, largest: float) -> Floats:
    step = np.float32(largest / LARGEST)
    result: Floats = np.clip(np.rint(x / step), -LARGEST - 1, LARGEST) * step
    return result


def quantize_static(model: Model, scales: Mapping[str, float]) -> Model:
    """Replace each linear of a block; `scales` holds by its name one step of its input."""
    nodes: list[NodeProto] = []
    weights = dict(model.weights)
    for node in model.nodes:
        name = node.input[1].removesuffix(".weight") if len(node.input) > 1 else ""
        if node.op_type != "MatMul" or name not in scales:
            nodes.append(node)
            continue
        weights |= _quantize_weight(name, weights.pop(node.input[1]).astype(np.float32))
        step = np.array(max(scales[name], LEAST_SCALE), np.float16)
        weights |= {f"{name}.input_scale": step, f"{name}.input_zero": np.array(0, np.int8)}
        nodes += _product(node, name)
    return Model(nodes, model.inputs, model.outputs, weights, model.opset)


def _quantize_weight(name: str, weight: Floats) -> dict[str, NDArray[np.generic]]:
    """(in, out) to int8 with (out,) FP16 scales; rounded by the scales as FP16 has them."""
    scale = np.maximum(np.abs(weight).max(axis=0) / LARGEST, LEAST_SCALE).astype(np.float16)
    rounded = np.clip(np.rint(weight / scale.astype(np.float32)), -LARGEST, LARGEST)
    return {
        f"{name}.weight_int8": rounded.astype(np.int8),
        f"{name}.weight_scale": scale,
        f"{name}.weight_zero": np.zeros(len(scale), np.int8),
    }


def _product(node: NodeProto, name: str) -> list[NodeProto]:
    """The product of both sides in 8 bits, under the output of the one that it replaces."""
    scale = [f"{name}.input_scale", f"{name}.input_zero"]
    rounded, x, weight = (f"{name}.{what}" for what in ("input_int8", "input", "weight"))
    packed = [f"{name}.weight_int8", f"{name}.weight_scale", f"{name}.weight_zero"]
    return [
        helper.make_node("QuantizeLinear", [node.input[0], *scale], [rounded], name=rounded),
        helper.make_node("DequantizeLinear", [rounded, *scale], [x], name=x),
        helper.make_node("DequantizeLinear", packed, [weight], name=weight, axis=1),
        helper.make_node("MatMul", [x, weight], node.output, name=node.name),
    ]
