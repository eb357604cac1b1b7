"""Requests one batch after another, for a model that knows nothing but whole batches.

Comes in: a model that continues several prompts at once. Goes out: the `Model` that workers are
asked for. What waits when a batch begins is taken into it, up to so many; what comes later waits
until its last row is whole. With one at a time that is a queue in front of `generate`; with more
it is the micro-batching of tutorials.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.peers.serving import Model, OpenModel, Options

Steps = Generator[Sequence[tuple[int, int]], None, None]


class BatchModel(Protocol):
    """Weights, and a loop over them."""

    def generate(self, prompts: Sequence[Sequence[int]], num_new: int) -> Steps:
        """Row by row of the prompts, or all rows at once: rows and their next tokens.

        Each gets `num_new`. Closed early it ends the work.
        """
        ...


@dataclass(slots=True)
class Row:
    """A prompt, and how many tokens it still wants; 0 once it was given up."""

    key: int
    prompt: Sequence[int]
    num_left: int


class Batched:
    """At most `max_batch` prompts at once."""

    def __init__(self, model: BatchModel, max_batch: int) -> None:
        self._model = model
        self._max_batch = max_batch
        self._waiting: deque[Row] = deque()
        self._rows: list[Row] = []
        self._steps: Steps | None = None

    def add(self, key: int, prompt: Sequence[int], num_new: int) -> None:
        """It waits for the next batch."""
        self._waiting.append(Row(key, prompt, num_new))

    def cancel(self, key: int) -> None:
        """Its row computes on for nothing, unless it was the batch's last."""
        for row in (*self._waiting, *self._rows):
            if row.key == key:
                row.num_left = 0

    def step(self) -> list[tuple[int, int]]:
        """The next tokens of rows that want them."""
        if not any(row.num_left for row in self._rows):
            self._begin()
        if self._steps is None:
            return []
        found = []
        for place, token in next(self._steps):
            row = self._rows[place]
            if row.num_left:
                row.num_left -= 1
                found.append((row.key, token))
        return found

    def _begin(self) -> None:
        if self._steps is not None:
            self._steps.close()
            self._steps = None
        wanted = [row for row in self._waiting if row.num_left]
        self._rows, self._waiting = wanted[: self._max_batch], deque(wanted[self._max_batch :])
        if self._rows:
            prompts = [row.prompt for row in self._rows]
            self._steps = self._model.generate(prompts, max(row.num_left for row in self._rows))


def batched(open_model: Callable[[Options], BatchModel]) -> OpenModel:
    """Opens it behind such a queue, with batches of `max_sequences`."""

    def open_batched(options: Options) -> Model:
        return Batched(open_model(options), options.max_sequences)

    return open_batched
