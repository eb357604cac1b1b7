"""One answer of the engine, read to its end even when its caller leaves: tokens are paid by count.

Comes in: a stream, and who is told of its last chunk. Goes out: chunks. Left early, the server is
asked to stop, and the last chunk, which counts all that was written, is waited for. Knows nothing
of keys or HTTP.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from clients import AsyncStream, Chunk, ClientError

# A server with room takes milliseconds; one that a hundred people at once give up their questions
# to took 2 s. Whoever waits has left, and the stream's own deadline ends it too.
SETTLE_S = 15.0

_LOG = logging.getLogger("gateway")
_Got = Chunk | Exception | None


async def read(
    stream: AsyncStream, note_last: Callable[[Chunk], None], settle_s: float = SETTLE_S
) -> AsyncGenerator[Chunk, None]:
    """The chunks as they come; raises ClientError.

    `note_last` hears of the last chunk when this is closed, or its task cancelled, before that
    came. What the server doesn't tell within `settle_s` is not known.
    """
    # Cancelling whoever waits for the stream would end it; so a task of its own does. The queue
    # holds what the caller was too slow for: an answer's worth at the most.
    chunks: asyncio.Queue[_Got] = asyncio.Queue()
    reader = asyncio.create_task(_fill(chunks, stream))
    is_settled = False
    try:
        while not is_settled:
            got = await chunks.get()
            is_settled = not isinstance(got, Chunk) or got.is_last
            if isinstance(got, Exception):
                raise got
            if got is not None:
                yield got
    finally:
        if not is_settled:
            await _unhurried(_settle(stream, chunks, note_last, settle_s))
        await asyncio.wait({reader}, timeout=settle_s)  # for Triton to close what has ended
        reader.cancel()


async def _unhurried(settling: Coroutine[Any, Any, None]) -> None:
    """Wait for it even when cancelled meanwhile: it is bounded, and the count would be lost."""
    task = asyncio.create_task(settling)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _fill(chunks: asyncio.Queue[_Got], stream: AsyncStream) -> None:
    try:
        async with stream:
            async for chunk in stream:
                chunks.put_nowait(chunk)
        chunks.put_nowait(None)
    except Exception as error:  # whatever it is: who reads would wait for ever
        chunks.put_nowait(error)


async def _settle(
    stream: AsyncStream,
    chunks: asyncio.Queue[_Got],
    note_last: Callable[[Chunk], None],
    settle_s: float,
) -> None:
    async def stop() -> _Got:
        await stream.stop()
        got = await chunks.get()
        while isinstance(got, Chunk) and not got.is_last:
            got = await chunks.get()
        return got

    try:
        last = await asyncio.wait_for(stop(), settle_s)
    except (ClientError, asyncio.TimeoutError):
        _LOG.warning("the server did not say within %g s how many tokens it wrote", settle_s)
        return
    if isinstance(last, Chunk):
        note_last(last)
