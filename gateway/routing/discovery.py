"""What each backend serves, asked of itself again and again, for the routes to learn.

Comes in: the routes and a client for each backend. Goes out: Told, of the version that Triton
answers with (the highest one loaded, over gRPC) and, of a backend whose metrics page the routes
name, its precision. What doesn't answer stays as it was known. A version
that is loaded is known ASK_S later; until then accounts and caches name the one before.
"""

import asyncio
import re
from collections.abc import Callable, Iterator

import httpx

from clients import AsyncCompletionClient, ClientError
from gateway.routing.document import Backend, Told
from gateway.routing.routes import Routes

ASK_S = 5.0
TIMEOUT_S = 2.0
MAX_PAGE_BYTES = 4 << 20
_INFO = re.compile(r"^nanotriton_model_info\{(.*)\} 1(?:\.0)?$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"\\]*)"')


class Discovery:
    """Asks every backend of the routes; `client_of` gives the client that its requests use."""

    def __init__(
        self, routes: Routes, client_of: Callable[[Backend], AsyncCompletionClient]
    ) -> None:
        self._routes = routes
        self._client_of = client_of

    async def watch(self) -> None:
        """Ask all of them ASK_S from now and then as often, until cancelled."""
        while True:
            await asyncio.sleep(ASK_S)
            await self.ask_all()

    async def ask_all(self) -> None:
        """Ask all of them once, at the same time."""
        await asyncio.gather(*(self._learn(one) for one in self._routes.backends()))

    async def _learn(self, backend: Backend) -> None:
        try:
            told = await ask(backend, self._client_of(backend))
        except ClientError:
            return  # it is away: the breaker's matter
        known = self._routes.told_by(backend)
        if told.precision or known is None or known.version != told.version:
            self._routes.learn(backend, told)


async def ask(backend: Backend, client: AsyncCompletionClient) -> Told:
    """What a backend tells of itself; ClientError when it doesn't answer."""
    info = await client.describe(timeout_s=TIMEOUT_S)
    version = info.versions[-1] if info.versions else ""
    facts = await _facts(backend.metrics, version) if backend.metrics else {}
    return Told(version, facts.get("precision", ""))


async def _facts(address: str, version: str) -> dict[str, str]:
    """The labels of a version on a metrics page; none when there is no such page."""
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            page = await asyncio.wait_for(_page(client, f"http://{address}/metrics"), TIMEOUT_S)
    except (httpx.HTTPError, asyncio.TimeoutError):
        return {}
    return next((one for one in models_on(page) if one.get("version") == version), {})


async def _page(client: httpx.AsyncClient, url: str) -> str:
    async with client.stream("GET", url) as response:
        data = bytearray()
        async for part in response.aiter_bytes():
            data += part
            if len(data) > MAX_PAGE_BYTES:
                break
    return data.decode(errors="replace")


def models_on(page: str) -> Iterator[dict[str, str]]:
    """The labels of each `nanotriton_model_info` of a metrics page."""
    return (dict(_LABEL.findall(labels)) for labels in _INFO.findall(page))
