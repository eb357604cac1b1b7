"""Keeps requests from a Triton that fails: how calls ended comes in, who may call goes out.

    closed ──too many calls of the window failed──▶ open ──its time is over──▶ half-open
       ▲                                             ▲                            │
       └──────────────────── the probe answered ─────┼────────────────────────────┤
                                                     └─────── the probe failed ───┘

Own code, for what purgatory and others lack: a ratio instead of failures in a row, which a busy
server always has some of; one probe at a time; pauses that grow; calls that were cancelled and
judge nothing. Knows nothing of what is called.
"""

import random as random_module
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import clients
from gateway.errors import Unavailable

State = Literal["closed", "open", "half-open"]
PROBE_AGAIN_S = 1.0  # when to ask again while a probe is under way
MAX_CALLS = 200  # of a window that are remembered


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures are too many, and for how long the breaker is open then.

    It opens when at least `min_failures` calls that ended in the last `window_s` failed and they
    are `max_ratio` of all or more. The first time it is open for `open_s`, then for twice as long
    each time that the probe fails, up to `max_open_s`, always shortened by up to a half so that
    gateways don't come back together. A call without an answer after `slow_s` has failed; one
    whose caller allowed it less has not.
    """

    window_s: float = 30.0
    min_failures: int = 5
    max_ratio: float = 0.5
    open_s: float = 1.0
    max_open_s: float = 30.0
    slow_s: float = 5.0


class Call:
    """One call under way; say `answered` when its first text is there, and it counts as good."""

    def __init__(self, breaker: "Breaker", era: int, began: float) -> None:
        self.era = era
        self.began = began
        self.has_answered = False
        self._breaker = breaker

    def answered(self) -> None:
        """The server works; what becomes of the rest of the answer may take its time."""
        if not self.has_answered:
            self.has_answered = True
            self._breaker.judge(self, failed=False)


class Breaker:
    """The breaker of one backend, for one event loop; `on_change` is told each new state.

    `clock` counts seconds, `random` gives [0, 1).
    """

    def __init__(
        self,
        patience: Patience | None = None,
        *,
        on_change: Callable[[State], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.state: State = "closed"
        self._patience = patience or Patience()
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self._era = 0  # counts the states: what began in an earlier one judges nothing
        self._ends: deque[tuple[float, bool]] = deque(maxlen=MAX_CALLS)  # when, whether failed
        self._num_opened = 0  # since it was closed
        self._open_until = 0.0
        self._probe: Call | None = None

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[Call]:
        """A call in the block, judged by how the block ends.

        Raises Unavailable without a call while the breaker is open. Errors come through;
        `clients.Unavailable` and `ServerError` have failed, and a slow `Timeout`.
        """
        call = self._begin()
        try:
            yield call
            call.answered()
        except (clients.Unavailable, clients.ServerError):
            self.judge(call, failed=True)
            raise
        except clients.Timeout:
            took_s = self._clock() - call.began
            if not call.has_answered and took_s >= self._patience.slow_s:
                self.judge(call, failed=True)
            raise
        finally:
            if self._probe is call:  # it judged nothing: the next one may
                self._probe = None

    def judge(self, call: Call, *, failed: bool) -> None:
        """Count how a call ended, or began to answer."""
        if call.era != self._era:
            return
        if self.state == "half-open":
            self._open() if failed else self._close()
            return
        self._ends.append((self._clock(), failed))
        if failed and self._has_failed_too_often():
            self._open()

    def _begin(self) -> Call:
        left_s = self._open_until - self._clock()
        if self.state == "open" and left_s <= 0:
            self._change("half-open")
        if self.state == "open" or self._probe:
            again_s = left_s if self.state == "open" else PROBE_AGAIN_S
            raise Unavailable(
                f"the model server failed and is left alone for now: try again in {again_s:.1f} s",
                code="breaker_open",
                retry_after_s=again_s,
            )
        call = Call(self, self._era, self._clock())
        if self.state == "half-open":
            self._probe = call
        return call

    def _has_failed_too_often(self) -> bool:
        oldest = self._clock() - self._patience.window_s
        recent = [failed for when, failed in self._ends if when > oldest]
        num_failed = sum(recent)
        enough = num_failed >= self._patience.min_failures
        return enough and num_failed >= self._patience.max_ratio * len(recent)

    def _open(self) -> None:
        longest = self._patience.open_s * 2**self._num_opened
        open_s = min(self._patience.max_open_s, longest) * (1 - self._random() / 2)
        self._num_opened += 1
        self._open_until = self._clock() + open_s
        self._change("open")

    def _close(self) -> None:
        self._num_opened = 0
        self._ends.clear()
        self._change("closed")

    def _change(self, state: State) -> None:
        self.state = state
        self._era += 1
        self._probe = None
        if self._on_change:
            self._on_change(state)
