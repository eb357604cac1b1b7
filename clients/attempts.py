"""How long a request may take and when it may be tried again; sleeps for nobody.

    for attempt in retries.attempts(deadline):
        with attempt:
            return send()
        sleep(attempt.pause_s)

Only Unavailable is tried again: nothing was generated, and a completion has no side effects. A
server that says when to come back is not asked earlier, and not at all if that is too late.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from clients.errors import InvalidRequest, Timeout, Unavailable

FIRST_PAUSE_S = 0.25  # gRPC makes no new connection within 0.12 s of a failed one
MAX_PAUSE_S = 2.0


class Deadline:
    """A moment `timeout_s` seconds from now, which all attempts of a request share."""

    def __init__(self, timeout_s: float, url: str) -> None:
        if not 0 < timeout_s <= threading.TIMEOUT_MAX:
            raise InvalidRequest(f"timeout_s is {timeout_s}: give seconds above 0")
        self._timeout_s = timeout_s
        self._url = url
        self._end = time.monotonic() + timeout_s

    @property
    def is_over(self) -> bool:
        """Whether the moment has passed."""
        return time.monotonic() >= self._end

    def left_s(self) -> float:
        """Seconds left, at least a millisecond: libraries take 0 for "don't wait" or "for ever"."""
        return max(0.001, self._end - time.monotonic())

    def error(self) -> Timeout:
        """What to raise when the moment has passed."""
        return Timeout(f"{self._url} had no whole answer within {self._timeout_s:g} s")


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `limit` repetitions, each after a pause that doubles, shortened by up to a half.

    The jitter keeps clients that failed together from coming back together; `random` gives [0, 1).
    """

    limit: int = 2
    random: Callable[[], float] = random.random

    def attempts(self, deadline: Deadline) -> Iterator["Attempt"]:
        """The attempts of one request; the last one lets its error through."""
        for number in range(self.limit + 1):
            pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**number) * (1 - self.random() / 2)
            yield Attempt(pause_s, deadline, may_fail=number < self.limit)


class Attempt:
    """Holds back an Unavailable if another attempt may follow, `pause_s` later."""

    def __init__(self, pause_s: float, deadline: Deadline, *, may_fail: bool) -> None:
        self.pause_s = pause_s
        self._deadline = deadline
        self._may_fail = may_fail

    def commit(self) -> None:
        """The caller has seen a part of the answer: from here on every error is final."""
        self._may_fail = False

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not (self._may_fail and isinstance(error, Unavailable)):
            return False
        self.pause_s = max(self.pause_s, error.retry_after_s or 0.0)
        return self._deadline.left_s() > self.pause_s
