"""Notices that a client has gone away, and says so to whoever works for it.

Comes in: for each request a question ("is it cancelled?") and what to do then. One thread asks
them all. Triton has no event for a cancelled request, so it must be asked; each question is a
message to the server (about 0.1 ms), and the pauses grow with their number so that asking never
takes more than a small share of a core.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
SHARE = 0.05  # of one core


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
