"""uvicorn's HTTP/1.1 with the bounds that it lacks: a class for `uvicorn.Config(http=...)`.

uvicorn times nothing but idle keep-alive: a client may connect and say nothing, send headers or a
body byte by byte, or read no answer, for ever, and its headers may grow without end (uvicorn 0.54
with httptools, tried: 1000 half-open connections stay, 49 MB of headers are taken). Here each of
these has its time or size. Timers run from the first byte of a phase, so that a byte now and then
buys nothing.

Comes in: bytes. Goes out: connections ended, with a typed answer where one can still be read.
Knows nothing of routes; the app sees a client that disconnected.
"""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.connections import Connections, Reason
from gateway.errors import GatewayError, InvalidRequest, TooLarge, Unavailable

FAREWELL_S = 1.0  # to hear a last request, or to send a last answer
LINE_BYTES = 4  # of a header beside its name and value


def protocol_of(connections: Connections) -> type[HttpToolsProtocol]:
    """The class whose connections these are: uvicorn has no arguments for it.

    `uvicorn.Config.limit_concurrency` must be None: it counts connections that say nothing too,
    and then answers everybody 503.
    """
    return type("Bounded", (BoundedProtocol,), {"peers": connections})


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a timer for what is being read and one for what is being written."""

    peers: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in and wait for headers."""
        super().connection_made(transport)
        self._limits = self.peers.limits
        self._phase: Literal["rest", "headers", "body"] = "rest"
        self._header_bytes = 0
        self._reading = _Timer(self.loop)
        self._writing = _Timer(self.loop)
        if self.peers.admit(self):
            self._expect_headers()
        else:
            self.end("refused")

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of its timers and its place."""
        self._reading.stop()
        self._writing.stop()
        self.peers.forget(self)
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
        if self._header_bytes > self._limits.max_header_bytes:
            self.end("large_headers")

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        if not self.flow.write_paused:
            self._writing.stop()
        self.peers.note_request(self)
        # What the last chunk held beyond the headers' end is the body's, and counts no more.
        whole = sum(len(name) + len(value) + LINE_BYTES for name, value in self.headers)
        self._phase, self._header_bytes = "body", len(self.url) + whole
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
            self.peers.note_silence(self)
            self._expect_reader()

    def send_400_response(self, msg: str) -> None:
        """What isn't HTTP is refused in the same shape as all else."""
        del msg
        self.transport.write(
            _answer(InvalidRequest("these bytes are no HTTP/1.1 request: see /docs"))
        )
        self.transport.close()

    def pause_writing(self) -> None:
        """The write buffer is full: the client must read."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """The client has read; the last part of an answer keeps its timer."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._writing.stop()

    def shutdown(self) -> None:
        """The door is closed: one that waits for headers may have sent them, and is heard."""
        if self._phase == "headers":
            self.loop.call_later(FAREWELL_S, super().shutdown)
        else:
            super().shutdown()

    def end(self, reason: Reason) -> None:
        """Close it, with an answer if none has begun and the client may be waiting for one."""
        self.peers.forget(self, reason)
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
