"""TensorRT for tests: this machine's own, or the stand-in for it; and plans of a tiny model."""

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from export.artifact import write_artifact
from export.checkpoint import Checkpoint
from export.dialect import build_dialect
from export.model_file import write_model
from nanotriton.contract import GRAPH_FILE, PLAN_FILE, Manifest, PlanTarget

STAND_IN = Path(__file__).parent / "runners" / "stand_in"
STAND_IN_MODULES = ("tensorrt", "cuda", "gpu_memory")
HAS_TENSORRT = importlib.util.find_spec("tensorrt") is not None


@contextmanager
def stand_in() -> Iterator[None]:
    """`tensorrt` and `cuda` are the stand-in for a while, with nothing in its memory yet."""
    sys.path.insert(0, str(STAND_IN))
    try:
        yield
    finally:
        sys.path.remove(str(STAND_IN))
        for name in list(sys.modules):
            if name.split(".", 1)[0] in STAND_IN_MODULES:
                del sys.modules[name]


def write_plan_version(
    checkpoint: Checkpoint, folder: Path, precision: str = "fp16", max_batch: int = 4
) -> None:
    """An exported version of the runner trt, as `python -m export plan` lays it out."""
    target = PlanTarget("10.15.1.29", "80", prefill_chunk=16, max_batch=max_batch)
    is_half = precision == "fp16"
    write_artifact(checkpoint, folder, "pytest")
    write_model(build_dialect(checkpoint, half=is_half, kv="static"), folder)
    model = onnx.load_model(folder / GRAPH_FILE)  # its weights with it
    trt = importlib.import_module("tensorrt")
    plan = trt.PlanBytes(profiles_of(model, target), model.SerializeToString())
    (folder / PLAN_FILE).write_bytes(plan.pack())
    dataclasses.replace(
        Manifest.load(folder),
        precision=precision,
        runner="trt",
        kv_dtype="float16" if is_half else "float32",
        plan=target,
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
