"""Who may be connected: connections come in, those that lose their place are ended.

The number of connections has a cap. A new one beyond it takes the place of the one that has been
without a request for longest, so that clients that connect and say nothing shut nobody out. Knows
nothing of bytes and timers (gateway/http_protocol.py).
"""

import resource
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Reason = Literal["slow_headers", "large_headers", "slow_body", "slow_reader", "evicted", "refused"]
OTHER_FILES = 128  # of the process: listening, Redis, the database, Triton, logs


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take of each.

    Every connection is a file descriptor: the process must be allowed more than `max_connections`.
    `max_per_address` is None where a proxy stands in front, whose address all come from.
    `write_timeout_s` is for what the write buffer holds, 64 KiB or a little more.
    """

    max_connections: int = 1000
    max_per_address: int | None = None
    header_timeout_s: float = 10.0
    max_header_bytes: int = 32 * 1024
    body_timeout_s: float = 30.0
    write_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Connections that are open, those of them without a request, and those ended so far."""

    open: int
    silent: int
    ended: Mapping[Reason, int]


class Connection(Protocol):
    """What is known of one: its address and port, None for a socket that has no such thing."""

    client: tuple[str, int] | None

    def end(self, reason: Reason) -> None:
        """Close it and give its place up."""


class Connections:
    """All connections of one server."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self._open: dict[Connection, str] = {}  # with its address
        self._silent: dict[Connection, None] = {}  # the longest silent first
        self._ended: Counter[Reason] = Counter()

    @property
    def traffic(self) -> Traffic:
        """The counts of this moment."""
        return Traffic(len(self._open), len(self._silent), dict(self._ended))

    def admit(self, one: Connection) -> bool:
        """Take a new connection in, in the place of a silent one if need be."""
        address = one.client[0] if one.client else ""
        crowd = self._crowd(address)
        if crowd is not None:
            oldest = next((other for other in self._silent if other in crowd), None)
            if oldest is None:
                return False
            oldest.end("evicted")
        self._open[one] = address
        self._silent[one] = None
        return True

    def note_request(self, one: Connection) -> None:
        """It has sent a request's headers."""
        self._silent.pop(one, None)

    def note_silence(self, one: Connection) -> None:
        """Its answer is whole and no other request has come."""
        if one in self._open:
            self._silent[one] = None

    def forget(self, one: Connection, reason: Reason | None = None) -> None:
        """It has no place any more; `reason` when it was ended."""
        self._silent.pop(one, None)
        self._open.pop(one, None)
        if reason:
            self._ended[reason] += 1

    def _crowd(self, address: str) -> Container[Connection] | None:
        """The connections one of which must make room for a new one, None when there is room."""
        if len(self._open) >= self.limits.max_connections:
            return self._open
        at_most = self.limits.max_per_address
        if at_most is None:
            return None
        same = {one for one, other in self._open.items() if other == address}
        return same if len(same) >= at_most else None


def allow_files(limits: ConnectionLimits) -> None:
    """Let this process open a file for each connection; raises ValueError where it may not."""
    needed = limits.max_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < needed:
        raise ValueError(
            f"{limits.max_connections} connections need {needed} open files, the process may have "
            f"{hard}: allow fewer connections or raise the limit (ulimit -Hn)"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
