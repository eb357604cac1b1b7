"""Fixtures that several rooms share: the demo model exported, and real servers running it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import RunningServer, export_demo, start_server


@pytest.fixture(scope="session")
def demo_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the demo model in FP32 as version 1."""
    return export_demo(tmp_path_factory.mktemp("fp32"), "fp32")


@pytest.fixture(scope="session")
def server(
    demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server for tests that do it no harm."""
    running = start_server(demo_repository, tmp_path_factory.mktemp("server") / "log")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def fragile_server(
    demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server for tests that kill parts of it; each leaves it working."""
    running = start_server(demo_repository, tmp_path_factory.mktemp("fragile") / "log")
    yield running
    running.stop()


@pytest.fixture(scope="session", autouse=True)
def _no_server_left() -> Iterator[None]:
    """Every engine that a test started must be gone at the end."""
    yield
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    assert not [one for one in commands if b"nanotriton" in one]
