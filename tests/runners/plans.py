"""Plans for tests: a checkpoint's dialect graph as the stand-in's TensorRT would have built it."""

import dataclasses
from pathlib import Path

import onnx
from tensorrt.plan_bytes import PlanBytes

from export.artifact import write_artifact
from export.checkpoint import Checkpoint
from export.dialect import build_dialect
from export.model_file import write_model
from nanotriton.contract import GRAPH_FILE, PLAN_FILE, Manifest, PlanTarget

TARGET = PlanTarget("10.15.1.29", "80", prefill_chunk=16, max_batch=4)


def write_plan_version(checkpoint: Checkpoint, folder: Path, half: bool) -> None:
    """An exported version of the runner trt, as `python -m export plan` lays it out."""
    write_artifact(checkpoint, folder, "pytest")
    write_model(build_dialect(checkpoint, half=half, kv="static"), folder)
    model = onnx.load_model(folder / GRAPH_FILE)  # its weights with it
    plan = PlanBytes(profiles_of(model, TARGET), model.SerializeToString())
    (folder / PLAN_FILE).write_bytes(plan.pack())
    dataclasses.replace(
        Manifest.load(folder),
        precision="fp16" if half else "fp32",
        runner="trt",
        kv_dtype="float16" if half else "float32",
        plan=TARGET,
    ).save(folder)


def profiles_of(model: onnx.ModelProto, target: PlanTarget) -> list[dict[str, list[list[int]]]]:
    """The least, best and largest shapes of every input, for prefill and for decode."""
    prefill = {"B": 1, "T": target.prefill_chunk, "R": target.prefill_chunk}
    decode = {"B": target.max_batch, "T": 1, "R": target.max_batch}
    return [
        {one.name: [_shape(one, {}), _shape(one, sizes), _shape(one, sizes)] for one in inputs}
        for inputs, sizes in ((model.graph.input, prefill), (model.graph.input, decode))
    ]


def _shape(one: onnx.ValueInfoProto, sizes: dict[str, int]) -> list[int]:
    """Its axes, those with a name as `sizes` has it or 1."""
    return [
        axis.dim_value or sizes.get(axis.dim_param, 1) for axis in one.type.tensor_type.shape.dim
    ]
