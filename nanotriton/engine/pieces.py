"""When clients are told what the engine brought: streams in pieces, whole answers at their end.

Comes in: the events of each step and the time, as arguments. Goes out: fewer events that say the
same, those of one text joined. A piece costs its way through a socket, Triton and a gateway, so
there should be no more of them than a reader sees. Knows nothing of sockets or of a clock.
"""

from collections.abc import Sequence
from itertools import chain

from nanotriton.engine.events import Event, Failure, Key, joined


class Pieces:
    """Holds events back until they are due.

    At once: a text's first piece, its end, a failure. What else there is of all streams: once in
    `interval_s`, together, so that one frame brings a peer what all its streams have.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = 0.0
        self._begun: dict[Key, set[int]] = {}  # the texts of each stream that were told of
        self._held: dict[Key, list[Event]] = {}

    def stream(self, key: Key) -> None:
        """Tell of a request while it runs, and not only at its end."""
        self._begun[key] = set()

    def drop(self, peer: bytes) -> None:
        """Forget the requests of a peer."""
        for key in [key for key in {**self._begun, **self._held} if key[0] == peer]:
            self._begun.pop(key, None)
            self._held.pop(key, None)

    def take(self, events: Sequence[Event], now_s: float) -> list[Event]:
        """What is due when `events` came; the rest is held."""
        due = {event.key for event in events if self._is_urgent(event)}
        for event in events:
            self._held.setdefault(event.key, []).append(event)
        if now_s >= self._due_s:
            self._due_s = now_s + self._interval_s
            due.update(self._held.keys() & self._begun.keys())
        told = [key for key in self._held if key in due]
        return joined(chain.from_iterable(self._held.pop(key) for key in told))

    def _is_urgent(self, event: Event) -> bool:
        if isinstance(event, Failure) or event.usage:
            self._begun.pop(event.key, None)
            return True
        if (begun := self._begun.get(event.key)) is None:
            return False
        is_first = bool(event.text) and event.index not in begun
        if is_first:
            begun.add(event.index)
        return is_first or event.finish_reason is not None
