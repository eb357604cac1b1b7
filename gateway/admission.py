"""Who may use the engine now: callers come in, run or wait for their turn, and leave.

At most `max_running` run at once and `max_waiting` wait, the keys in turn and each key's requests
in the order that they came, so that a key with many waiters holds up no other. Knows nothing of
what runs.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from gateway.errors import Busy, RateLimited, Timeout
from gateway.messages import Caller

AGAIN_S = 1.0  # a completion's usual time: some place is free by then
Turn = asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many requests run and wait, of how many keys."""

    running: int
    waiting: int
    keys: int


class Admission:
    """The places at the engine and the queue before them; for one event loop.

    `max_concurrent` bounds the requests of a key, running and waiting together, that has no bound
    of its own; None bounds nothing and 0 allows none.
    """

    def __init__(
        self, max_running: int, max_waiting: int, max_concurrent: int | None = None
    ) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_concurrent = max_concurrent
        self._running = 0
        self._waiting = 0
        self._of_key: dict[str, int] = {}  # running and waiting
        self._turns: OrderedDict[str, deque[Turn]] = OrderedDict()  # the next key's first

    @property
    def crowd(self) -> Crowd:
        """The counts of this moment."""
        return Crowd(self._running, self._waiting, len(self._of_key))

    @asynccontextmanager
    async def enter(self, caller: Caller, deadline_s: float) -> AsyncIterator[float]:
        """A place at the engine while the block runs; gives the seconds that were waited for it.

        Raises Busy when the queue is full, RateLimited when the key has too many requests here,
        Timeout when no place is free within `deadline_s` from now.
        """
        now = asyncio.get_running_loop().time
        began = now()
        with self._count_of_key(caller):
            await self._take_place(caller.key_id, deadline_s)
            try:
                yield now() - began
            finally:
                self._leave_place()

    @contextmanager
    def _count_of_key(self, caller: Caller) -> Iterator[None]:
        key, own = caller.key_id, caller.limits.max_concurrent
        limit = self._max_concurrent if own is None else own
        here = self._of_key.get(key, 0)
        if limit is not None and here >= limit:
            raise RateLimited(
                f"the key has {here} requests at once and may have {limit}: "
                "wait for one to end or ask for a higher limit",
                code="max_concurrent",
                retry_after_s=AGAIN_S if limit else None,
            )
        self._of_key[key] = here + 1
        try:
            yield
        finally:
            self._of_key[key] -= 1
            if not self._of_key[key]:
                del self._of_key[key]

    async def _take_place(self, key: str, deadline_s: float) -> None:
        if self._running < self._max_running:  # then nobody waits: a free place is passed on
            self._running += 1
        elif self._waiting >= self._max_waiting:
            raise Busy(
                f"{self._waiting} requests wait already, the most that may: try again in "
                f"{AGAIN_S:g} s",
                code="queue_full",
                retry_after_s=AGAIN_S,
            )
        else:
            await self._wait(key, deadline_s)

    async def _wait(self, key: str, deadline_s: float) -> None:
        """Until `_leave_place` passes a place on by setting the turn's result."""
        turn: Turn = asyncio.get_running_loop().create_future()
        self._turns.setdefault(key, deque()).append(turn)
        self._waiting += 1
        try:
            await asyncio.wait([turn], timeout=deadline_s)
        except asyncio.CancelledError:
            if turn.done():
                self._leave_place()
            else:
                self._forget(key, turn)
            raise
        if not turn.done():
            self._forget(key, turn)
            raise Timeout(
                f"no place at the engine was free within {deadline_s:g} s: try again, or allow "
                "the request more time",
                code="queue_timeout",
            )

    def _leave_place(self) -> None:
        """Pass the place on to the next key's first request, whose key then comes last."""
        if not self._turns:
            self._running -= 1
            return
        key, turns = self._turns.popitem(last=False)
        turns.popleft().set_result(None)
        self._waiting -= 1
        if turns:
            self._turns[key] = turns

    def _forget(self, key: str, turn: Turn) -> None:
        self._waiting -= 1
        self._turns[key].remove(turn)
        if not self._turns[key]:
            del self._turns[key]
