"""The editor between a typist and a server: it asks how a document goes on, and tells what came.

Comes in: a document. Goes out: an Asked that fills while the answer comes. A newer question ends
the older one: a GatewayEditor asks in its typist's session, which does that, and tells the gateway
what became of suggestions; a TargetEditor has nothing but its connection, and closes it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from typing import Literal, Protocol

from benchmarks.common.http_door import Answer, Door
from benchmarks.common.target import Target
from benchmarks.serving.questions import ENGINE, Asked, Question, ask

EventKind = Literal["shown", "accepted", "dismissed"]
SUPERSEDED = "superseded"


class Editor(Protocol):
    """One typist's."""

    async def ask(self, asked: Asked, document: str, max_tokens: int) -> None:
        """Read the answer into `asked`; what fails is noted there. Cancelled, it leaves."""
        ...

    async def tell(self, asked: Asked, kinds: Collection[EventKind]) -> bool | None:
        """Say what became of a suggestion; whether it was taken, None where nobody heard."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


class TargetEditor:
    """Any server that completes; it is never told anything, and closed by whoever opened it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._asking: asyncio.Task[object] | None = None

    async def ask(self, asked: Asked, document: str, max_tokens: int) -> None:
        """One completion; the connection of the one before is closed."""
        if self._asking:
            self._asking.cancel()
        self._asking = asyncio.current_task()
        await ask(self._target, Question(document, max_tokens), asked)

    async def tell(self, asked: Asked, kinds: Collection[EventKind]) -> bool | None:
        """Nobody hears."""
        del asked, kinds
        return None

    def close(self) -> None:
        """Nothing of its own."""


class GatewayEditor:
    """The gateway, by a session of the typist's own, with the ids and counts of its books."""

    def __init__(self, name: str, door: Door, *, is_streamed: bool = True) -> None:
        self._name = name
        self._door = door
        self._is_streamed = is_streamed

    async def ask(self, asked: Asked, document: str, max_tokens: int) -> None:
        """One completion in the typist's session."""
        try:
            await self._read(asked, document, max_tokens)
        except (OSError, EOFError, ValueError) as error:
            asked.fail(type(error).__name__)
        finally:
            asked.leave()  # unless it is whole, or has failed

    async def tell(self, asked: Asked, kinds: Collection[EventKind]) -> bool | None:
        """True once the gateway has acknowledged it."""
        assert asked.id is not None
        events = [{"id": asked.id, "kind": one} for one in kinds]
        with suppress(OSError, EOFError):
            async with self._door.post("/v1/events", {"events": events}) as answer:
                told = json.loads(await answer.body())
            return answer.status == 200 and told["taken"] == len(kinds)
        return None

    def close(self) -> None:
        """Close what is idle."""
        self._door.close()

    async def _read(self, asked: Asked, document: str, max_tokens: int) -> None:
        body: dict[str, object] = {
            "prompt": document,
            "max_tokens": max_tokens,
            "temperature": 0,
            "truncate": "left",
            "token_healing": True,
            "session": self._name,
            "user": self._name,
        }
        if self._is_streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        num_tokens = None
        async with self._door.post("/v1/completions", body) as answer:
            if answer.status != 200:
                asked.fail(json.loads(await answer.body())["error"]["type"])
                return
            asked.source = answer.headers.get("x-nanotriton-cache", ENGINE)
            async for told in _events(answer) if self._is_streamed else _whole(answer):
                num_tokens = _take(asked, told) or num_tokens
        if asked.error is None:
            asked.end(num_tokens)


async def _events(answer: Answer) -> AsyncIterator[dict[str, object]]:
    async for piece in answer.pieces():
        for line in piece.splitlines():
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])


async def _whole(answer: Answer) -> AsyncIterator[dict[str, object]]:
    yield json.loads(await answer.body())


def _take(asked: Asked, event: dict[str, object]) -> int | None:
    """Of one event its text, or what is wrong; the number of tokens where it has that."""
    if isinstance(error := event.get("error"), dict):
        asked.fail(error["type"])
        return None
    asked.id = str(event["id"])
    for choice in event["choices"]:  # type: ignore[attr-defined]
        asked.take(choice["text"], time.perf_counter())
    usage = event.get("usage")
    return int(usage["completion_tokens"]) if isinstance(usage, dict) else None
