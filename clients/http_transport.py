"""Requests over pooled HTTP/1.1 connections, for threads and for asyncio, in the words of a wire.

Triton notices that a caller left only after it has sent a first chunk: cancelled earlier, a
request still runs on the server until then.
"""

import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeVar

import anyio
import httpx

from clients import errors, http_wire
from clients.attempts import Deadline
from clients.envelope import Envelope
from clients.messages import Chunk, Completion, ServerInfo
from clients.transport import Tensors, Wire

T = TypeVar("T")


class HttpTransport:
    """For threads."""

    def __init__(
        self,
        url: str,
        wire: Wire,
        headers: Mapping[str, str] | None = None,
        also: Mapping[str, str] | None = None,
    ) -> None:
        self._url = _checked(url)
        self._wire = wire
        self._also = also or {}  # what every body holds
        self._client = httpx.Client(**_options(self._url), headers=headers)

    def complete(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> Completion:
        body = {**self._wire.encode_unary(tensors, envelope.request_id), **self._also}
        headers = self._wire.headers_of(envelope, deadline.left_s())
        with _http_errors(self._url, deadline):
            response = self._client.post(
                self._wire.UNARY_PATH, json=body, headers=headers, timeout=deadline.left_s()
            )
        return _completion(self._wire, response)

    def stream(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> "HttpCall":
        body = {**self._wire.encode_stream(tensors, envelope.request_id), **self._also}
        left_s = deadline.left_s()
        headers = self._wire.headers_of(envelope, left_s)
        request = self._client.build_request(
            "POST", self._wire.STREAM_PATH, json=body, headers=headers, timeout=left_s
        )
        return HttpCall(self._client, self._wire, request, self._url, deadline)

    def is_ready(self, deadline: Deadline) -> bool:
        with _http_errors(self._url, deadline):
            return all(
                self._client.get(path, timeout=deadline.left_s()).status_code == httpx.codes.OK
                for path in self._wire.READY_PATHS
            )

    def describe(self, deadline: Deadline) -> ServerInfo:
        return http_wire.decode_metadata(self.read(http_wire.METADATA_PATH, deadline))

    def read(self, path: str, deadline: Deadline) -> bytes:
        """What the server tells at a path."""
        with _http_errors(self._url, deadline):
            response = self._client.get(path, timeout=deadline.left_s())
        return _body(self._wire, response)

    def close(self) -> None:
        self._client.close()


class HttpCall:
    """One streamed request; it is sent when `chunks` is first read."""

    def __init__(
        self,
        client: httpx.Client,
        wire: Wire,
        request: httpx.Request,
        url: str,
        deadline: Deadline,
    ) -> None:
        self._client = client
        self._wire = wire
        self._request = request
        self._url = url
        self._deadline = deadline
        self._switch = _Switch()

    def chunks(self) -> Generator[Chunk, None, None]:
        decoder = self._wire.EventDecoder()
        with (
            _http_errors(self._url, self._deadline),
            closing(self._client.send(self._request, stream=True)) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise self._wire.error_of(response.status_code, response.headers, response.read())
            # httpx bounds each read by left_s, and only a switch bounds them together.
            with self._switch.watching(response, self._deadline):
                for data in response.iter_bytes():
                    for chunk in decoder.feed(data):
                        if chunk.is_last:
                            self._switch.let_go()
                        yield chunk

    def cancel(self) -> None:
        self._switch.cut()

    def stop(self) -> bool:
        return False  # Triton answers nobody who has closed, and takes no second word


class _Switch:
    """Cuts a response's connection from any thread, which wakes the thread that reads it.

    Closing a socket doesn't wake its reader, shutting it down does. `let_go` comes before the
    connection goes back to the pool, where another request may already be using it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    @contextmanager
    def watching(self, response: httpx.Response, deadline: Deadline) -> Iterator[None]:
        stream = response.extensions["network_stream"]
        with self._lock:
            self._socket = stream.get_extra_info("socket")
        if self._is_cut:
            self.cut()
        timer = threading.Timer(deadline.left_s(), self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.let_go()

    def let_go(self) -> None:
        with self._lock:
            self._socket = None

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                with suppress(OSError):  # the server was faster
                    self._socket.shutdown(socket.SHUT_RDWR)


class AsyncHttpTransport:
    """For asyncio."""

    def __init__(
        self,
        url: str,
        wire: Wire,
        headers: Mapping[str, str] | None = None,
        also: Mapping[str, str] | None = None,
    ) -> None:
        self._url = _checked(url)
        self._wire = wire
        self._also = also or {}  # what every body holds
        self._client = httpx.AsyncClient(**_options(self._url), headers=headers)

    async def complete(
        self, tensors: Tensors, deadline: Deadline, envelope: Envelope
    ) -> Completion:
        body = {**self._wire.encode_unary(tensors, envelope.request_id), **self._also}
        headers = self._wire.headers_of(envelope, deadline.left_s())
        with _http_errors(self._url, deadline):
            response = await self._client.post(
                self._wire.UNARY_PATH, json=body, headers=headers, timeout=deadline.left_s()
            )
        return _completion(self._wire, response)

    def stream(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> "AsyncHttpCall":
        body = {**self._wire.encode_stream(tensors, envelope.request_id), **self._also}
        left_s = deadline.left_s()
        headers = self._wire.headers_of(envelope, left_s)
        request = self._client.build_request(
            "POST", self._wire.STREAM_PATH, json=body, headers=headers, timeout=left_s
        )
        return AsyncHttpCall(self._client, self._wire, request, self._url, deadline)

    async def is_ready(self, deadline: Deadline) -> bool:
        with _http_errors(self._url, deadline):
            for path in self._wire.READY_PATHS:
                response = await self._client.get(path, timeout=deadline.left_s())
                if response.status_code != httpx.codes.OK:
                    return False
        return True

    async def describe(self, deadline: Deadline) -> ServerInfo:
        return http_wire.decode_metadata(await self.read(http_wire.METADATA_PATH, deadline))

    async def read(self, path: str, deadline: Deadline) -> bytes:
        """What the server tells at a path."""
        with _http_errors(self._url, deadline):
            response = await self._client.get(path, timeout=deadline.left_s())
        return _body(self._wire, response)

    async def close(self) -> None:
        await self._client.aclose()


class AsyncHttpCall:
    """One streamed request; it is sent when `chunks` is first read."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        wire: Wire,
        request: httpx.Request,
        url: str,
        deadline: Deadline,
    ) -> None:
        self._client = client
        self._wire = wire
        self._request = request
        self._url = url
        self._deadline = deadline
        self._wait = anyio.CancelScope()
        self._is_cancelled = False

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        decoder = self._wire.EventDecoder()
        with _http_errors(self._url, self._deadline):
            response = await self._within(self._client.send(self._request, stream=True))
            try:
                if response.status_code != httpx.codes.OK:
                    body = await self._within(response.aread())
                    raise self._wire.error_of(response.status_code, response.headers, body)
                parts = response.aiter_bytes()
                while part := await self._within(anext(parts, b"")):
                    for chunk in decoder.feed(part):
                        yield chunk
            finally:
                await response.aclose()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._wait.cancel()

    async def stop(self) -> bool:
        return False

    async def _within(self, awaitable: Awaitable[T]) -> T:
        """Wait until the deadline or a cancel; httpx bounds single reads, not all together."""
        left_s = 0 if self._is_cancelled else self._deadline.left_s()
        with anyio.move_on_after(left_s) as self._wait:
            return await awaitable
        raise self._deadline.error()


def _checked(url: str) -> str:
    return url if url.startswith(("http://", "https://")) else f"http://{url}"


def _options(url: str) -> dict[str, Any]:
    return {
        "base_url": url,
        # As many connections as there are requests at once: waiting is the server's queue's job.
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=None),
        "verify": url.startswith("https://"),  # loading certificates takes 30 ms
        "trust_env": False,
    }


@contextmanager
def _http_errors(url: str, deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        raise errors.unreachable(url, str(error)) from None
    except httpx.TransportError as error:
        if isinstance(error, httpx.TimeoutException) or deadline.is_over:
            raise deadline.error() from None
        raise errors.Unavailable(f"{url} broke the connection: {error}") from None
    except httpx.HTTPError as error:
        raise errors.malformed(error) from None


def _completion(wire: Wire, response: httpx.Response) -> Completion:
    return wire.decode_unary(_body(wire, response))


def _body(wire: Wire, response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise wire.error_of(response.status_code, response.headers, response.content)
    return response.content
