"""The TensorRT dialect of a checkpoint, ready to be compared."""

import dataclasses
from pathlib import Path

from export.artifact import write_artifact
from export.checkpoint import Checkpoint
from export.dialect import build_dialect
from export.dialect_runner import DialectRunner
from export.model_file import Model, write_model
from nanotriton.manifest import Manifest

TEXT = "".join(map(chr, range(32, 127))) * 6
DTYPES = {False: "float32", True: "float16"}


def runner_of(
    checkpoint: Checkpoint, folder: Path, half: bool = False, model: Model | None = None
) -> DialectRunner:
    """The static form of a checkpoint (or `model`), as parity runs it."""
    write_artifact(checkpoint, folder, "pytest")  # for its manifest
    write_model(model or build_dialect(checkpoint, half=half, kv="static"), folder)
    manifest = dataclasses.replace(Manifest.load(folder), kv_dtype=DTYPES[half])
    return DialectRunner(folder, manifest, num_slots=4, num_threads=1)
