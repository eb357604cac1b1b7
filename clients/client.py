"""The clients: prompts and settings in, completions and streams out, for threads and for asyncio.

Comes in: where the server is, how long a request may take, how often it may be tried. Goes out:
Completion, Stream or a ClientError. Knows nothing of tensors; the transports send and receive.
"""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from clients import gateway_wire, http_wire
from clients.attempts import Deadline, Retries
from clients.envelope import envelope
from clients.errors import ClientError, InvalidRequest
from clients.grpc_transport import AsyncGrpcTransport, GrpcTransport
from clients.http_transport import AsyncHttpTransport, HttpTransport
from clients.streams import AsyncStream, Stream
from clients.tensors import request_tensors, stream_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Unpack

    from clients.messages import Completion, ServerInfo, Settings
    from clients.transport import AsyncTransport, Transport

Protocol = Literal["grpc", "http", "gateway"]
DEFAULT_URLS = {
    "grpc": "localhost:8001",
    "http": "localhost:8000",
    "gateway": "localhost:8080",
}


class _Client:
    """What both clients know: where, how long, how often."""

    def __init__(
        self, url: str | None, protocol: Protocol, timeout_s: float, retries: Retries
    ) -> None:
        if protocol not in DEFAULT_URLS:
            raise InvalidRequest(f"protocol is {protocol}: give {', '.join(DEFAULT_URLS)}")
        self.url = DEFAULT_URLS[protocol] if url is None else url
        self._protocol = protocol
        self._timeout_s = timeout_s
        self._retries = retries

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self._timeout_s if timeout_s is None else timeout_s, self.url)


