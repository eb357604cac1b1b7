"""Whether the backends complete: one real token each, asked again when the answer is old.

Comes in: backends. Goes out: what is wrong with each, if anything. Triton's own health answers stay
good when a model's process is dead, so they aren't asked. Knows nothing of HTTP.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from clients import ClientError
from gateway.stages import Backend, Routes
from gateway.upstream import Upstream, gateway_error

TIMEOUT_S = 5.0


class Canary:
    """However many ask at once, each backend is asked once in `ttl_s`."""

    def __init__(
        self,
        upstream: Upstream,
        routes: Routes,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._routes = routes
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked: float | None = None
        self._seen: dict[str, str | None] = {}

    async def check(self) -> Mapping[str, str | None]:
        """By the backend's name: None when it completes, else a sentence."""
        async with self._lock:
            if self._asked is None or self._clock() - self._asked >= self._ttl_s:
                backends = self._routes.backends()
                found = await asyncio.gather(*(self._check(one) for one in backends))
                self._seen = {one.name: what for one, what in zip(backends, found, strict=True)}
                self._asked = self._clock()
            return self._seen

    async def _check(self, backend: Backend) -> str | None:
        try:
            await self._upstream.check(backend, TIMEOUT_S)
        except ClientError as error:
            return gateway_error(error).message
        return None
