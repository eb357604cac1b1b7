"""Counts of the last minutes: an amount and a limit come in; whether it fits and what is left, out.

The library `limits` keeps them as sliding windows: what was used in this minute, and of the minute
before the part that the last 60 s still overlap, as if it had been spread evenly. Knows nothing of
callers, requests or tokens.
"""

import math
from dataclasses import dataclass

from limits.aio.storage import MemoryStorage, RedisStorage

WINDOW_S = 60
NO_LIMIT = 2**53  # Redis' scripts compute with doubles: the greatest whole number that they hold


@dataclass(frozen=True, slots=True)
class Reading:
    """What was used in the minute `before` and `now`, and when this minute ends."""

    before: int
    now: int
    left_s: float

    @property
    def used(self) -> int:
        """What counts against the limit."""
        return math.floor(self.before * self.left_s / WINDOW_S) + self.now

    @property
    def reset_s(self) -> float:
        """Seconds until nothing counts any more, if nothing is added."""
        if self.now > 0:
            return self.left_s + WINDOW_S
        return self.left_s if self.before else 0.0

    def wait_s(self, amount: int, limit: int) -> float | None:
        """Seconds until `amount` fits, if nothing else is added; None when it never does."""
        room = limit - amount
        if room < 0:
            return None
        if self.now > room:  # this minute must pass, and then a part of it must fade
            return self.left_s + WINDOW_S * (1 - room / self.now)
        if not self.before:
            return 0.0
        return max(0.0, self.left_s - WINDOW_S * (room - self.now) / self.before)


@dataclass(frozen=True, slots=True)
class Windows:
    """The counts of many names, in this process or in a Redis that gateways share.

    Redis' errors come through.
    """

    storage: MemoryStorage | RedisStorage

    async def add(self, name: str, amount: int, limit: int = NO_LIMIT) -> bool:
        """Count `amount`, which may be below 0, unless that makes more than `limit`."""
        return await self.storage.acquire_sliding_window_entry(name, limit, WINDOW_S, amount)

    async def read(self, name: str) -> Reading:
        """The counts of a name."""
        before, _, now, expires_s = await self.storage.get_sliding_window(name, WINDOW_S)
        # The storage keeps a minute for another one, to be the minute before.
        return Reading(before, now, max(0.0, expires_s - WINDOW_S))
