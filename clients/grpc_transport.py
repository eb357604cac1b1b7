"""Requests over one gRPC channel, for threads and for asyncio.

Each stream is a ModelStreamInfer call of its own (tritonclient has one for all requests of a
client), so that it is cancelled alone and may be read from any thread. It doesn't ask for gRPC
statuses inside streams (metadata `triton_grpc_error`): with them tritonserver 2.51.0 crashed in 4
of 5 minutes of streams that end in errors, and never in 80,000 such streams without.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients import errors, grpc_wire
from clients.attempts import Deadline
from clients.envelope import Envelope
from clients.messages import Chunk, Completion, ServerInfo
from clients.tensors import ENGINE_MODEL, STREAM_MODEL, UNARY_MODEL
from clients.transport import Tensors

_METADATA = service_pb2.ModelMetadataRequest(name=ENGINE_MODEL)
_OPTIONS = (
    # A dead peer is noticed within 40 s. Pings every 10 s made tritonserver 2.51.0 close the
    # connection ("too many pings"); every 30 s it took without a word.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Find a restarted server after a retry's pause; gRPC waits up to 120 s otherwise.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Clients of one process don't share a connection, nor a proxy that the environment names.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_STOP_TIMEOUT_S = 10.0  # an answer takes milliseconds, from a server that is overrun seconds


class GrpcTransport:
    """For threads."""

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._channel = grpc.insecure_channel(url, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def complete(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> Completion:
        with _rpc_errors(self._url, deadline):
            response = self._stub.ModelInfer(
                grpc_wire.encode_unary(tensors, envelope.request_id),
                timeout=deadline.left_s(),
                metadata=envelope.headers,
            )
        return grpc_wire.decode_unary(response)

    def stream(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> "GrpcCall":
        request = grpc_wire.encode_stream(tensors, envelope.request_id or uuid4().hex)
        call = self._stub.ModelStreamInfer(
            iter([request]), timeout=deadline.left_s(), metadata=envelope.headers
        )
        return GrpcCall(call, self._url, deadline, partial(self._stop, request.id))

    def _stop(self, request_id: str) -> bool:
        request = grpc_wire.encode_stop(request_id)
        try:
            call = self._stub.ModelStreamInfer(iter([request]), timeout=_STOP_TIMEOUT_S)
            return not any(message.error_message for message in call)
        except grpc.RpcError:
            return False

    def is_ready(self, deadline: Deadline) -> bool:
        with _rpc_errors(self._url, deadline):
            return all(
                self._stub.ModelReady(request, timeout=deadline.left_s()).ready
                for request in _ready_requests()
            )

    def describe(self, deadline: Deadline) -> ServerInfo:
        with _rpc_errors(self._url, deadline):
            told = self._stub.ModelMetadata(_METADATA, timeout=deadline.left_s())
        return ServerInfo.of(told.name, told.versions)

    def close(self) -> None:
        self._channel.close()


class GrpcCall:
    """One ModelStreamInfer call that is under way."""

    def __init__(self, call: Any, url: str, deadline: Deadline, stop: Callable[[], bool]) -> None:
        self._call = call
        self._url = url
        self._deadline = deadline
        self.stop = stop

    def chunks(self) -> Generator[Chunk, None, None]:
        try:
            with _rpc_errors(self._url, self._deadline):
                failure = None
                for message in self._call:
                    failure = failure or _failure(message)
                    yield from () if failure else grpc_wire.decode_stream(message.infer_response)
            if failure:
                raise failure
        finally:
            self._call.cancel()

    def cancel(self) -> None:
        self._call.cancel()


class AsyncGrpcTransport:
    """For asyncio; to be made inside the event loop that uses it."""

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._channel = grpc.aio.insecure_channel(url, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def complete(
        self, tensors: Tensors, deadline: Deadline, envelope: Envelope
    ) -> Completion:
        with _rpc_errors(self._url, deadline):
            response = await self._stub.ModelInfer(
                grpc_wire.encode_unary(tensors, envelope.request_id),
                timeout=deadline.left_s(),
                metadata=envelope.headers,
            )
        return grpc_wire.decode_unary(response)

    def stream(self, tensors: Tensors, deadline: Deadline, envelope: Envelope) -> "AsyncGrpcCall":
        request = grpc_wire.encode_stream(tensors, envelope.request_id or uuid4().hex)
        call = self._stub.ModelStreamInfer(
            iter([request]), timeout=deadline.left_s(), metadata=envelope.headers
        )
        return AsyncGrpcCall(call, self._url, deadline, partial(self._stop, request.id))

    async def _stop(self, request_id: str) -> bool:
        request = grpc_wire.encode_stop(request_id)
        try:
            call = self._stub.ModelStreamInfer(iter([request]), timeout=_STOP_TIMEOUT_S)
            return not any([message.error_message async for message in call])
        except grpc.RpcError:
            return False

    async def is_ready(self, deadline: Deadline) -> bool:
        with _rpc_errors(self._url, deadline):
            for request in _ready_requests():
                response = await self._stub.ModelReady(request, timeout=deadline.left_s())
                if not response.ready:
                    return False
        return True

    async def describe(self, deadline: Deadline) -> ServerInfo:
        with _rpc_errors(self._url, deadline):
            told = await self._stub.ModelMetadata(_METADATA, timeout=deadline.left_s())
        return ServerInfo.of(told.name, told.versions)

    async def close(self) -> None:
        await self._channel.close()


class AsyncGrpcCall:
    """One ModelStreamInfer call that is under way."""

    def __init__(
        self, call: Any, url: str, deadline: Deadline, stop: Callable[[], Coroutine[Any, Any, bool]]
    ) -> None:
        self._call = call
        self._url = url
        self._deadline = deadline
        self.stop = stop
        self._is_cancelled = False

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        try:
            with _rpc_errors(self._url, self._deadline):
                failure = None
                async for message in self._call:
                    failure = failure or _failure(message)
                    if not failure:
                        for chunk in grpc_wire.decode_stream(message.infer_response):
                            yield chunk
            if failure:
                raise failure
        except asyncio.CancelledError:
            # gRPC raises it in the reader for our own cancel as well as for its task's.
            if _is_cancelling_task() or not self._is_cancelled:
                raise
        finally:
            self._call.cancel()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._call.cancel()


def _is_cancelling_task() -> bool:
    task = asyncio.current_task()
    return bool(getattr(task, "cancelling", int)())  # Python 3.10 can't tell


def _checked(url: str) -> str:
    if "/" in url:
        raise errors.InvalidRequest(f"url is {url}: gRPC wants HOST:PORT, such as localhost:8001")
    return url


@contextmanager
def _rpc_errors(url: str, deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise deadline.error() from None
        raise errors.from_grpc(error.code().name, error.details() or "", url) from None


def _failure(message: service_pb2.ModelStreamInferResponse) -> errors.ClientError | None:
    """What went wrong on the server, if it says so.

    The stream is read on to its end all the same: cancelled just as it ends, it counts as under
    way in tritonserver 2.51.0 for ever, which then takes its whole exit timeout to stop.
    """
    return errors.from_event(message.error_message) if message.error_message else None


def _ready_requests() -> list[service_pb2.ModelReadyRequest]:
    return [service_pb2.ModelReadyRequest(name=name) for name in (UNARY_MODEL, STREAM_MODEL)]
