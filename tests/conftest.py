"""Fixtures that several rooms share: the demo model exported, and real servers running it."""

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from plans import write_plan_version
from running import RunningServer, export_demo, start_server

from benchmarks.timing.collector import Collector
from export.artifact import QUANTIZED, quantize_artifact, write_artifact
from export.calibration import MIN_TOKENS, Calibration, default_text
from export.checkpoint import Checkpoint, load_checkpoint
from nanotriton.manifest import Manifest, newest_version

settings.register_profile("busy", deadline=None)  # others may keep the machine for a second
settings.load_profile("busy")

# Rooms whose tests talk to real servers by real clocks, on a machine that others keep busy.
REAL_TIME = (
    "server",
    "clients",
    "gateway",
    "monitoring",
    "benchmarks",
    "operations",
    "docker",
    "helm",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A real-time test that fails is run once more; the report counts it as rerun, not hidden."""
    for item in items:
        if item.path.parent.name in REAL_TIME:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def demo_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the demo model in FP32 as version 1."""
    return export_demo(tmp_path_factory.mktemp("fp32"), "fp32")


@pytest.fixture(scope="session")
def auto_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the demo model as two graphs, held to the usual tolerances."""
    return export_demo(tmp_path_factory.mktemp("auto"), "auto", "--tokens", "1024")


@pytest.fixture(scope="session")
def server(
    demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server for tests that do it no harm."""
    running = start_server(demo_repository, tmp_path_factory.mktemp("server") / "log")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """An OpenTelemetry collector; tests look for their own traces in it."""
    with Collector() as running:
        yield running


@pytest.fixture(scope="session")
def traced_server(
    collector: Collector, demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that traces every request."""
    log = tmp_path_factory.mktemp("traced") / "log"
    running = start_server(demo_repository, log, "--trace-url", collector.url)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def serve_as(
    request: pytest.FixtureRequest, demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[bool], RunningServer]]:
    """Servers whose manifest says that the model fills in the middle, or that it does not.

    Whatever the demo model was trained for: it has the tokens, and its text is not judged here.
    """
    manifest = Manifest.load(newest_version(demo_repository))
    other: list[RunningServer] = []

    def serve(infill: bool) -> RunningServer:
        if infill is manifest.infill:
            running: RunningServer = request.getfixturevalue("server")
            return running
        if not other:
            folder = tmp_path_factory.mktemp("infill")
            repository = Path(shutil.copytree(demo_repository, folder / "repository"))
            dataclasses.replace(manifest, infill=infill).save(newest_version(repository))
            other.append(start_server(repository, folder / "log"))
        return other[0]

    yield serve
    for running in other:
        running.stop()


@pytest.fixture(scope="module")
def fragile_server(
    demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server for tests that kill parts of it; each leaves it working."""
    running = start_server(demo_repository, tmp_path_factory.mktemp("fragile") / "log")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny nanoGPT checkpoint with its tokenizer beside it."""
    import torch  # noqa: PLC0415 (seconds, and most rooms do without)
    from tiny import random_gpt, state_of, write_ranks  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("checkpoint")
    torch.save(state_of(random_gpt()), folder / "ckpt.pt")
    write_ranks(folder / "tokenizer.tiktoken")
    return folder / "ckpt.pt"


@pytest.fixture(scope="session")
def checkpoint(checkpoint_file: Path) -> Checkpoint:
    """The tiny nanoGPT checkpoint, loaded."""
    return load_checkpoint(checkpoint_file)


@pytest.fixture(scope="session")
def artifact_of(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The tiny checkpoint's artifact of a precision; read only.

    "trt-fp16" is a plan, "fp32+kv8" has an int8 cache.
    """
    folders: dict[str, Path] = {}

    def make(precision: str) -> Path:
        if precision not in folders:
            folder = tmp_path_factory.mktemp(precision)
            if precision.startswith("trt-"):
                write_plan_version(checkpoint, folder, precision.removeprefix("trt-"))
            else:
                write_artifact(checkpoint, folder, "pytest")
            linears, _, cache = precision.partition("+")
            if cache:
                calibration = Calibration(default_text(), MIN_TOKENS, print)
                quantize_artifact(folder, linears, calibration, kv="int8")
            elif linears in QUANTIZED:
                quantize_artifact(folder, linears)
            folders[precision] = folder
        return folders[precision]

    return make


@pytest.fixture(scope="session")
def ids() -> np.ndarray:
    """64 token ids of the tiny checkpoint, a whole context."""
    return np.random.default_rng(3).integers(0, 283, 64)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of so many MB; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(megabytes: int, *options: str) -> Path:
        words = ",".join([f"size={megabytes}m", *options])
        command = ["mount", "-t", "tmpfs", "-o", words, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--recursive", str(folder)], check=True)


@pytest.fixture(scope="session", autouse=True)
def _no_server_left() -> Iterator[None]:
    """Every engine that a test started must be gone at the end."""
    yield
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    assert not [one for one in commands if b"nanotriton" in one]
