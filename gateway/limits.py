"""Limits of each key on requests and tokens a minute: a caller and an amount in, an Allowance out.

A request reserves its prompt's and its longest answer's tokens before it runs and settles what it
used afterwards, so that many at once can't spend the same tokens. The counts are the library's
sliding window counters (gateway/windows.py). Next to a token bucket that holds a minute's tokens
and refills evenly:

- both let a rested key use its whole limit at once, and at most twice the limit in any 60 s;
- what the requests admitted within one of the counter's minutes use is at most the limit, beyond
  it only what requests used more than they reserved, which later ones then wait for;
- unused tokens are given back within the minute that they were reserved in; after it they fade.

Gateways that share a Redis share the counts. While Redis is gone each gateway counts for itself,
from zero, so that a key may use its limit at every gateway. Knows nothing of HTTP but the names of
its headers.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from limits.aio.storage import MemoryStorage, RedisStorage

from gateway.errors import RateLimited
from gateway.messages import Caller, KeyLimits
from gateway.redis_link import RedisLink
from gateway.windows import Reading, Windows

Kind = Literal["requests", "tokens"]
SAME_WINDOW_S = 1.0  # how far two readings of one minute's end may lie apart


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit of a key: a minute's, what is left of it, seconds until all of it is free."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a request was let through with; a kind without a limit has no quota.

    The rest says what `settle` corrects: the tokens reserved under `name` in the minute of
    `windows` that ends at `window_ends` by the limiter's clock.
    """

    quotas: Mapping[Kind, Quota]
    windows: Windows
    name: str = ""
    reserved_tokens: int = 0
    window_ends: float = 0.0

    def headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit-* headers, durations as in 12.5s."""
        return _headers(self.quotas)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a request asks of one limit of its key."""

    kind: Kind
    key_id: str
    amount: int
    limit: int

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.key_id}"


class RateLimiter:
    """Admits requests by their key's limits, where a key has none of its own by `defaults`.

    A limit of 0 admits nothing, None anything. Without a `link` this process counts for itself.
    """

    def __init__(
        self,
        defaults: KeyLimits,
        link: RedisLink | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._defaults = defaults
        self._link = link
        self._clock = clock
        self._local = Windows(MemoryStorage())
        self._shared = Windows(_redis_storage(link)) if link else self._local

    async def take(self, caller: Caller, tokens: int) -> Allowance:
        """Count a request and reserve its tokens; raises RateLimited, and then nothing counts."""
        demands = self._demands(caller, tokens)
        taken = None
        if self._link:
            taken = await self._link.run(lambda _: self._take(self._shared, demands), None)
        taken = taken or await self._take(self._local, demands)
        if isinstance(taken, RateLimited):
            raise taken
        return taken

    async def settle(self, allowance: Allowance, used_tokens: int) -> None:
        """Count what a request used instead of what it reserved."""
        surplus = used_tokens - allowance.reserved_tokens
        if "tokens" not in allowance.quotas or not surplus:
            return
        if self._link and allowance.windows is self._shared:
            await self._link.run(lambda _: self._settle(allowance, surplus), None)
        else:
            await self._settle(allowance, surplus)

    def _demands(self, caller: Caller, tokens: int) -> list[_Demand]:
        own, defaults = caller.limits, self._defaults
        asked: tuple[tuple[Kind, int, int | None, int | None], ...] = (
            ("requests", 1, own.requests_per_minute, defaults.requests_per_minute),
            ("tokens", tokens, own.tokens_per_minute, defaults.tokens_per_minute),
        )
        return [
            _Demand(kind, caller.key_id, amount, limit)
            for kind, amount, of_key, default in asked
            if (limit := default if of_key is None else of_key) is not None
        ]

    async def _take(self, windows: Windows, demands: list[_Demand]) -> Allowance | RateLimited:
        """A refusal is returned: raised, it would look like a call that never asked Redis."""
        refused = await _first_refused(windows, demands)
        readings = {one.kind: await windows.read(one.name) for one in demands}
        quotas = {one.kind: _quota(one.limit, readings[one.kind]) for one in demands}
        if refused:
            return _refusal(refused, readings[refused.kind], _headers(quotas))
        if "tokens" not in quotas:
            return Allowance(quotas, windows)
        spent = next(one for one in demands if one.kind == "tokens")
        window_ends = self._clock() + readings["tokens"].left_s
        return Allowance(quotas, windows, spent.name, spent.amount, window_ends)

    async def _settle(self, allowance: Allowance, surplus: int) -> None:
        if surplus < 0:
            reading = await allowance.windows.read(allowance.name)
            if abs(self._clock() + reading.left_s - allowance.window_ends) > SAME_WINDOW_S:
                return  # this minute's count never had them
        await allowance.windows.add(allowance.name, surplus)


async def _first_refused(windows: Windows, demands: list[_Demand]) -> _Demand | None:
    """Count all demands, or none and say which one doesn't fit."""
    for index, one in enumerate(demands):
        if not await windows.add(one.name, one.amount, one.limit):
            for earlier in demands[:index]:
                await windows.add(earlier.name, -earlier.amount)
            return one
    return None


def _quota(limit: int, reading: Reading) -> Quota:
    return Quota(limit, max(0, limit - reading.used), reading.reset_s)


def _headers(quotas: Mapping[Kind, Quota]) -> dict[str, str]:
    headers = {}
    for kind, quota in quotas.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(quota.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(quota.remaining)
        headers[f"x-ratelimit-reset-{kind}"] = f"{quota.reset_s:.3f}s"
    return headers


def _refusal(refused: _Demand, reading: Reading, headers: Mapping[str, str]) -> RateLimited:
    wait_s = reading.wait_s(refused.amount, refused.limit)
    left = max(0, refused.limit - reading.used)
    if refused.kind == "requests":
        seen = f"the key has {left} of {refused.limit} requests a minute left"
        mend = "ask for a higher limit"
    else:
        seen = (
            f"the request may take {refused.amount} tokens, prompt and max_tokens together, "
            f"and the key has {left} of {refused.limit} a minute left"
        )
        mend = "lower max_tokens or shorten the prompt"
    if wait_s is not None:
        mend = f"try again in {math.ceil(wait_s)} s"
    return RateLimited(
        f"{seen}: {mend}",
        code=f"{refused.kind}_per_minute",
        retry_after_s=wait_s,
        headers=headers,
    )


def _redis_storage(link: RedisLink) -> RedisStorage:
    """The library's storage over the link's own connections, so that their timeouts hold."""
    pool: Any = link.client.connection_pool
    return RedisStorage("async+redis://", implementation="redispy", connection_pool=pool)
