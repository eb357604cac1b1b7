"""The service curve: what one replica answers a second with so many questions in it.

Comes in: a measurement's JSON, or rates that somebody worked out. Goes out: a ServiceCurve. Knows
nothing of arrivals, nor of how it was measured.
"""

import dataclasses
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class CurveError(ValueError):
    """A file that is no service curve; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Level:
    """`num_streams` questions always under way; medians over rounds.

    `spread` is that of the rounds' rates: the most less the least, over the median.
    """

    num_streams: int
    per_s: float
    tokens_per_s: float
    first_p50_s: float
    total_p50_s: float
    total_p95_s: float
    spread: float


@dataclass(frozen=True, slots=True)
class ServiceCurve:
    """A replica as a flow-equivalent server (Chandy, Herzog and Woo 1975).

    With n questions in it, it does `per_s(n)` of them a second, and each gets an equal share. What
    a question needs is one of `sizes`, whose mean is 1: each is the time of a lone question over
    the mean of those. At most `num_slots` run; the next ones wait in a line of `max_waiting`.
    """

    levels: tuple[Level, ...]
    sizes: tuple[float, ...]
    num_slots: int
    max_waiting: int

    def __post_init__(self) -> None:
        streams = [one.num_streams for one in self.levels]
        if not streams or streams != sorted({*streams}) or streams[0] != 1:
            raise CurveError(
                f"levels are of {streams} streams: they must begin with 1 and grow, measure again"
            )
        if slow := [one for one in self.levels if not one.per_s > 0]:
            raise CurveError(
                f"{slow[0].per_s} a second at {slow[0].num_streams} streams: measure again"
            )
        if not self.sizes or min(self.sizes) <= 0:
            raise CurveError("sizes are missing or not above 0: measure again")
        if self.num_slots < 1 or self.max_waiting < 0:
            raise CurveError(
                f"{self.num_slots} slots and {self.max_waiting} that may wait: at least 1 and 0"
            )

    def per_s(self, num_streams: int) -> float:
        """Questions a second with so many under way: linear between levels, then flat."""
        streams = [one.num_streams for one in self.levels]
        place = bisect_right(streams, num_streams)
        if place == len(streams):
            return self.levels[-1].per_s
        low, high = self.levels[place - 1], self.levels[place]
        part = (num_streams - low.num_streams) / (high.num_streams - low.num_streams)
        return low.per_s + part * (high.per_s - low.per_s)

    def speeds(self) -> list[float]:
        """What each of n questions gets a second, for n from 0 to all slots; 0 for none."""
        return [0.0, *(self.per_s(count) / count for count in range(1, self.num_slots + 1))]

    @property
    def most_per_s(self) -> float:
        """At the best level."""
        return max(one.per_s for one in self.levels)

    def streams_within(self, total_s: float) -> int:
        """The most streams whose level has 95 of 100 answers in that time, at least 1."""
        return max(
            (one.num_streams for one in self.levels if one.total_p95_s <= total_s), default=1
        )

    def save(self, path: Path, about: dict[str, object]) -> None:
        """Write it with what was measured on what."""
        path.write_text(json.dumps(about | dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "ServiceCurve":
        """Raises CurveError."""
        try:
            told = json.loads(path.read_text())
            levels = tuple(Level(**one) for one in told["levels"])
            return cls(levels, tuple(told["sizes"]), told["num_slots"], told["max_waiting"])
        except CurveError as error:
            raise CurveError(f"{path}: {error}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CurveError(
                f"{path} is no service curve ({type(error).__name__}: {error}): "
                "write one by python -m benchmarks capacity --measure"
            ) from None


def curve_of_rates(
    rates: Sequence[float], sizes: Sequence[float], num_slots: int, max_waiting: int
) -> ServiceCurve:
    """One whose rates are known by number of streams, from 1; times are n / rate (Little)."""
    levels = tuple(
        Level(count, rate, rate, count / rate, count / rate, count / rate, 0.0)
        for count, rate in enumerate(rates, start=1)
    )
    return ServiceCurve(levels, tuple(sizes), num_slots, max_waiting)
