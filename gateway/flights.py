"""One request under way: what is known of it so far, and how it is ended from outside.

Comes in: the chunks that pass. Goes out: usage, times, the whole answer, the headers to send. A
flight ends early for one reason, the first that is given: a newer request of its session, a caller
that left, its deadline. Belongs to one event loop; knows nothing of FastAPI or Triton.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from clients import Chunk
from clients.messages import TokenLogprob
from gateway.errors import GatewayError
from gateway.messages import (
    Answer,
    Caller,
    CompletionRequest,
    Finished,
    Outcome,
    Served,
    Times,
    Usage,
)
from gateway.stages import Trace


@dataclass(slots=True)
class _Text:
    """What came of one text."""

    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str = ""


class Flight:
    """To be made by the task that serves the request; `stop` may be called from any other."""

    def __init__(
        self,
        caller: Caller,
        request: CompletionRequest,
        clock: Callable[[], float] = time.monotonic,
        trace: Trace | None = None,
    ) -> None:
        self.caller = caller
        self.request = request
        self.trace = trace
        self.served: Served | None = None
        self.usage = Usage()
        self.headers: dict[str, str] = {}  # of the answer
        self.reason: GatewayError | None = None
        self.outcome: Outcome | None = None  # None while it is under way
        self.has_begun = False  # it went to the engine
        self.cost: float | None = None  # once it ended, where there are prices
        self._clock = clock
        self._received = clock()
        self._started_at = time.time()
        self._first_text: float | None = None
        self._texts: dict[int, _Text] = {}
        self._task: asyncio.Task[object] | None = None

    def board(self) -> None:
        """From here on the current task is what `stop` cancels; raises what it was stopped for."""
        self._task = asyncio.current_task()
        if self.reason is not None:
            raise self.reason

    def stop(self, reason: GatewayError) -> None:
        """End it for this reason; harmless when it has ended, or is ending for another."""
        if self.outcome is None and self.reason is None:
            self.reason = reason
            if self._task is not None:
                self._task.cancel()

    def landed(self) -> GatewayError | None:
        """Why it was stopped, once the cancellation has arrived in its task."""
        if self.reason is not None and self._task is not None:
            getattr(self._task, "uncancel", int)()  # Python 3.10 doesn't count cancellations
        return self.reason

    def left_s(self) -> float:
        """Seconds until its deadline, below 0 when that is over."""
        return self._received + self.request.timeout_s - self._clock()

    def note(self, chunk: Chunk) -> None:
        """Remember what passes."""
        if self._first_text is None and chunk.text:
            self._first_text = self._clock()
        text = self._texts.setdefault(chunk.index, _Text())
        text.pieces.append(chunk.text)
        text.logprobs += chunk.logprobs
        if chunk.finish_reason:
            text.finish_reason = chunk.finish_reason
        if chunk.prompt_tokens is not None:
            self.usage = Usage(chunk.prompt_tokens, chunk.completion_tokens or 0)

    @property
    def has_text(self) -> bool:
        """Whether a piece of the answer has passed."""
        return bool(self._texts)

    @property
    def is_cut_short(self) -> bool:
        """Whether the engine ended a text because its time was over."""
        return any(text.finish_reason == "timeout" for text in self._texts.values())

    def answer(self) -> Answer:
        """All that passed."""
        texts = [self._texts[index] for index in sorted(self._texts)]
        return Answer(
            tuple("".join(one.pieces) for one in texts),
            tuple(one.finish_reason for one in texts),
            self.usage,
            tuple(tuple(one.logprobs) for one in texts),
        )

    def finished(self, outcome: Outcome, error: str | None = None) -> Finished:
        """What is told of its end."""
        self.outcome = outcome
        times = Times(self._received, self._clock(), self._first_text, self._started_at)
        return Finished(
            self.request, outcome, times, self.caller, self.served, self.usage, error=error
        )


def chunks_of(answer: Answer) -> list[Chunk]:
    """An answer as if it came from Triton: a chunk for each text, the last with the counts."""
    logprobs = answer.logprobs or ((),) * len(answer.texts)
    rows = list(zip(answer.texts, answer.finish_reasons, logprobs, strict=True))
    chunks = [Chunk(*row[:2], None, None, row[2], index) for index, row in enumerate(rows[:-1])]
    text, reason, likely = rows[-1]
    usage = answer.usage
    counts = usage.prompt_tokens, usage.completion_tokens
    return [*chunks, Chunk(text, reason, *counts, likely, len(chunks))]
