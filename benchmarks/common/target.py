"""What a workload asks: one server, whichever it is, that completes prompts piece by piece.

Comes in: an address, and what every request to it carries. Goes out: pieces of text with the time
that each came. Whoever leaves the pieces early gives the request up: its connection is closed, or
its stream cancelled. Knows nothing of who asks, nor how often.

    async with aclosing(target.complete(prompt, 32)) as pieces:
        async for piece in pieces:
            ...
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

from benchmarks.common.http_door import Answer, Door
from clients import AsyncCompletionClient, ClientError
from clients.messages import Settings

DATA = b"data: "
DONE = b"[DONE]"
MAX_SHOWN = 300  # characters of what a server said


class TargetError(Exception):
    """A request that did not get its whole answer; the message says what the server said."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more text, at a time of `time.perf_counter`; the last one may have none.

    `num_tokens` counts the whole answer's, as the server tells it; None before it has.
    """

    at_s: float
    text: str
    num_tokens: int | None = None


class Target(Protocol):
    """One server; made and closed inside the event loop that asks."""

    name: str

    def complete(self, prompt: str, max_tokens: int) -> AsyncGenerator[Piece, None]:
        """The greedy completion of a prompt; raises TargetError."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class HttpTarget:
    """Any server that has OpenAI's `/v1/completions` with streaming: the gateway, a peer.

    `url` is HOST:PORT. `settings` are sent with every request, as its JSON takes them.
    """

    path = "/v1/completions"

    def __init__(
        self,
        name: str,
        url: str,
        *,
        key: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.name = name
        self._door = Door(url, key)
        self._settings = settings or {}

    async def complete(self, prompt: str, max_tokens: int) -> AsyncGenerator[Piece, None]:
        """One request on a connection of its own."""
        is_whole = False
        try:
            async with self._door.post(self.path, self._body(prompt, max_tokens)) as answer:
                if answer.status != 200:
                    raise TargetError(f"HTTP {answer.status}: {_shown(await answer.body())}")
                async for event in _events(answer):
                    if event != DONE:
                        piece = self._piece(event)
                        is_whole |= piece.num_tokens is not None
                        yield piece
        except (OSError, EOFError, ValueError) as error:  # the last: no HTTP
            raise TargetError(f"{type(error).__name__}: {error}") from None
        if not is_whole:
            raise TargetError("the answer ended before its count of tokens")

    async def close(self) -> None:
        """Close what is idle."""
        self._door.close()

    def _body(self, prompt: str, max_tokens: int) -> dict[str, object]:
        return {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._settings,
        }

    def _piece(self, event: bytes) -> Piece:
        """Of an event's JSON; raises TargetError when that is an error."""
        told, now = _told(event), time.perf_counter()
        try:
            usage = told.get("usage") or {}
            text = "".join(choice["text"] or "" for choice in told["choices"])
            return Piece(now, text, usage.get("completion_tokens"))
        except (KeyError, TypeError, AttributeError):
            raise TargetError(f"no event of a completion: {_shown(event)}") from None


class GenerateTarget(HttpTarget):
    """A decoupled Triton model `gpt` that is asked by Triton's own HTTP front."""

    path = "/v2/models/gpt/generate_stream"

    def _body(self, prompt: str, max_tokens: int) -> dict[str, object]:
        return {"text_input": prompt, "max_tokens": max_tokens, **self._settings}

    def _piece(self, event: bytes) -> Piece:
        told, now = _told(event), time.perf_counter()
        try:
            return Piece(now, told["text_output"], told["completion_tokens"] or None)
        except KeyError:
            raise TargetError(f"no response of a model: {_shown(event)}") from None


class TritonTarget:
    """Our own Triton, asked over gRPC without a gateway; `url` is HOST:PORT."""

    def __init__(self, name: str, url: str, **settings: Unpack[Settings]) -> None:
        self.name = name
        self._client = AsyncCompletionClient(url, retries=0)
        self._settings: Settings = {"temperature": 0.0, **settings}

    async def complete(self, prompt: str, max_tokens: int) -> AsyncGenerator[Piece, None]:
        """One stream."""
        settings: Settings = {**self._settings, "max_tokens": max_tokens}
        try:
            async with self._client.stream(prompt, **settings) as chunks:
                async for chunk in chunks:
                    yield Piece(time.perf_counter(), chunk.text, chunk.completion_tokens)
        except ClientError as error:
            raise TargetError(f"{type(error).__name__}: {error}") from None

    async def close(self) -> None:
        """Close the channel."""
        await self._client.close()


async def _events(answer: Answer) -> AsyncIterator[bytes]:
    """What stands behind each `data: `; an event may come in several pieces of the body."""
    rest = b""
    async for piece in answer.pieces():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(DATA):
                yield line.removeprefix(DATA).strip()


def _told(event: bytes) -> dict[str, Any]:
    """An event's JSON; raises TargetError when that is an error."""
    try:
        told = json.loads(event)
    except ValueError:
        told = None
    if not isinstance(told, dict) or "error" in told:
        raise TargetError(_shown(event))
    return told


def _shown(said: bytes) -> str:
    return said.decode(errors="replace")[:MAX_SHOWN]
