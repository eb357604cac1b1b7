"""What became of all questions, each counted as often as it stands for others.

Comes in: outcomes of simulated replicas, stretch by stretch, with a weight. Goes out: percentiles,
shares and sums. Knows nothing of replicas.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.capacity.replica import Outcomes

GOAL_S = 0.2  # an answer within it is on the screen before the next key
Values = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(slots=True)
class Tally:
    """Times are as the developer sees them, with the way there and back."""

    num_arrived: int = 0  # simulated ones, as the next
    num_ended: int = 0
    refused: float = 0.0
    failed: float = 0.0
    _served: list[tuple[Values, float]] = field(default_factory=list)
    _left: list[tuple[Values, float]] = field(default_factory=list)

    def add(self, outcomes: Outcomes, weight: float, network: Callable[[int], Values]) -> None:
        """Take what ended, each `weight` times; `network` gives so many their time on the way."""
        self.num_arrived += outcomes.num_arrived
        self.num_ended += outcomes.num_ended
        self.refused += weight * outcomes.num_refused
        self.failed += weight * outcomes.num_failed
        for kept, seconds in ((self._served, outcomes.served_s), (self._left, outcomes.left_s)):
            if seconds:
                kept.append((np.array(seconds) + network(len(seconds)), weight))

    def refuse(self, count: int) -> None:
        """Questions that met no replica."""
        self.num_arrived += count
        self.num_ended += count
        self.refused += count

    def merge(self, other: "Tally") -> None:
        """Take all of another's."""
        self.num_arrived += other.num_arrived
        self.num_ended += other.num_ended
        self.refused += other.refused
        self.failed += other.failed
        self._served += other._served
        self._left += other._left

    @property
    def served(self) -> float:
        """Questions whose whole answer came."""
        return _sum(self._served, len)

    @property
    def left(self) -> float:
        """Questions whose asker typed on or gave up."""
        return _sum(self._left, len)

    @property
    def asked(self) -> float:
        """All that ended."""
        return self.served + self.left + self.refused + self.failed

    def percentiles_s(self, *shares: float) -> list[float]:
        """Of the answers that came; NaN where none did."""
        if not self._served:
            return [float("nan")] * len(shares)
        seconds = np.concatenate([values for values, _ in self._served])
        weights = np.concatenate([np.full(len(one), weight) for one, weight in self._served])
        order = np.argsort(seconds)
        sums = np.cumsum(weights[order])
        places = np.searchsorted(sums, np.array(shares) * sums[-1])
        return [float(seconds[order[min(place, len(order) - 1)]]) for place in places]

    def goodput(self) -> float:
        """The share answered within GOAL_S, of all but those that were left before it was over."""
        good = _sum(self._served, lambda values: int((values <= GOAL_S).sum()))
        early = _sum(self._left, lambda values: int((values <= GOAL_S).sum()))
        return good / (self.asked - early) if self.asked > early else float("nan")


def _sum(kept: list[tuple[Values, float]], count: Callable[[Values], int]) -> float:
    return sum(weight * count(values) for values, weight in kept)
