"""Triton, asked through `clients`: a request in, its chunks out; errors become the gateway's own.

Always the stream model, for Triton can't cancel what runs in an ensemble: leaving a stream frees
its slot within a step. Knows nothing of keys, limits or HTTP.

    clients.InvalidRequest   InvalidRequest   the engine's own sentence, with the option's name
    clients.Unavailable      Unavailable      the engine's own sentence, or that Triton is away
    clients.Timeout          Timeout
    clients.ServerError      GatewayError     500; what Triton said goes to the log alone
"""

import logging
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import clients
from clients import AsyncCompletionClient, Chunk, ClientError
from clients.tensors import SETTINGS
from gateway.errors import GatewayError, InvalidRequest, Timeout, Unavailable
from gateway.flights import Flight
from gateway.messages import Caller, CompletionRequest, Usage
from gateway.reading import read
from gateway.stages import Backend

# The engine ends a text at its deadline by itself; Triton gets this much longer to say so.
GRACE_S = 1.0
RETRY_AFTER_S = 1.0
CANARY_PROMPT = "def f("
_WORD = re.compile(r"\w+")
_LOG = logging.getLogger("gateway")


class Upstream:
    """One connection to each Triton; to be made inside the event loop that uses it."""

    def __init__(self) -> None:
        self._clients: dict[str, AsyncCompletionClient] = {}

    def chunks(self, backend: Backend, flight: Flight) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes; raises ClientError.

        Closing it ends the engine's work, and the flight notes what was written until then.
        """
        request = flight.request
        left_s = max(flight.left_s(), 0.001)
        stream = self._client(backend).stream(
            request.prompt,
            timeout_s=left_s + GRACE_S,
            headers=flight.trace.headers() if flight.trace else None,
            request_id=request.id,
            in_pieces=request.stream,
            **{
                **request.settings,
                "timeout_ms": max(1, int(left_s * 1000)),
                "user": flight.caller.tenant,
            },
        )
        return read(stream, flight.note)

    async def send(self, backend: Backend, caller: Caller, request: CompletionRequest) -> Usage:
        """An answer that nobody reads, for its counts; raises ClientError."""
        flight = Flight(caller, request)
        async with aclosing(self.chunks(backend, flight)) as chunks:
            async for chunk in chunks:
                flight.note(chunk)
        return flight.usage

    async def check(self, backend: Backend, timeout_s: float) -> None:
        """One real token; raises ClientError."""
        stream = self._client(backend).stream(
            CANARY_PROMPT, timeout_s=timeout_s, request_id="canary", max_tokens=1, in_pieces=False
        )
        async with stream:
            async for _ in stream:
                pass

    def _client(self, backend: Backend) -> AsyncCompletionClient:
        if backend.url not in self._clients:
            self._clients[backend.url] = AsyncCompletionClient(backend.url, retries=1)
        return self._clients[backend.url]

    async def close(self) -> None:
        """Drop the connections."""
        for client in self._clients.values():
            await client.close()


@contextmanager
def client_errors() -> Iterator[None]:
    """Raise the gateway's errors for the client's; the table above."""
    try:
        yield
    except ClientError as error:
        raise gateway_error(error) from error


def gateway_error(error: ClientError) -> GatewayError:
    """What a caller is told of an error on the way to the engine or in it."""
    message = str(error)
    if isinstance(error, clients.InvalidRequest):
        message = message.replace("text_input", "prompt")
        param = next((word for word in _WORD.findall(message)[:2] if word in _PARAMS), None)
        return InvalidRequest(message, param=param)
    if isinstance(error, clients.Timeout):
        return Timeout("the model had no whole answer before the deadline: ask for less, or later")
    if isinstance(error, clients.Unavailable):
        told = message if message.startswith("the engine") else "the model can't be reached now"
        return Unavailable(f"{told}: try again", retry_after_s=RETRY_AFTER_S)
    _LOG.error("Triton failed: %s", message)
    return GatewayError("the model server failed: try again, or tell its operator the request's id")


_PARAMS = {*SETTINGS, "prompt"}
