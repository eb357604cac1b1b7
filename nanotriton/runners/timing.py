"""Runners in, seconds of their steps out.

All runners take each step in turn, so that they see the same noise: medians and ratios of pairs
mean something where absolute times of a busy machine don't. Knows nothing of what it compares.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotriton.runners.base import Batch, Chunk, Decode, Runner

PAST = 256  # tokens that a sequence has when a decode step is timed


@dataclass(frozen=True, slots=True)
class Timing:
    """One step's seconds, (runners, rounds)."""

    num_tokens: int
    seconds: NDArray[np.float64]

    def tokens_s(self, runner: int) -> float:
        """Median tokens a second."""
        return self.num_tokens / float(np.median(self.seconds[runner]))

    def ratio(self, runner: int, to: int = 0) -> float:
        """How many times as fast as the runner `to`: the median of what each round gave."""
        return float(np.median(self.seconds[to] / self.seconds[runner]))

    def half(self, which: int) -> "Timing":
        """Of the even (0) or the odd (1) rounds alone: how far a figure can be trusted."""
        return Timing(self.num_tokens, self.seconds[:, which::2])

    def spread(self, runner: int) -> float:
        """The noise: the distance of the quartiles, as a share of the median."""
        low, middle, high = np.quantile(self.seconds[runner], (0.25, 0.5, 0.75))
        return float((high - low) / middle)


def time_steps(runners: Sequence[Runner], batches: Sequence[Batch], rounds: int) -> list[Timing]:
    """Run every step on every runner, `rounds` times after one that doesn't count."""
    seconds = np.empty((rounds + 1, len(batches), len(runners)))
    for by_batch in seconds:
        for batch, by_runner in zip(batches, by_batch, strict=True):
            for at, runner in enumerate(runners):
                started = time.perf_counter()
                runner.run(batch)
                by_runner[at] = time.perf_counter() - started
    return [
        Timing(batch.num_chunked + batch.num_decoded, seconds[1:, at].T)
        for at, batch in enumerate(batches)
    ]


def decode_batch(num_rows: int, context: int) -> Batch:
    """One token for each of so many sequences that are half a context, or PAST tokens, long."""
    return Batch(np.arange(num_rows), decode=decode_rows(num_rows, context))


def decode_rows(num_rows: int, context: int) -> Decode:
    """The decode rows of such a step, to be mixed with a chunk."""
    lengths = np.full(num_rows, min(PAST, context // 2), np.int32)
    return Decode(0, np.ones(num_rows, np.int64), lengths)


def prefill_batch(num_tokens: int) -> Batch:
    """A prompt's first chunk, of which the last position is wanted."""
    return Batch(np.array([num_tokens - 1]), Chunk(0, np.ones(num_tokens, np.int64), 0))
