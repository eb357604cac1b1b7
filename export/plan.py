"""A checkpoint in, a folder with a TensorRT plan out: the dialect's graph, proved, then built.

The folder is an artifact like any other, for the runner "trt". Its graph travels with the plan, so
that a machine with another GPU or another TensorRT builds its own plan of the same folder. Plans
are kept in `plans/` under the SHA-256 of all that decides them. Knows nothing of repositories.
"""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

from export.artifact import hash_files, write_artifact
from export.builder import BuilderName, BuildOptions, build_plan, open_builder
from export.caches import KvForm
from export.calibration import Calibration, check_unseen
from export.checkpoint import Checkpoint
from export.dialect import OPSET, build_dialect
from export.dialect_runner import DialectRunner
from export.gate import Gate
from export.model_file import Model, write_model
from export.parity import Progress
from export.profiles import profiles_of
from export.static_int8 import StaticInt8
from nanotriton.contract import GRAPH_FILE, KV_LAYOUT, PLAN_FILE, WEIGHTS_FILE
from nanotriton.errors import ArtifactError
from nanotriton.manifest import Manifest, PlanTarget

PlanPrecision = Literal["fp32", "fp16", "int8-static"]
KV_LAYOUTS: dict[KvForm, str] = {"static": KV_LAYOUT, "concat": "B,H,P,D", "none": ""}
PLANS_FOLDER = "plans"
BUILD_LOG = "build.log"
NUM_SLOTS = 4  # that parity runs in
SCATTER_VERSION = (10, 15)  # of TensorRT, the first that writes a cache in place
CHECKED_CAPABILITY = "80"  # that TensorRT-RTX builds for unless told otherwise
CAPABILITY_COMMAND = ("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")


class Source(Protocol):
    """A model of one precision in every form."""

    def build(self, kv: KvForm) -> Model:
        """The dialect with its keys and values in this form."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """A checkpoint as it is, in FP16 or float32."""

    checkpoint: Checkpoint
    half: bool

    def build(self, kv: KvForm) -> Model:
        """The dialect of the checkpoint."""
        return build_dialect(self.checkpoint, half=self.half, kv=kv)


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """Which graph to write, and what holds it to its checkpoint."""

    precision: PlanPrecision
    kv: KvForm
    calibration: Calibration | None
    gate: Gate

    def __post_init__(self) -> None:
        assert (self.precision == "int8-static") == (self.calibration is not None), self.precision


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What to build for: sizes of the optimization profiles, the builder and the GPU."""

    max_batch: int
    chunk: int
    builder: BuilderName
    capability: str | None
    workspace_mb: int | None


def write_graph(checkpoint: Checkpoint, folder: Path, options: GraphOptions, command: str) -> None:
    """Write the artifact, still without a plan; raises ParityError when it isn't the checkpoint.

    Parity is that of the static form, whose weights and linears are those of the others.
    """
    form: dict[str, Any] = {
        "precision": options.precision,
        "runner": "trt",
        "opset": OPSET,
        "kv_dtype": "float32" if options.precision == "fp32" else "float16",
        "kv_layout": KV_LAYOUTS[options.kv],
    }
    source: Source = Plain(checkpoint, half=options.precision == "fp16")
    if options.calibration is not None:
        check_unseen(options.calibration.sha256, options.gate.text)
        windows = options.calibration.windows(checkpoint.vocabulary, checkpoint.config.context)
        source = StaticInt8.calibrate(checkpoint, windows)
        form["calibration_tokens"] = sum(map(len, windows))
        form["calibration_sha256"] = options.calibration.sha256
    write_artifact(checkpoint, folder, command, source.build(options.kv), **form)
    manifest = Manifest.load(folder)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        write_model(source.build("static"), Path(temporary))
        runner = DialectRunner(Path(temporary), manifest, NUM_SLOTS, options.gate.num_threads)
        figures = options.gate.hold(checkpoint, runner, options.precision)
    dataclasses.replace(manifest, parity=figures).save(folder)


def add_plan(folder: Path, options: PlanOptions, progress: Progress) -> None:
    """Build the plan of a folder that `write_graph` wrote, or take it from `folder`/plans."""
    manifest = Manifest.load(folder)
    if manifest.runner != "trt":
        raise ArtifactError(
            f"{folder} holds a model for the runner {manifest.runner!r}, whose operators TensorRT "
            "doesn't have: give the checkpoint instead"
        )
    trt = open_builder(options.builder)
    kv = next(form for form, layout in KV_LAYOUTS.items() if layout == manifest.kv_layout)
    _check_version(trt, options.builder, kv)
    chunk = min(options.chunk, manifest.context)
    target = PlanTarget(trt.__version__, _capability(options), chunk, options.max_batch)
    key = plan_key(manifest, target, options.builder)
    plan = folder / PLANS_FOLDER / f"{key}.plan"
    if plan.is_file():
        progress(f"plan: {plan.name} is there, built of the same graph by the same TensorRT")
    else:
        plan.parent.mkdir(exist_ok=True)
        build = BuildOptions(
            profiles_of(manifest, kv, options.max_batch, chunk),
            target.compute_capability,
            options.workspace_mb,
            plan.with_name(f"timing-{trt.__name__}-{trt.__version__}-{target.compute_capability}"),
        )
        built = build_plan(trt, folder / GRAPH_FILE, build, folder / BUILD_LOG, progress)
        temporary = plan.with_suffix(".tmp")
        temporary.write_bytes(memoryview(built))
        temporary.replace(plan)
    shutil.copyfile(plan, folder / PLAN_FILE)
    dataclasses.replace(manifest, plan=target, files=hash_files(folder)).save(folder)


def plan_key(manifest: Manifest, target: PlanTarget, builder: BuilderName) -> str:
    """SHA-256 of what decides a plan's bytes, but for chance."""
    model = [manifest.files.get(name, "") for name in (GRAPH_FILE, WEIGHTS_FILE)]
    decides = [model, manifest.precision, builder, dataclasses.asdict(target)]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _check_version(trt: ModuleType, builder: BuilderName, kv: KvForm) -> None:
    version = tuple(int(word) for word in trt.__version__.split(".")[:2])
    if builder == "tensorrt" and kv == "static" and version < SCATTER_VERSION:
        raise ArtifactError(
            f"TensorRT {trt.__version__} can't write a KV cache in place, 10.15 is the first that "
            "can: install a newer one, or give --kv concat"
        )


def _capability(options: PlanOptions) -> str:
    """Of the GPU that the plan is for; TensorRT builds for the one in this machine."""
    if options.builder == "rtx":
        return options.capability or CHECKED_CAPABILITY
    try:
        seen = subprocess.run(CAPABILITY_COMMAND, capture_output=True, text=True, check=True)
        found = seen.stdout.split()[0].replace(".", "")
    except (OSError, subprocess.CalledProcessError, IndexError):
        raise ArtifactError(
            "TensorRT builds for the GPU of this machine, and nvidia-smi names none: build where "
            "the model is to be served, or check the graph here with --builder rtx"
        ) from None
    if options.capability not in (None, found):
        raise ArtifactError(
            f"--sm {options.capability} is asked for, the GPU of this machine is SM {found}: "
            "TensorRT builds for that one alone, so leave --sm out"
        )
    return found
