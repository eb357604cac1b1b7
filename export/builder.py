"""A graph of the TensorRT dialect in, a serialized plan out, by TensorRT or by TensorRT-RTX.

One path for both and for every version from 10 on: a strongly typed network, whose types the graph
says. TensorRT builds for the GPU of the machine. TensorRT-RTX builds without one for what it is
told, which shows that the graph is taken; its plans are never served. Knows nothing of checkpoints,
manifests or repositories.
"""

import functools
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from nanotriton.errors import ArtifactError

BuilderName = Literal["tensorrt", "rtx"]
MODULES: dict[BuilderName, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
INSTALL: dict[BuilderName, str] = {
    "tensorrt": "pip install tensorrt-cu12, or build in NVIDIA's Triton or TensorRT image",
    "rtx": "pip install 'nanotriton[rtx]'",
}
PROGRESS_PERIOD_S = 2.0
MEGABYTE = 1 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Smallest, likeliest and largest shape of an input in a profile."""

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]


Profile = Mapping[str, Shapes]  # by the input's name


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build; `capability` is the GPU's, without a dot ("80")."""

    profiles: Sequence[Profile]
    capability: str
    workspace_mb: int | None
    timing_cache: Path


def open_builder(name: BuilderName) -> ModuleType:
    """TensorRT's module; raises ArtifactError with the command that installs it."""
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        raise ArtifactError(
            f"building a plan needs the package {MODULES[name]} ({error}): {INSTALL[name]}"
        ) from None


def build_plan(
    trt: ModuleType, graph: Path, options: BuildOptions, log: Path, progress: Progress
) -> Any:
    """Build, and return the plan's bytes as a buffer; everything TensorRT says goes to `log`.

    Raises ArtifactError with the first thing that TensorRT refused.
    """
    logger = _logger(trt)
    with log.open("w", encoding="utf-8") as file:
        logger.begin(file)
        try:
            return _build(trt, logger, graph, options, progress)
        finally:
            logger.end()


def _build(
    trt: ModuleType, logger: Any, graph: Path, options: BuildOptions, progress: Progress
) -> Any:
    builder = trt.Builder(logger)
    flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flag)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        said = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise _refusal(trt, f"doesn't read {graph.name}", said or logger.errors)
    config = builder.create_builder_config()
    _set_target(trt, config, options)
    for shapes in options.profiles:
        config.add_optimization_profile(_profile(builder, network, shapes))
    cache = _open_timing_cache(config, options.timing_cache)
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = _progress_monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refusal(trt, f"doesn't build {graph.name}", logger.errors)
    if cache is not None:
        options.timing_cache.write_bytes(memoryview(cache.serialize()))
    return plan


def _refusal(trt: ModuleType, what: str, said: Sequence[str]) -> ArtifactError:
    reason = said[0].strip().split("\n", 1)[0][:300] if said else "it said nothing more"
    return ArtifactError(f"{trt.__name__} {trt.__version__} {what}: {reason}")


def _set_target(trt: ModuleType, config: Any, options: BuildOptions) -> None:
    if options.workspace_mb is not None:
        size = options.workspace_mb * MEGABYTE
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    if not _is_ahead_of_time(config):
        return  # for the GPU of this machine
    known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    config.num_compute_capabilities = 1
    wanted = getattr(trt.ComputeCapability, f"SM{options.capability}", None)
    if wanted is None or not config.set_compute_capability(wanted, 0):
        raise ArtifactError(
            f"{trt.__name__} {trt.__version__} can't build for SM {options.capability}: it takes "
            f"{', '.join(name.removeprefix('SM') for name in known)}"
        )


def _profile(builder: Any, network: Any, shapes: Profile) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        name = network.get_input(index).name
        profile.set_shape(name, shapes[name].least, shapes[name].best, shapes[name].most)
    return profile


def _is_ahead_of_time(config: Any) -> bool:
    """Whether the builder times nothing and asks what to build for, as TensorRT-RTX does."""
    return hasattr(config, "num_compute_capabilities")


def _open_timing_cache(config: Any, path: Path) -> Any:
    """What earlier builds timed; an unreadable file counts as none."""
    if _is_ahead_of_time(config):
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None:
        cache = config.create_timing_cache(b"")
    return cache if cache is not None and config.set_timing_cache(cache, False) else None


@functools.cache
def _logger(trt: ModuleType) -> Any:
    """The one logger of this process, as TensorRT wants it; it writes while a build runs."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.file: Any = None
            self.errors: list[str] = []

        def begin(self, file: Any) -> None:
            self.file, self.errors = file, []

        def end(self) -> None:
            self.file = None

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)
            if self.file is not None and severity != trt.ILogger.Severity.VERBOSE:
                self.file.write(f"{str(severity).rpartition('.')[2]}: {message}\n")

    return Log()


def _progress_monitor(trt: ModuleType, progress: Progress) -> Any:
    """Says what the builder is at, at most once in a while."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._said_at = time.monotonic()

        def phase_start(self, phase: str, _parent: str | None, num_steps: int) -> None:
            self._steps[phase] = num_steps

        def step_complete(self, phase: str, step: int) -> bool:
            if (now := time.monotonic()) - self._said_at > PROGRESS_PERIOD_S:
                self._said_at = now
                progress(f"plan: {phase}, {step + 1} of {self._steps.get(phase, step + 1)}")
            return True

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()
