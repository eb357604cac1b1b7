"""One question to a server and what became of it, by the clock.

Comes in: a Target and a Question. Goes out: an Asked, filled while the answer comes, whatever ends
it. Knows nothing of who asks, nor what a good answer is.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field

from benchmarks.common.target import Target, TargetError

ENGINE = "engine"
ANSWER_TIMEOUT_S = 300.0  # of a server that hangs; slow ones take a minute
MAX_ERROR = 120  # characters: many failures of one kind are one line of a report


@dataclass(frozen=True, slots=True)
class Question:
    """What a target is asked."""

    prompt: str
    max_tokens: int


@dataclass(slots=True)
class Asked:
    """One question, as far as it was answered; seconds count from `asked_s`.

    `left_s` is when nobody wanted the answer any more, which may have come all the same; with
    `is_cut` because the stretch of time was over.
    """

    id: str | None = None
    source: str = ENGINE  # or the cache that answered
    first_s: float | None = None
    last_s: float | None = None
    total_s: float | None = None
    left_s: float | None = None
    text: str = ""
    num_pieces: int = 0
    tokens: int | None = None  # once the answer is whole
    error: str | None = None
    is_cut: bool = False
    early_tokens: int = 0  # that came before the stretch began
    asked_s: float = field(default_factory=time.perf_counter)

    @property
    def read_tokens(self) -> int:
        """Tokens that came; of an answer that isn't whole a piece counts as one."""
        return self.num_pieces if self.tokens is None else self.tokens

    @property
    def gap_s(self) -> float | None:
        """Mean seconds between tokens after the first piece; None where there were no two."""
        if self.first_s is None or self.last_s is None or self.num_pieces < 2:
            return None
        return (self.last_s - self.first_s) / max(1, self.read_tokens - 1)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody wanted what came."""
        return self.left_s is None or self.is_cut

    def mark(self) -> None:
        """The stretch begins; what came until now isn't of it."""
        self.early_tokens = self.read_tokens

    def take(self, text: str, at_s: float) -> None:
        """Some more text, at a time of `time.perf_counter`."""
        if not text:
            return
        self.last_s = at_s - self.asked_s
        if self.first_s is None:
            self.first_s = self.last_s
        self.num_pieces += 1
        self.text += text

    def end(self, num_tokens: int | None) -> None:
        """The answer is whole; servers that don't count tokens send each as a piece."""
        self.total_s = self._age_s()
        self.tokens = self.num_pieces if num_tokens is None else num_tokens

    def leave(self) -> None:
        """Nobody wants it any more, unless it has ended."""
        if self._is_open():
            self.left_s = self._age_s()

    def cut(self) -> None:
        """The stretch is over; what came until now was read."""
        self.is_cut = self._is_open()
        self.leave()

    def fail(self, error: str) -> None:
        """It has no whole answer and will get none."""
        self.error = error.strip().partition("\n")[0][:MAX_ERROR]

    def _is_open(self) -> bool:
        return self.total_s is None and self.left_s is None and self.error is None

    def _age_s(self) -> float:
        return time.perf_counter() - self.asked_s


async def ask(target: Target, question: Question, asked: Asked) -> None:
    """Read the answer to its end into `asked`; what fails is noted there, a cancelled task leaves.

    A question that has no whole answer after ANSWER_TIMEOUT_S has failed.
    """
    num_tokens = None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            async with aclosing(target.complete(question.prompt, question.max_tokens)) as pieces:
                async for piece in pieces:
                    asked.take(piece.text, piece.at_s)
                    if piece.num_tokens is not None:
                        num_tokens = piece.num_tokens
    except TargetError as error:
        asked.fail(str(error))
    except TimeoutError:
        asked.fail(f"no whole answer within {ANSWER_TIMEOUT_S:g} s")
    except asyncio.CancelledError:
        asked.leave()
        raise
    else:
        asked.end(num_tokens)