class CompletionClient(_Client):
    """Completions for threads, which may share one client; a context manager.

    `url` is HOST:PORT (by default Triton's port of the protocol on localhost), for http also a
    whole http:// or https:// URL, as for the gateway, which wants an `api_key` unless it is open,
    and takes the name of a `model`. `timeout_s` bounds a request with all its retries, a stream
    from `stream` to its last chunk. Every method raises ClientError.
    """

    def __init__(
        self,
        url: str | None = None,
        protocol: Protocol = "grpc",
        timeout_s: float = 60.0,
        retries: int = 2,
        *,
        api_key: str | None = None,
        model: str | None = None,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        super().__init__(url, protocol, timeout_s, Retries(retries, random))
        self._sleep = sleep
        self._gateway: HttpTransport | None = None
        self._transport: Transport
        headers, also = _introduction(protocol, api_key, model)
        if protocol == "grpc":
            self._transport = GrpcTransport(self.url)
        elif protocol == "http":
            self._transport = HttpTransport(self.url, http_wire)
        else:
            self._gateway = HttpTransport(self.url, gateway_wire, headers, also)
            self._transport = self._gateway

    def complete(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        **settings: Unpack[Settings],
    ) -> Completion:
        """The whole completion of a prompt; `request_id` is shown in Triton's log."""
        tensors, beside = request_tensors(prompt, settings), envelope(headers, request_id)
        deadline = self._deadline(timeout_s)
        for attempt in self._retries.attempts(deadline):
            with attempt:
                return self._transport.complete(tensors, deadline, beside)
            self._sleep(attempt.pause_s)
        raise AssertionError("the last attempt returns or raises")

    def stream(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        in_pieces: bool = True,
        **settings: Unpack[Settings],
    ) -> Stream:
        """The completion of a prompt, chunk by chunk.

        With `in_pieces` off each of its texts comes as one chunk when all are written, so that
        best_of may choose; unlike `complete`, leaving it ends the work on the server.
        """
        tensors, beside = stream_tensors(prompt, settings, in_pieces), envelope(headers, request_id)
        deadline = self._deadline(timeout_s)
        begin = partial(self._transport.stream, tensors, deadline, beside)
        return Stream(begin, self._retries.attempts(deadline), deadline, self._sleep)

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server answers and has both models loaded; False instead of an error.

        Triton also calls a model ready whose process has died: only a completion proves health.
        """
        try:
            return self._transport.is_ready(self._deadline(timeout_s))
        except ClientError:
            return False

    def describe(self, *, timeout_s: float | None = None) -> ServerInfo:
        """Which versions of the language model the server has loaded."""
        return self._transport.describe(self._deadline(timeout_s))

    def models(self, *, timeout_s: float | None = None) -> tuple[str, ...]:
        """The names of the models that may be asked for; the gateway alone tells them."""
        if self._gateway is None:
            raise _without_models(self._protocol)
        body = self._gateway.read(gateway_wire.MODELS_PATH, self._deadline(timeout_s))
        return gateway_wire.decode_models(body)

    def close(self) -> None:
        """Drop the connections and what is in flight."""
        self._transport.close()

    def __enter__(self) -> CompletionClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncCompletionClient(_Client):
    """Completions for asyncio; an async context manager, to be made inside its event loop.

    The arguments are CompletionClient's, but `sleep` is a coroutine function. Cancelling a task
    cancels its request.
    """

    def __init__(
        self,
        url: str | None = None,
        protocol: Protocol = "grpc",
        timeout_s: float = 60.0,
        retries: int = 2,
        *,
        api_key: str | None = None,
        model: str | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        super().__init__(url, protocol, timeout_s, Retries(retries, random))
        self._sleep = sleep
        self._gateway: AsyncHttpTransport | None = None
        self._transport: AsyncTransport
        headers, also = _introduction(protocol, api_key, model)
        if protocol == "grpc":
            self._transport = AsyncGrpcTransport(self.url)
        elif protocol == "http":
            self._transport = AsyncHttpTransport(self.url, http_wire)
        else:
            self._gateway = AsyncHttpTransport(self.url, gateway_wire, headers, also)
            self._transport = self._gateway

    async def complete(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        **settings: Unpack[Settings],
    ) -> Completion:
        """The whole completion of a prompt; `request_id` is shown in Triton's log."""
        tensors, beside = request_tensors(prompt, settings), envelope(headers, request_id)
        deadline = self._deadline(timeout_s)
        for attempt in self._retries.attempts(deadline):
            with attempt:
                return await self._transport.complete(tensors, deadline, beside)
            await self._sleep(attempt.pause_s)
        raise AssertionError("the last attempt returns or raises")

    def stream(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        in_pieces: bool = True,
        **settings: Unpack[Settings],
    ) -> AsyncStream:
        """The completion of a prompt, chunk by chunk; not a coroutine."""
        tensors, beside = stream_tensors(prompt, settings, in_pieces), envelope(headers, request_id)
        deadline = self._deadline(timeout_s)
        begin = partial(self._transport.stream, tensors, deadline, beside)
        return AsyncStream(begin, self._retries.attempts(deadline), deadline, self._sleep)

    async def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server answers and has both models loaded; False instead of an error."""
        try:
            return await self._transport.is_ready(self._deadline(timeout_s))
        except ClientError:
            return False

    async def describe(self, *, timeout_s: float | None = None) -> ServerInfo:
        """Which versions of the language model the server has loaded."""
        return await self._transport.describe(self._deadline(timeout_s))

    async def models(self, *, timeout_s: float | None = None) -> tuple[str, ...]:
        """The names of the models that may be asked for; the gateway alone tells them."""
        if self._gateway is None:
            raise _without_models(self._protocol)
        body = await self._gateway.read(gateway_wire.MODELS_PATH, self._deadline(timeout_s))
        return gateway_wire.decode_models(body)

    async def close(self) -> None:
        """Drop the connections and what is in flight."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncCompletionClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _introduction(
    protocol: Protocol, api_key: str | None, model: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The headers and the fields that every request to the gateway has."""
    given = {"api_key": api_key, "model": model}
    if protocol != "gateway" and (names := [name for name, value in given.items() if value]):
        raise InvalidRequest(f"protocol is {protocol}: {' and '.join(names)} are for the gateway")
    headers = envelope({"authorization": f"Bearer {api_key}"} if api_key else None, None).headers
    return dict(headers), {"model": model} if model else {}


def _without_models(protocol: Protocol) -> InvalidRequest:
    return InvalidRequest(f"protocol is {protocol}: the models are told by the protocol gateway")
