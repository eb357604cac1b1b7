"""Fixtures of the clients' tests: the playback servers, and a driver for each way to ask them."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.clients.drivers import AsyncDriver, Driver, SyncDriver
from tests.clients.playback import Playback, Stage, serve


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with serve() as stage:
        yield stage


@pytest.fixture
def playback(stage: Stage) -> Playback:
    return stage.new_playback()


@pytest.fixture(params=["grpc", "http", "gateway"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[SyncDriver, AsyncDriver], ids=["sync", "async"])
def driver(request: pytest.FixtureRequest, playback: Playback, protocol: str) -> Driver:
    made: Driver = request.param(playback, protocol)
    return made


@pytest.fixture
def dead_url() -> str:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return f"localhost:{one.getsockname()[1]}"
