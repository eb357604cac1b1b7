"""Notices that a client has gone away or ends a request by name, and says so to who works for it.

Comes in: for each request a question ("is it cancelled?") and what to do then. One thread asks
them all. Triton has no event for a cancelled request, so it must be asked; each question is a
message to the server (about 0.1 ms), and the pauses grow with their number so that asking never
takes more than a small share of a core. A client that stays, to hear what was written until then,
names the request instead. Knows nothing of Triton.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
SHARE = 0.05  # of one core
EARLY_S = 5.0  # a wish may come this long before its request


@dataclass(frozen=True, slots=True)
class _Watched:
    is_cancelled: Callable[[], bool]
    on_cancel: Callable[[], None]


class CancellationWatch:
    """Watches any number of requests from one thread, which sleeps while there are none.

    A request must be removed before its final response is sent: Triton frees it then, and asking
    about a freed request crashes the whole server (SIGSEGV, seen in 2.51). `remove` waits for a
    question that is being asked.
    """

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cancellation", daemon=True)
        self._thread.start()

    def add(
        self, key: int, is_cancelled: Callable[[], bool], on_cancel: Callable[[], None]
    ) -> None:
        """Call `on_cancel` once, soon after `is_cancelled()` turns true, unless removed before."""
        with self._lock:
            self._watched[key] = _Watched(is_cancelled, on_cancel)
            self._some.set()

    def remove(self, key: int) -> None:
        """Stop watching: after this no question is asked any more. An unknown key is no error."""
        with self._lock:
            self._watched.pop(key, None)
            if not self._watched and not self._closed.is_set():
                self._some.clear()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        with self._lock:
            self._some.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = PAUSE_S
        # The pause comes first: a request that is answered within it is never asked about.
        while self._some.wait() and not self._closed.wait(pause_s):
            started = time.monotonic()
            for key in list(self._watched):
                self._ask(key)
            pause_s = min(max(PAUSE_S, (time.monotonic() - started) / SHARE), LONGEST_PAUSE_S)

    def _ask(self, key: int) -> None:
        with self._lock:
            watched = self._watched.get(key)
            if watched is None or not watched.is_cancelled():
                return
            del self._watched[key]
        watched.on_cancel()


class NamedRequests:
    """Requests under way by the ids that their clients gave them, for a client to end one.

    What came over two calls may be handed over in either order: a name that nothing runs under is
    remembered for `EARLY_S`, and a request that then takes it ends at once.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._cancel: dict[str, Callable[[], None]] = {}
        self._early: dict[str, float] = {}  # when it was wished, oldest first

    def add(self, name: str, cancel: Callable[[], None]) -> Callable[[], None]:
        """Have `cancel` called when the name is; gives back how to forget it, at its end.

        An empty name is none. Of two requests with one name the newer has it.
        """
        if not name:
            return lambda: None
        with self._lock:
            self._forget_old()
            self._cancel[name] = cancel
            is_early = self._early.pop(name, None) is not None
        if is_early:
            cancel()
        return lambda: self._remove(name, cancel)

    def cancel(self, name: str) -> None:
        """End the request of this name, or the one that is about to take it."""
        with self._lock:
            cancel = self._cancel.pop(name, None)
            if cancel is None and name:
                self._forget_old()
                self._early[name] = self._clock()
        if cancel is not None:
            cancel()

    def _remove(self, name: str, cancel: Callable[[], None]) -> None:
        with self._lock:
            if self._cancel.get(name) == cancel:
                del self._cancel[name]

    def _forget_old(self) -> None:
        oldest_s = self._clock() - EARLY_S
        while self._early and next(iter(self._early.values())) < oldest_s:
            del self._early[next(iter(self._early))]
