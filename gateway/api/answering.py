"""A flight's answer on its way out: whole, or as server-sent events; ended when its caller leaves.

Comes in: a flight and a writer that knows the JSON. Goes out: ASGI messages. An error before the
first byte has its own status; later it is one last event. Knows nothing of what the JSON says.
"""

import asyncio
import logging
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clients import Chunk
from gateway.api.refusals import error_event, error_response, unexpected
from gateway.errors import Disconnected, GatewayError
from gateway.flights import Flight
from gateway.messages import Answer
from gateway.service import Service

_LOG = logging.getLogger("gateway")
_SSE = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Writer(Protocol):
    """The JSON of one form of the API."""

    def whole(self, flight: Flight, answer: Answer) -> bytes:
        """The body of an answer that isn't streamed."""


class EventWriter(Writer, Protocol):
    """A form that streams too."""

    def event(self, flight: Flight, chunk: Chunk) -> bytes:
        """The event of a chunk."""

    def end(self, flight: Flight) -> bytes:
        """What follows the last chunk."""


class Answering(Response):
    """Serves the flight when it is sent, and sends its answer whole."""

    def __init__(self, service: Service, flight: Flight, writer: Writer) -> None:
        self._service = service
        self._flight = flight
        self._writer = writer
        self._has_begun = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        gone = asyncio.create_task(_until_gone(receive))
        gone.add_done_callback(lambda _: self._flight.stop(Disconnected("the caller left")))
        try:
            await self._send(scope, receive, send)
        finally:
            gone.cancel()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        error: GatewayError | None = None
        try:
            await self._serve(send)
        except GatewayError as one:
            error = one
        except asyncio.CancelledError:
            error = self._flight.landed()  # it came while a piece was being sent
            if error is None:
                raise
        except Exception:  # the door: no traceback leaves it
            _LOG.exception("request %s failed", self._flight.request.id)
            error = unexpected()
        if error is None or isinstance(error, Disconnected):
            return
        self._service.refused(error)
        if self._has_begun:
            await send({"type": "http.response.body", "body": error_event(error)})
        else:
            error.headers = {**self._flight.headers, **error.headers}
            await error_response(error)(scope, receive, send)

    async def _serve(self, send: Send) -> None:
        async with aclosing(self._service.answer(self._flight)) as chunks:
            async for _ in chunks:
                pass
        body = self._writer.whole(self._flight, self._flight.answer())
        length = (b"content-length", b"%d" % len(body))
        await self._begin(send, ((b"content-type", b"application/json"), length))
        await send({"type": "http.response.body", "body": body})

    async def _begin(self, send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._has_begun = True
        own = {**self._flight.headers}
        if served := self._flight.served:
            own |= {"openai-model": served.model, "x-model-version": served.version}
        told = [(name.lower().encode(), value.encode("latin-1")) for name, value in own.items()]
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, *told]})


class Streaming(Answering):
    """The same as events."""

    def __init__(self, service: Service, flight: Flight, writer: EventWriter) -> None:
        super().__init__(service, flight, writer)
        self._events = writer

    async def _serve(self, send: Send) -> None:
        async with aclosing(self._service.answer(self._flight)) as chunks:
            async for chunk in chunks:
                if not self._has_begun:
                    await self._begin(send, _SSE)
                body = self._events.event(self._flight, chunk)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": self._events.end(self._flight)})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
