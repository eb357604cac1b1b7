"""So many users, each asking anew as soon as the answer came: what one server gave them.

Comes in: a target, requests, how long. Goes out: a Window of figures. Those who have no whole
answer at its end leave. Knows nothing of which server it is.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from benchmarks.target import Target, TargetError
from nanotriton.tokenizer import Tokenizer

PROMPT_TOKENS, NEW_TOKENS = (32, 256), (32, 64)
MAX_TOKENS = PROMPT_TOKENS[1] + NEW_TOKENS[1]
CHARACTERS_A_TOKEN = 16  # more than any text has: enough of it to cut the prompt from
REFUSED_S = 0.2  # before somebody asks again
SETTLING_S = 300.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    prompt: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds from asking to the first text; at least so many where none came in time."""

    seconds: float
    is_bound: bool


@dataclass(slots=True)
class Window:
    """What came in so many seconds.

    Tokens of whole answers are those that the server counted; of one that was left, its pieces,
    which a server may have filled with more than one.
    """

    seconds: float
    num_tokens: int = 0
    num_whole: int = 0
    waits: list[Wait] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def tokens_per_s(self) -> float:
        """Of all users together."""
        return self.num_tokens / self.seconds

    @property
    def first(self) -> Wait | None:
        """The median wait; None when nobody waited."""
        ordered = sorted(self.waits, key=lambda one: one.seconds)
        return ordered[len(ordered) // 2] if ordered else None


def draw_asks(texts: Sequence[str], tokenizer: Tokenizer, seed: int) -> Iterator[Ask]:
    """Requests without end: pieces of the texts from the start of a line, each another one."""
    draw = random.Random(seed)
    while True:
        num_tokens, num_new = draw.randint(*PROMPT_TOKENS), draw.randint(*NEW_TOKENS)
        text = draw.choice(texts)
        start = text.find("\n", draw.randrange(len(text))) + 1
        ids = tokenizer.encode(text[start : start + num_tokens * CHARACTERS_A_TOKEN])[:num_tokens]
        if prompt := tokenizer.decode(ids):
            yield Ask(prompt, num_new)


async def ask_for(target: Target, asks: Iterator[Ask], num_users: int, seconds: float) -> Window:
    """Let all users ask, or until there is nothing to ask; afterwards the server is idle."""
    window = Window(seconds)
    users = [asyncio.create_task(_ask_on(target, asks, window)) for _ in range(num_users)]
    await asyncio.wait(users, timeout=seconds)
    for user in users:
        user.cancel()
    for result in await asyncio.gather(*users, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    await _settle(target)
    return window


async def _ask_on(target: Target, asks: Iterator[Ask], window: Window) -> None:
    for ask in asks:
        try:
            await _ask(target, ask, window)
        except TargetError as error:
            window.errors[str(error)] += 1
            await asyncio.sleep(REFUSED_S)


async def _ask(target: Target, ask: Ask, window: Window) -> None:
    started = time.perf_counter()
    first, num_pieces, num_tokens = None, 0, None
    try:
        async with aclosing(target.complete(ask.prompt, ask.max_tokens)) as pieces:
            async for piece in pieces:
                num_pieces += 1
                num_tokens = piece.num_tokens or num_tokens
                if piece.text and first is None:
                    first = Wait(piece.at_s - started, is_bound=False)
        window.num_whole += 1
    except asyncio.CancelledError:
        first = first or Wait(time.perf_counter() - started, is_bound=True)
        raise
    finally:
        window.num_tokens += num_pieces if num_tokens is None else num_tokens
        window.waits += [first] if first else []


async def _settle(target: Target) -> None:
    """Until what was left is out of the server's way: some can't give up what they began."""
    try:
        async with asyncio.timeout(SETTLING_S):
            async with aclosing(target.complete("def", 1)) as pieces:
                async for _ in pieces:
                    pass
    except (TimeoutError, TargetError):
        return  # the next window tells
