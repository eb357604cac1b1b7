"""A server tells which version it serves and what that is, to the gateway too."""

import asyncio

import pytest
from running import RunningServer

from clients import AsyncCompletionClient, CompletionClient, ServerInfo, Unavailable
from gateway.routing.discovery import Discovery
from gateway.routing.document import Backend, Document
from gateway.routing.routes import Routes
from nanotriton.manifest import Manifest, newest_version


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_server_tells_its_loaded_versions(server: RunningServer, protocol: str) -> None:
    async def ask() -> ServerInfo:
        async with AsyncCompletionClient(client.url, protocol) as other:  # type: ignore[arg-type]
            return await other.describe()

    with server.client(protocol) as client:
        assert client.describe() == asyncio.run(ask()) == ServerInfo("gpt", ("1",))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_server_that_is_gone_tells_nothing(protocol: str) -> None:
    with (
        CompletionClient("localhost:1", protocol) as client,  # type: ignore[arg-type]
        pytest.raises(Unavailable),
    ):
        client.describe()


def test_gateway_learns_what_a_backend_serves(server: RunningServer) -> None:
    metrics = f"localhost:{server.metrics_port}"
    away = Backend("away", "localhost:1", 0, metrics="localhost:1")
    routes = Routes(
        Document((Backend("stable", f"localhost:{server.grpc_port}", metrics=metrics), away))
    )

    async def learn() -> None:
        clients = {one.name: AsyncCompletionClient(one.url) for one in routes.backends()}
        await Discovery(routes, lambda one: clients[one.name]).ask_all()
        for one in clients.values():
            await one.close()

    asyncio.run(learn())
    manifest = Manifest.load(newest_version(server.repository))
    stable = routes.backends()[0]
    told = routes.told_by(stable)
    assert (stable.version, stable.precision) == ("1", manifest.precision)
    assert told is not None
    assert routes.told_by(away) is None
