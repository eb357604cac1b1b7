"""The real engine process over the exported demo model."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from driving import EngineService, engine_service

from nanotriton.manifest import newest_version


@pytest.fixture(scope="session")
def engine_folder(demo_repository: Path) -> Path:
    """The exported version that engines run."""
    return newest_version(demo_repository)


@pytest.fixture(scope="module")
def service(engine_folder: Path) -> Iterator[EngineService]:
    """An engine for tests that do it no harm, with four slots."""
    with engine_service(engine_folder, "--max-slots", "4") as running:
        yield running


@pytest.fixture
def start_service(engine_folder: Path) -> Iterator[Callable[..., EngineService]]:
    """Starts engines of the test's own; takes the process's arguments."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(engine_service(engine_folder, *words))
