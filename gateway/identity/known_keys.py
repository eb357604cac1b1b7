"""Keys of late requests, held in memory so that few requests wait for the database.

An entry is good for KEY_TTL_S: so soon a revocation is seen everywhere. When the database is lost,
keys that were seen go on for GRACE_S and others are refused as Unavailable. Prefixes that nobody
has are kept apart, so that guessing pushes no real key out. Knows nothing of secrets; one event
loop owns it.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import anyio.to_thread

from gateway.errors import Unavailable
from gateway.identity.keys import Key, find_key
from gateway.storage import Database

KEY_TTL_S = 5.0
GRACE_S = 900.0
MAX_ENTRIES = 10_000
ANSWER_TIMEOUT_S = 2.0  # a database slower than this is as good as lost
CLOSE_TIMEOUT_S = 15.0  # longer than it takes to give up a connection and a statement
RETRY_EVERY_S = 1.0  # to a lost database; meanwhile nobody waits for it
READING_THREADS = 4
GUESSING_THREADS = 2
MAX_READING = 200  # questions under way, above which unknown prefixes are turned away


@dataclass(frozen=True, slots=True)
class _Entry:
    key: Key | None
    read_at: float


class KnownKeys:
    """Looks keys up by their prefix."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """`clock` has seconds and never goes back, whatever the wall clock does."""
        self._database = database
        self._clock = clock
        self._found: OrderedDict[str, _Entry] = OrderedDict()
        self._missing: OrderedDict[str, _Entry] = OrderedDict()
        self._reading: dict[str, asyncio.Task[Key | None]] = {}
        self._lost_until = -math.inf
        # A flood of guesses has threads of its own: known keys don't queue behind it.
        self._limiter = anyio.CapacityLimiter(READING_THREADS)
        self._guess_limiter = anyio.CapacityLimiter(GUESSING_THREADS)

    async def find(self, prefix: str) -> Key | None:
        """The key, good or not, at most KEY_TTL_S old; raises Unavailable."""
        entry = self._found.get(prefix) or self._missing.get(prefix)
        if entry is not None and self._clock() - entry.read_at < KEY_TTL_S:
            return entry.key
        try:
            return await self._ask(prefix)
        except Unavailable:
            if entry is None or entry.key is None or self._clock() - entry.read_at >= GRACE_S:
                raise
            return entry.key

    async def close(self) -> None:
        """Wait for the questions under way: their connections must not outlive the database's."""
        if self._reading:
            await asyncio.wait(list(self._reading.values()), timeout=CLOSE_TIMEOUT_S)

    async def _ask(self, prefix: str) -> Key | None:
        """Read a key; requests that come at once share one question."""
        is_known = prefix in self._found
        if self._clock() < self._lost_until:
            raise _lost()
        task = self._reading.get(prefix)
        if task is None:
            if not is_known and len(self._reading) >= MAX_READING:
                raise _lost()
            task = self._reading[prefix] = asyncio.create_task(self._read(prefix, is_known))
            task.add_done_callback(lambda done: self._finish(prefix, done))
        try:
            # Shielded: a client that leaves must not take the others' answer with it.
            return await asyncio.wait_for(asyncio.shield(task), ANSWER_TIMEOUT_S)
        except asyncio.TimeoutError:
            if is_known:  # guesses wait for each other too: that tells nothing of the database
                self._lost_until = self._clock() + RETRY_EVERY_S
            raise _lost() from None

    async def _read(self, prefix: str, is_known: bool) -> Key | None:
        limiter = self._limiter if is_known else self._guess_limiter
        entry = await anyio.to_thread.run_sync(self._select, prefix, limiter=limiter)
        self._found.pop(prefix, None)
        self._missing.pop(prefix, None)
        entries = self._missing if entry.key is None else self._found
        entries[prefix] = entry
        while len(entries) > MAX_ENTRIES:
            entries.popitem(last=False)
        return entry.key

    def _select(self, prefix: str) -> _Entry:
        asked_at = self._clock()  # before the answer: an entry is never taken for younger
        with self._database.session(read_only=True) as session:
            return _Entry(find_key(session, prefix), asked_at)

    def _finish(self, prefix: str, done: asyncio.Task[Key | None]) -> None:
        del self._reading[prefix]
        if not done.cancelled() and isinstance(done.exception(), Unavailable):
            self._lost_until = self._clock() + RETRY_EVERY_S


def _lost() -> Unavailable:
    return Unavailable(
        "keys can't be looked up now, the gateway's database does not answer: try again in "
        f"{KEY_TTL_S:.0f} s",
        code="database_unavailable",
        retry_after_s=KEY_TTL_S,
    )
