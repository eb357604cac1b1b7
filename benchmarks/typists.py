"""People at editors: they type, pause, are shown suggestions, take or dismiss them, and type on.

Comes in: text to type, a door to the gateway. Goes out: a Tally of what was asked, answered and
acknowledged. What a typist does follows from its number and from when answers come. Each keystroke
gives up the question before it: by closing its connection, or by asking anew in the same session,
which the gateway must notice by itself.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.http_door import Door

ENGINE = "engine"
KEY_S = (0.08, 0.3)
THINK_S = (0.8, 3.0)
THINK_SHARE, TYPO_SHARE, LEAVE_SHARE = 0.2, 0.04, 0.5
ACCEPT_SHARE, FOLLOW_SHARE = 0.3, 0.35  # of what is shown; the rest is dismissed
FOLLOWED_CHARS = 6
HEAD_CHARS = 400
BACKSPACE = "\b"
LAST_ANSWERS_S = 30.0  # for what is under way when time is up

EventKind = Literal["shown", "accepted", "dismissed"]


@dataclass(frozen=True, slots=True)
class Typing:
    """Who types what, and for how long; an editor asks after `debounce_s` without a key."""

    num_users: int
    seconds: float
    max_tokens: int
    debounce_s: float
    texts: Sequence[tuple[str, str]]  # what stands above, what is typed


@dataclass(slots=True)
class Asked:
    """One question, as far as it was answered."""

    id: str | None = None
    source: str = ENGINE  # or the cache that answered
    first_s: float | None = None
    total_s: float | None = None
    text: str = ""
    tokens: int | None = None  # once the answer is whole


@dataclass(slots=True)
class Tally:
    """What happened to all typists; `is_cut` once the gateway was killed: errors are ours then."""

    asked: list[Asked] = field(default_factory=list)
    events: set[tuple[str, EventKind]] = field(default_factory=set)  # those acknowledged
    num_left: int = 0
    num_superseded: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    is_cut: bool = False

    @property
    def whole(self) -> list[Asked]:
        """The questions whose whole answer came."""
        return [one for one in self.asked if one.tokens is not None]


class Typist:
    """One of them."""

    def __init__(self, number: int, door: Door, typing: Typing, tally: Tally) -> None:
        self._name = f"typist-{number}"
        self._door = door
        self._texts = typing.texts
        self._debounce_s = typing.debounce_s
        self._max_tokens = typing.max_tokens
        self._tally = tally
        self._random = random.Random(number)
        self._asking: asyncio.Task[Asked | None] | None = None
        self._under_way: set[asyncio.Task[Asked | None]] = set()

    async def type(self) -> None:
        """Type until cancelled; then the questions under way get their answers."""
        try:
            for above, text in self._shuffled():
                await self._type_text(above[-HEAD_CHARS:], text)
        finally:
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=LAST_ANSWERS_S)
            self._door.close()

    def _shuffled(self) -> Iterator[tuple[str, str]]:
        while True:
            yield from self._random.sample(self._texts, len(self._texts))

    async def _type_text(self, document: str, pending: str) -> None:
        while pending:
            if self._random.random() < TYPO_SHARE and pending[0] != BACKSPACE:
                pending = f"x{BACKSPACE}{pending}"
            key, pending = pending[0], pending[1:]
            document = document[:-1] if key == BACKSPACE else document + key
            self._give_up()
            self._ask_soon(document)
            thinks = self._random.random() < THINK_SHARE
            await asyncio.sleep(self._random.uniform(*(THINK_S if thinks else KEY_S)))
            if shown := self._shown():
                kind, document, pending = self._choose(shown.text, document, pending)
                await self._tell(shown, kind)

    def _choose(self, shown: str, document: str, pending: str) -> tuple[EventKind | None, str, str]:
        """What becomes of a suggestion, and of the text."""
        draw = self._random.random()
        if draw < ACCEPT_SHARE:
            return "accepted", document + shown, pending
        if draw < ACCEPT_SHARE + FOLLOW_SHARE:
            return None, document, shown[:FOLLOWED_CHARS] + pending
        return "dismissed", document, pending

    def _give_up(self) -> None:
        """The question before this keystroke; a closed connection or a newer question ends it."""
        if self._asking and not self._asking.done() and self._random.random() < LEAVE_SHARE:
            self._asking.cancel()

    def _ask_soon(self, document: str) -> None:
        self._asking = asyncio.create_task(self._ask(document))
        self._under_way.add(self._asking)
        self._asking.add_done_callback(self._under_way.discard)

    def _shown(self) -> Asked | None:
        """The suggestion on the screen."""
        if not self._asking or not self._asking.done() or self._asking.cancelled():
            return None
        asked = self._asking.result()
        return asked if asked and asked.text else None

    async def _ask(self, document: str) -> Asked | None:
        """The whole answer; None for none."""
        mine = asyncio.current_task()
        await asyncio.sleep(self._debounce_s)
        if mine is not self._asking:
            return None  # a key came
        asked = Asked()
        self._tally.asked.append(asked)
        try:
            await self._read(asked, document)
        except asyncio.CancelledError:
            self._tally.num_left += 1
            raise
        except (OSError, EOFError, ValueError) as error:
            self._fail(type(error).__name__)
        return asked if asked.tokens is not None else None

    async def _read(self, asked: Asked, document: str) -> None:
        body = {
            "prompt": document,
            "max_tokens": self._max_tokens,
            "temperature": 0,
            "truncate": "left",
            "stream": True,
            "stream_options": {"include_usage": True},
            "session": self._name,
            "user": self._name,
        }
        started = time.perf_counter()
        async with self._door.post("/v1/completions", body) as answer:
            if answer.status != 200:
                self._fail(json.loads(await answer.body())["error"]["type"])
                return
            asked.source = answer.headers.get("x-nanotriton-cache", ENGINE)
            async for piece in answer.pieces():
                for line in piece.splitlines():
                    if line.startswith(b"data: {"):
                        self._note(asked, json.loads(line[6:]), time.perf_counter() - started)
        asked.total_s = time.perf_counter() - started

    def _note(self, asked: Asked, event: dict[str, object], after_s: float) -> None:
        if isinstance(error := event.get("error"), dict):
            self._fail(error["type"])
            return
        asked.id = str(event["id"])
        for choice in event["choices"]:  # type: ignore[attr-defined]
            asked.text += choice["text"]
            asked.first_s = asked.first_s or after_s
        if isinstance(usage := event.get("usage"), dict):
            asked.tokens = usage["completion_tokens"]

    async def _tell(self, asked: Asked, kind: EventKind | None) -> None:
        """Say what became of it; noted here only once the gateway has acknowledged it."""
        assert asked.id is not None
        kinds: list[EventKind] = ["shown", kind] if kind else ["shown"]
        events = [{"id": asked.id, "kind": one} for one in kinds]
        with suppress(OSError, EOFError):
            async with self._door.post("/v1/events", {"events": events}) as answer:
                told = json.loads(await answer.body())
            if answer.status == 200 and told["taken"] == len(kinds):
                self._tally.events |= {(asked.id, one) for one in kinds}
            else:
                self._fail("events")

    def _fail(self, kind: str) -> None:
        if kind == "superseded":
            self._tally.num_superseded += 1
        elif not self._tally.is_cut:
            self._tally.errors[kind] += 1
