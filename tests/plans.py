"""TensorRT for tests: this machine's own, or the stand-in for it; and plans of a tiny model."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.artifact import write_artifact
from export.checkpoint import Checkpoint
from export.dialect import OPSET, build_dialect
from export.plan import PlanOptions, add_plan

STAND_IN = Path(__file__).parent / "runners" / "stand_in"
STAND_IN_MODULES = ("tensorrt", "cuda", "gpu_memory")
HAS_TENSORRT = importlib.util.find_spec("tensorrt") is not None
CHUNK = 16


@contextmanager
def stand_in() -> Iterator[None]:
    """`tensorrt`, `cuda` and nvidia-smi are the stand-in for a while, its memory still empty."""
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{STAND_IN / 'bin'}{os.pathsep}{path}"
    sys.path.insert(0, str(STAND_IN))
    try:
        yield
    finally:
        os.environ["PATH"] = path
        sys.path.remove(str(STAND_IN))
        for name in list(sys.modules):
            if name.split(".", 1)[0] in STAND_IN_MODULES:
                del sys.modules[name]


def write_plan_version(
    checkpoint: Checkpoint, folder: Path, precision: str = "fp16", max_batch: int = 4
) -> None:
    """An artifact of the runner trt, its plan built by the TensorRT that is there."""
    is_half = precision == "fp16"
    write_artifact(
        checkpoint,
        folder,
        "pytest",
        build_dialect(checkpoint, half=is_half, kv="static"),
        precision=precision,
        runner="trt",
        opset=OPSET,
        kv_dtype="float16" if is_half else "float32",
    )
    options = PlanOptions(max_batch, CHUNK, "tensorrt", capability=None, workspace_mb=None)
    add_plan(folder, options, lambda _: None)
