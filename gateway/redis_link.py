"""The one door to Redis: a call and what to answer without Redis come in, an answer goes out, soon.

While Redis is gone every call has its default at once; one call in RETRY_S tries again, so that
Redis is used again by itself once it is back. Knows nothing of limits or caches.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

T = TypeVar("T")
RETRY_S = 2.0
MAX_CALLS = 64  # at once, each on a connection of its own; more wait for their turn
_log = structlog.get_logger(__name__)


class RedisLink:
    """Redis at `url`, or the default instead; to be made within its event loop.

    A call has `timeout_s` for all that it asks of Redis. `clock` counts seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self.client: Redis = Redis(connection_pool=self._pool)
        self.is_up = True
        self._timeout_s = timeout_s
        self._clock = clock
        self._retry_at = 0.0
        self._turns = asyncio.Semaphore(MAX_CALLS)

    async def run(self, call: Callable[[Redis], Awaitable[T]], default: T) -> T:
        """What `call` answers, or `default` when Redis is down, slow or refuses.

        An error that isn't of Redis is the call's own and comes through.
        """
        async with self._turns:
            if not self._may_try():
                return default
            try:
                answer = await asyncio.wait_for(call(self.client), self._timeout_s)
            except (RedisError, OSError, asyncio.TimeoutError) as error:
                self._mark_down(error)
                return default
            self._mark_up()
            return answer

    async def close(self) -> None:
        """Drop the connections."""
        await self.client.aclose()
        await self._pool.disconnect()

    def _may_try(self) -> bool:
        """While Redis is down, one call in RETRY_S finds out whether it is back."""
        if self.is_up:
            return True
        is_time = self._clock() >= self._retry_at
        if is_time:
            self._retry_at = self._clock() + RETRY_S
        return is_time

    def _mark_down(self, error: Exception) -> None:
        self._retry_at = self._clock() + RETRY_S
        if self.is_up:
            self.is_up = False
            _log.warning("redis_down", error=type(error).__name__, retry_s=RETRY_S)

    def _mark_up(self) -> None:
        if not self.is_up:
            self.is_up = True
            _log.info("redis_up")
