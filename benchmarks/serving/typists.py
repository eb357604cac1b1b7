"""People at editors: they type, pause, are shown suggestions, take or dismiss them, and type on.

Comes in: functions to type, an editor for each typist. Goes out: a Tally of what was asked,
answered and acknowledged. A typist writes what the author wrote, so a suggestion is right as far as
it says the same: whoever notices takes that part, and types along with it otherwise. Each keystroke
gives up the question before it. What a typist does follows from its number and from when answers
come.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from math import log

from benchmarks.serving.editors import SUPERSEDED, Editor, EventKind
from benchmarks.serving.questions import Asked
from benchmarks.serving.workload import Typed

# Log-normal: seconds in the middle, and the spread of their logarithm. Keys are 0.23 s apart in the
# mean; of 168,000 typists it was 0.24 s (Dhakal et al., Observations on Typing from 136 Million
# Keystrokes, CHI 2018). A thought is longer than 2 s about as often as not: the micro-pauses of
# Shrestha et al., Pausing While Programming, ICSE-SEET 2022.
KEY_S, KEY_SPREAD = 0.2, 0.5
THOUGHT_S, THOUGHT_SPREAD = 2.0, 0.8
THOUGHT_AFTER_LINE, THOUGHT_AFTER_WORD = 0.5, 0.05  # shares
TYPO_SHARE = 0.04
NOTICE_SHARE, LEAST_NOTICED = 0.5, 3  # of right suggestions; characters that are right
LEAVE_SHARE = 0.5  # of the questions given up: closed at the key; the others by the next question
BACKSPACE = "\b"
LAST_ANSWERS_S = 30.0  # for what is under way when time is up


@dataclass(frozen=True, slots=True)
class Typing:
    """Who types what, and for how long; an editor asks after `debounce_s` without a key."""

    num_users: int
    seconds: float
    max_tokens: int
    debounce_s: float
    texts: Sequence[Typed]
    seed: int = 0


@dataclass(slots=True)
class Tally:
    """What happened to all typists; `is_cut` once the gateway was killed: errors are ours then."""

    asked: list[Asked] = field(default_factory=list)
    events: set[tuple[str, EventKind]] = field(default_factory=set)  # those acknowledged
    num_left: int = 0
    num_superseded: int = 0
    num_keys: int = 0
    num_accepted: int = 0  # suggestions
    errors: Counter[str] = field(default_factory=Counter)
    is_cut: bool = False

    @property
    def whole(self) -> list[Asked]:
        """The questions whose whole answer came."""
        return [one for one in self.asked if one.tokens is not None]


class Typist:
    """One of them."""

    def __init__(self, number: int, editor: Editor, typing: Typing, tally: Tally) -> None:
        self._editor = editor
        self._typing = typing
        self._tally = tally
        self._name = f"{typing.seed}.{number}"
        self._random = random.Random(self._name)
        self._asking: asyncio.Task[None] | None = None
        self._asked: Asked | None = None  # by the task above, once the editor has waited
        self._under_way: set[asyncio.Task[None]] = set()

    async def type(self, start_s: float = 0.0) -> None:
        """Type until cancelled; then the questions under way get their answers."""
        try:
            await asyncio.sleep(start_s)
            for one in self._shuffled():
                # A file of their own: nobody profits from what a colleague typed.
                await self._type_text(f"# {self._name}\n{one.above}", one.text)
        finally:
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=LAST_ANSWERS_S)
            self._editor.close()

    def _shuffled(self) -> Iterator[Typed]:
        texts = self._typing.texts
        while True:
            yield from self._random.sample(texts, len(texts))

    async def _type_text(self, document: str, pending: str) -> None:
        accepted = 0
        while pending:
            key, pending = self._next_key(pending, accepted)
            document = document[:-1] if key == BACKSPACE else document + key
            self._tally.num_keys += 1
            self._give_up()
            self._ask_soon(document)
            await asyncio.sleep(self._pause_s(key))
            accepted = 0
            if (shown := self._shown()) and pending:
                kind, accepted = self._choose(shown.text, pending)
                self._tally.num_accepted += kind == "accepted"
                self._start(self._tell(shown, kind))

    def _next_key(self, pending: str, accepted: int) -> tuple[str, str]:
        """What is written next, and what is left: a suggestion's part, or a key, at times wrong.

        The editor indents a new line by itself.
        """
        if accepted:
            return pending[:accepted], pending[accepted:]
        if self._random.random() < TYPO_SHARE and pending[0] != BACKSPACE:
            return "x", BACKSPACE + pending
        if pending[0] != "\n":
            return pending[0], pending[1:]
        rest = pending[1:].lstrip(" ")
        return pending[: len(pending) - len(rest)], rest

    def _pause_s(self, key: str) -> float:
        """Until the next key: a thought, or none."""
        ends_line, ends_word = key.startswith("\n"), not key[-1].isalnum()
        share = THOUGHT_AFTER_LINE if ends_line else THOUGHT_AFTER_WORD if ends_word else 0.0
        pause_s = self._random.lognormvariate(log(KEY_S), KEY_SPREAD)
        if self._random.random() < share:
            pause_s += self._random.lognormvariate(log(THOUGHT_S), THOUGHT_SPREAD)
        return pause_s

    def _choose(self, shown: str, pending: str) -> tuple[EventKind | None, int]:
        """What becomes of a suggestion, and how many of its characters are taken."""
        pairs = zip(shown, pending, strict=False)
        num_right = next(
            (place for place, (one, other) in enumerate(pairs) if one != other),
            min(len(shown), len(pending)),
        )
        if not num_right:
            return "dismissed", 0
        if num_right < LEAST_NOTICED or self._random.random() >= NOTICE_SHARE:
            return None, 0
        return "accepted", num_right

    def _give_up(self) -> None:
        """The question before this keystroke; a closed connection or a newer question ends it."""
        if self._asked:
            self._asked.leave()
        is_open = self._asking is not None and not self._asking.done()
        if is_open and self._random.random() < LEAVE_SHARE:
            assert self._asking is not None
            self._asking.cancel()
            self._tally.num_left += self._asked is not None

    def _ask_soon(self, document: str) -> None:
        self._asked = None
        self._asking = self._start(self._ask(document))

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _shown(self) -> Asked | None:
        """The suggestion on the screen."""
        asked = self._asked
        return asked if asked and asked.tokens is not None and asked.text else None

    async def _ask(self, document: str) -> None:
        await asyncio.sleep(self._typing.debounce_s)
        if asyncio.current_task() is not self._asking:
            return  # a key came
        asked = self._asked = Asked()
        self._tally.asked.append(asked)
        await self._editor.ask(asked, document, self._typing.max_tokens)
        if asked.error == SUPERSEDED:
            self._tally.num_superseded += 1
            asked.error = None
            asked.leave()
        elif asked.error:
            self._fail(asked.error)

    async def _tell(self, asked: Asked, kind: EventKind | None) -> None:
        """Say what became of it; noted here only once it was acknowledged."""
        kinds: list[EventKind] = ["shown", kind] if kind else ["shown"]
        taken = await self._editor.tell(asked, kinds)
        if taken:
            assert asked.id is not None
            self._tally.events |= {(asked.id, one) for one in kinds}
        elif taken is False:
            self._fail("events")

    def _fail(self, kind: str) -> None:
        if not self._tally.is_cut:
            self._tally.errors[kind] += 1
