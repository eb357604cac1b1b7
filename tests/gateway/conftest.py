"""Fixtures of the gateway's tests: real gateways, and both databases for their accounts."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from postgres import Postgres, start_postgres
from running import RunningServer

from gateway.insight.logs import configure_logs
from gateway.storage import Database
from tests.gateway.browser import Visit, running_browser, visiting
from tests.gateway.gateways import RunningGateway, running_gateway


@pytest.fixture(scope="session")
def gateway(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """An open gateway for tests that do it no harm."""
    with running_gateway(server, tmp_path_factory.mktemp("gateway"), "--open") as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for tests that do it no harm."""
    running = start_postgres()
    yield running
    running.remove()


@pytest.fixture
def fragile_postgres() -> Iterator[Postgres]:
    """A PostgreSQL for a test that kills it."""
    running = start_postgres()
    yield running
    running.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gateway.sqlite"
    return request.getfixturevalue("postgres").new_url()  # type: ignore[no-any-return]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An upgraded database, once of each kind."""
    opened = Database(database_url)
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged; the process's own handlers are back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium; not for modules that call asyncio.run."""
    with running_browser() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, gateway: RunningGateway) -> Iterator[Visit]:
    """The page of an open gateway, which has nothing to complain of."""
    with visiting(browser, gateway.url) as visit:
        yield visit
    assert visit.said == []
