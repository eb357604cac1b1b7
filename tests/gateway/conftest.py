"""Fixtures of the gateway's tests: a real one in front of a real Triton."""

from collections.abc import Iterator

import pytest
from running import RunningServer

from tests.gateway.gateways import RunningGateway, running_gateway


@pytest.fixture(scope="session")
def gateway(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """An open gateway for tests that do it no harm."""
    with running_gateway(server, tmp_path_factory.mktemp("gateway")) as running:
        yield running
