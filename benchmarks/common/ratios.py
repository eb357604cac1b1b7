"""Pairs of measurements to one ratio: its median, how far it can be trusted, and what it says.

Pure; knows nothing of engines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

CONFIDENCE = 0.9
MIN_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours over a peer's, by rounds; `low` to `high` holds the median at least 9 times of 10.

    With fewer than five rounds no such interval exists: then it is all that was seen.
    """

    value: float
    low: float
    high: float
    num_rounds: int

    @property
    def verdict(self) -> str:
        """What the interval says: noise swallows a difference when it holds 1."""
        if self.num_rounds < MIN_ROUNDS:
            return "too few rounds"
        if self.low > 1:
            return "ahead"
        return "behind" if self.high < 1 else "noise swallows it"


def paired_ratio(ours: Sequence[float], peers: Sequence[float]) -> Ratio:
    """The ratio of each round's pair; as many of both, at least one."""
    ratios = sorted(one / other for one, other in zip(ours, peers, strict=True))
    outer = num_outside(len(ratios))
    return Ratio(median(ratios), ratios[outer], ratios[-1 - outer], len(ratios))


def num_outside(num_rounds: int) -> int:
    """How many of the least, and of the greatest, the interval of the median leaves out.

    By the binomial distribution (the sign test): the median lies between the k-th least and the
    k-th greatest of n values with probability 1 - 2 P(fewer than k of n on one side).
    """
    outside, tail = 0, 1 / 2**num_rounds
    while True:
        tail += comb(num_rounds, outside + 1) / 2**num_rounds
        if 1 - 2 * tail < CONFIDENCE:
            return outside
        outside += 1
