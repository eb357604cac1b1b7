"""Questions and what became of them, to the figures of a report.

Comes in: a Stretch of time with all that was asked. Goes out: a Performance. Knows nothing of
servers.

A question counts for goodput unless who asked gave it up before the limit: it is good when the
whole answer was there within the limit. One that was given up later than that waited in vain, so
it is late, and its wait is among the times, as the least that it would have been: of whole answers,
and of first texts where none had come. So is one that was asked before the stretch and waited to
its end: of a slow server there may be no others.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.serving.questions import ENGINE, Asked

LIMIT_S = 0.2
NONE = float("nan")


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of so many."""

    num: int
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Iterable[float | None]) -> "Spread":
        """None is left out; NaN where nothing is left."""
        known = [one for one in seconds if one is not None]
        if not known:
            return cls(0, NONE, NONE, NONE)
        return cls(len(known), *(float(one) * 1e3 for one in np.percentile(known, (50, 95, 99))))


@dataclass(frozen=True, slots=True)
class Performance:
    """A stretch of `seconds`, with the processor time of the servers' programs, and of who asks.

    `wasted_tokens` were written for nobody, warm-up included; with `is_least_waste` the server
    doesn't tell what it wrote, so only what reached us is counted.
    """

    seconds: float
    num_asked: int
    num_whole: int
    num_left: int  # before the limit; what the end of the stretch cut counts among them
    num_late: int
    errors: Mapping[str, int]
    sources: Mapping[str, int]  # of whole answers: the engine, or which cache
    goodput: float
    first: Spread
    gap: Spread
    total: Spread
    tokens_per_s: float
    wasted_tokens: int
    is_least_waste: bool
    cpu_by_program: Mapping[str, float]
    asking_cpu_s: float

    @property
    def error_rate(self) -> float:
        """Of all questions."""
        return sum(self.errors.values()) / self.num_asked if self.num_asked else NONE

    @property
    def cpu_ms_per_token(self) -> float:
        """Of the servers' processor time; NaN where it isn't known."""
        tokens, cpu_s = self.tokens_per_s * self.seconds, sum(self.cpu_by_program.values())
        return cpu_s * 1e3 / tokens if cpu_s and tokens else NONE

    def cost_per_1k(self, price_per_hour: float) -> float:
        """Of the tokens that were read, on a machine at that price that did this alone."""
        return price_per_hour / 3600 / self.tokens_per_s * 1000 if self.tokens_per_s else NONE

    def is_held(self, limit_s: float = LIMIT_S) -> bool:
        """Whether nothing failed and 95 of 100 whole answers came within the limit."""
        return not self.errors and self.total.p95_ms <= limit_s * 1e3


@dataclass(slots=True)
class Stretch:
    """What was asked since the warm-up began, measured from `begin` to `close`."""

    asked: list[Asked] = field(default_factory=list)
    since_s: float = 0.0  # of time.perf_counter
    seconds: float = 0.0
    read_tokens: int = 0
    cpu_by_program: Mapping[str, float] = field(default_factory=dict)
    asking_cpu_s: float = 0.0
    written_tokens: int | None = None  # by the server, warm-up included; None where it doesn't tell

    def begin(self) -> None:
        """What comes from now on counts."""
        for one in self.asked:
            one.mark()
        self.since_s = time.perf_counter()

    def close(self) -> None:
        """What comes from now on doesn't; who asks may go on for a while."""
        self.seconds = time.perf_counter() - self.since_s
        for one in self.asked:
            one.cut()
        self.asked = list(self.asked)
        wanted = [one for one in self.asked if one.is_wanted]
        self.read_tokens = sum(one.read_tokens - one.early_tokens for one in wanted)


def judge(stretch: Stretch, limit_s: float = LIMIT_S) -> Performance:
    """The figures of a stretch."""
    asked = [one for one in stretch.asked if one.asked_s >= stretch.since_s or one.is_cut]
    whole = [one for one in asked if one.total_s is not None and one.left_s is None]
    num_left = sum(one.left_s is not None and one.left_s <= limit_s for one in asked)
    in_vain = [one for one in asked if one.left_s is not None and one.left_s > limit_s]
    num_good = sum(one.total_s is not None and one.total_s <= limit_s for one in whole)
    num_judged = len(asked) - num_left
    return Performance(
        seconds=stretch.seconds,
        num_asked=len(asked),
        num_whole=len(whole),
        num_left=num_left,
        num_late=num_judged - num_good,
        errors=dict(Counter(one.error for one in asked if one.error)),
        sources=dict(Counter(one.source for one in whole)),
        goodput=num_good / num_judged if num_judged else NONE,
        first=Spread.of(
            [
                *(one.first_s for one in asked if one.source == ENGINE),
                *(one.left_s for one in in_vain if one.first_s is None),
            ]
        ),
        gap=Spread.of(one.gap_s for one in whole if one.source == ENGINE),
        total=Spread.of([*(one.total_s for one in whole), *(one.left_s for one in in_vain)]),
        tokens_per_s=stretch.read_tokens / stretch.seconds,
        wasted_tokens=_wasted(stretch),
        is_least_waste=stretch.written_tokens is None,
        cpu_by_program=stretch.cpu_by_program,
        asking_cpu_s=stretch.asking_cpu_s,
    )


def _wasted(stretch: Stretch) -> int:
    if stretch.written_tokens is None:
        return sum(one.num_pieces for one in stretch.asked if not one.is_wanted)
    engines = [one for one in stretch.asked if one.source == ENGINE and one.is_wanted]
    return max(0, stretch.written_tokens - sum(one.read_tokens for one in engines))
