"""Streamed answers, for threads and for asyncio: retried until a first chunk, ended at will.

Comes in: a way to begin the request and the attempts it may take. Goes out: chunks, the last one
with a finish reason. Knows nothing of gRPC or HTTP.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, closing, suppress
from types import TracebackType
from typing import Generic, TypeVar

from clients.attempts import Attempt, Deadline
from clients.errors import ClientError, ServerError
from clients.messages import Chunk
from clients.transport import AsyncCall, Call

_NO_END = "the stream ended without its last chunk: the text is cut off"


class Stream:
    """An iterator of chunks; leaving its `with` block ends the request on the server.

    The request is sent when the first chunk is asked for. `next` raises ClientError; after a
    `cancel`, from whatever thread, it ends quietly.
    """

    def __init__(
        self,
        begin: Callable[[], Call],
        attempts: Iterator[Attempt],
        deadline: Deadline,
        sleep: Callable[[float], object],
    ) -> None:
        self._current: _Current[Call] = _Current()
        self._chunks = _read(begin, attempts, deadline, sleep, self._current)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Chunk:
        try:
            return next(self._chunks)
        except ClientError:
            if self._current.is_cancelled:
                raise StopIteration from None
            raise

    def stop(self) -> None:
        """Have the server end the text here; to be called from any thread, and read on after.

        The last chunk says "cancelled" and counts all that was written until then. Over HTTP, and
        when the server can't be asked, this is `cancel`.
        """
        self._current.is_stopped = True
        if self._current.call is not None and not self._current.call.stop():
            self.cancel()

    def cancel(self) -> None:
        """End the request; the server frees its slot. Harmless when it has ended."""
        self._current.cancel()
        with suppress(ValueError):  # another thread is inside: it is woken, and closes it itself
            self._chunks.close()

    close = cancel

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()


class AsyncStream:
    """An asynchronous iterator of chunks; leaving its `async with` block ends the request.

    The request is sent when the first chunk is asked for. Cancelling the task that reads ends it
    too; after a `cancel` from another task the iteration ends quietly.
    """

    def __init__(
        self,
        begin: Callable[[], AsyncCall],
        attempts: Iterator[Attempt],
        deadline: Deadline,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._current: _Current[AsyncCall] = _Current()
        self._chunks = _aread(begin, attempts, deadline, sleep, self._current)

    def __aiter__(self) -> "AsyncStream":
        return self

    async def __anext__(self) -> Chunk:
        try:
            return await anext(self._chunks)
        except ClientError:
            if self._current.is_cancelled:
                raise StopAsyncIteration from None
            raise

    async def stop(self) -> None:
        """Have the server end the text here; to be called from any task, and read on after.

        The last chunk says "cancelled" and counts all that was written until then. Over HTTP, and
        when the server can't be asked, this is `cancel`.
        """
        self._current.is_stopped = True
        if self._current.call is not None and not await self._current.call.stop():
            await self.cancel()

    async def cancel(self) -> None:
        """End the request; the server frees its slot. Harmless when it has ended."""
        self._current.cancel()
        with suppress(RuntimeError):  # another task is inside: it is woken, and closes it itself
            await self._chunks.aclose()

    close = cancel

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cancel()


AnyCall = TypeVar("AnyCall", Call, AsyncCall)


class _Current(Generic[AnyCall]):
    """The call that is under way, for a cancel or a stop to reach it.

    It stands between a stream and its generator, which must not know the stream: without a cycle
    a stream that is forgotten is freed at once, and its request ended.
    """

    def __init__(self) -> None:
        self.call: AnyCall | None = None
        self.is_cancelled = False
        self.is_stopped = False

    @property
    def is_over(self) -> bool:
        """Whether no further attempt is wanted."""
        return self.is_cancelled or self.is_stopped

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.call is not None:
            self.call.cancel()


def _read(
    begin: Callable[[], Call],
    attempts: Iterator[Attempt],
    deadline: Deadline,
    sleep: Callable[[float], object],
    current: _Current[Call],
) -> Generator[Chunk, None, None]:
    for attempt in attempts:
        if current.is_over:
            return
        with attempt:
            current.call = call = begin()
            # By another thread, meanwhile:
            if current.is_cancelled or (current.is_stopped and not call.stop()):
                call.cancel()
                return
            with closing(call.chunks()) as chunks:
                for chunk in chunks:
                    attempt.commit()
                    yield chunk
                    if chunk.is_last:
                        _drain(chunks)
                        return
            raise deadline.error() if deadline.is_over else ServerError(_NO_END)
        if not current.is_over:
            sleep(attempt.pause_s)


def _drain(chunks: Iterator[Chunk]) -> None:
    """Read to the end, for HTTP to use the connection again; the answer is whole already."""
    with suppress(ClientError):
        for _ in chunks:
            pass


async def _aread(
    begin: Callable[[], AsyncCall],
    attempts: Iterator[Attempt],
    deadline: Deadline,
    sleep: Callable[[float], Awaitable[object]],
    current: _Current[AsyncCall],
) -> AsyncGenerator[Chunk, None]:
    for attempt in attempts:
        if current.is_over:
            return
        with attempt:
            current.call = call = begin()
            async with aclosing(call.chunks()) as chunks:
                async for chunk in chunks:
                    attempt.commit()
                    yield chunk
                    if chunk.is_last:
                        await _adrain(chunks)
                        return
            raise deadline.error() if deadline.is_over else ServerError(_NO_END)
        if not current.is_over:
            await sleep(attempt.pause_s)


async def _adrain(chunks: AsyncGenerator[Chunk, None]) -> None:
    with suppress(ClientError):
        async for _ in chunks:
            pass
