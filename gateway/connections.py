"""Bounds on connections that uvicorn has none for: a protocol class for `uvicorn.Config(http=...)`.

uvicorn times nothing but idle keep-alive: a client may open connections and say nothing, send
headers or a body byte by byte, or read no answer, for ever, and its headers may grow without end.
Here each of these has its time or size, and the number of connections a cap: a new one beyond it
takes the place of the one that has been without a request for longest. Timers run from the first
byte of a phase, so that a byte now and then buys nothing.

Comes in: bytes and timers. Goes out: connections ended, with a typed answer where one can still be
read. Knows nothing of routes; the app sees a client that disconnected.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import GatewayError, InvalidRequest, TooLarge, Unavailable

Reason = Literal["slow_headers", "large_headers", "slow_body", "slow_reader", "evicted", "refused"]
FAREWELL_S = 1.0  # to send a last answer


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


class Connections:
    """All connections of one server; uvicorn makes one `protocol` for each."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self._open: dict[BoundedProtocol, str] = {}  # with its address
        self._silent: dict[BoundedProtocol, None] = {}  # the longest silent first
        self._ended: Counter[Reason] = Counter()

    @property
    def protocol(self) -> type[HttpToolsProtocol]:
        """A class of these connections' own: uvicorn has no arguments for it."""
        return type("Bounded", (BoundedProtocol,), {"connections_of": self})

    @property
    def traffic(self) -> Traffic:
        """The counts of this moment."""
        return Traffic(len(self._open), len(self._silent), dict(self._ended))

    def admit(self, one: "BoundedProtocol") -> bool:
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

    def note_request(self, one: "BoundedProtocol") -> None:
        """It has sent a request's headers."""
        self._silent.pop(one, None)

    def note_silence(self, one: "BoundedProtocol") -> None:
        """Its answer is whole and no other request has come."""
        if one in self._open:
            self._silent[one] = None

    def forget(self, one: "BoundedProtocol", reason: Reason | None = None) -> None:
        """It has no place any more; `reason` when it was ended."""
        self._silent.pop(one, None)
        self._open.pop(one, None)
        if reason:
            self._ended[reason] += 1

    def _crowd(self, address: str) -> Container["BoundedProtocol"] | None:
        """The connections one of which must make room for a new one, None when there is room."""
        if len(self._open) >= self.limits.max_connections:
            return self._open
        at_most = self.limits.max_per_address
        same = [one for one, other in self._open.items() if at_most and other == address]
        return set(same) if at_most and len(same) >= at_most else None


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a timer for what is being read and one for what is being written."""

    connections_of: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in and wait for headers."""
        super().connection_made(transport)
        self._limits = self.connections_of.limits
        self._phase: Literal["rest", "headers", "body"] = "rest"
        self._header_bytes = 0
        self._reading = _Timer(self.loop)
        self._writing = _Timer(self.loop)
        if self.connections_of.admit(self):
            self._expect_headers()
        else:
            self.end("refused")

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of its timers and its place."""
        self._reading.stop()
        self._writing.stop()
        self.connections_of.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it was ended or its headers are too large."""
        if self.transport.is_closing():
            return
        if self._phase == "rest":
            self._expect_headers()
        if self._phase == "headers":
            self._header_bytes += len(data)
        super().data_received(data)
        # What a chunk held beyond the headers' end is the body's, and counts no more.
        if self._phase == "headers" and self._header_bytes > self._limits.max_header_bytes:
            self.end("large_headers")

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        if not self.flow.write_paused:
            self._writing.stop()
        self.connections_of.note_request(self)
        self._phase, self._header_bytes = "body", 0
        self._reading.start(self._limits.body_timeout_s, lambda: self.end("slow_body"))
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        """Another request follows the one before without a pause."""
        super().on_message_begin()
        if self._phase == "rest":
            self._expect_headers()

    def on_message_complete(self) -> None:
        """Wait for nothing: between requests uvicorn's keep-alive timeout holds."""
        self._phase = "rest"
        self._reading.stop()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """What the transport still holds of the answer must be read in time too."""
        super().on_response_complete()
        if self.cycle.response_complete:  # else the next request waited already
            self.connections_of.note_silence(self)
            self._expect_reader()

    def pause_writing(self) -> None:
        """The write buffer is full: the client must read."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """The client has read; the last part of an answer keeps its timer."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._writing.stop()

    def end(self, reason: Reason) -> None:
        """Close it, with an answer if none has begun and the client may be waiting for one."""
        self.connections_of.forget(self, reason)
        error = self._error_of(reason)
        has_begun = self.cycle and self.cycle.response_started and not self.cycle.response_complete
        if error is None or has_begun or self.transport.is_closing():
            self.transport.abort()
            return
        self.transport.write(_answer(error))
        self.transport.close()
        self._writing.start(FAREWELL_S, self.transport.abort)

    def _expect_headers(self) -> None:
        self._phase, self._header_bytes = "headers", 0
        self._reading.start(self._limits.header_timeout_s, self._on_slow_headers)

    def _on_slow_headers(self) -> None:
        if self.cycle and not self.cycle.response_complete:
            self._reading.start(self._limits.header_timeout_s, self._on_slow_headers)
        else:  # nobody waits for the answer to a request before this one
            self.end("slow_headers")

    def _expect_reader(self) -> None:
        self._writing.start(self._limits.write_timeout_s, self._on_slow_reader)

    def _on_slow_reader(self) -> None:
        if self.transport.get_write_buffer_size():
            self.end("slow_reader")

    def _error_of(self, reason: Reason) -> GatewayError | None:
        limits = self._limits
        if reason == "slow_headers" and self._header_bytes:
            return _TimedOut(
                f"the headers weren't whole after {limits.header_timeout_s:g} s: send them at once"
            )
        if reason == "slow_body":
            return _TimedOut(
                f"the body wasn't whole after {limits.body_timeout_s:g} s: send it faster, or less"
            )
        if reason == "large_headers":
            return _HeadersTooLarge(
                f"the headers have {self._header_bytes} bytes already and may have "
                f"{limits.max_header_bytes}: send fewer"
            )
        if reason == "refused":
            return Unavailable("all connections are in use: try again in 1 s", retry_after_s=1)
        return None


class _TimedOut(InvalidRequest):
    status = 408


class _HeadersTooLarge(TooLarge):
    status = 431


class _Timer:
    """One call later, or none."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, call: Callable[[], object]) -> None:
        """Forget the call before."""
        self.stop()
        self._handle = self._loop.call_later(seconds, call)

    def stop(self) -> None:
        """Call nothing."""
        if self._handle:
            self._handle.cancel()
            self._handle = None


def _answer(error: GatewayError) -> bytes:
    body = json.dumps(error.body()).encode()
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    if error.retry_after_s:
        lines.append(f"retry-after: {error.retry_after_s:g}")
    return "\r\n".join([*lines, "", ""]).encode() + body
