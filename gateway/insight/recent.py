"""Quantiles of the last minutes, kept as counts in buckets: what /stats shows.

Comes in: durations, and the time as a clock. Goes out: their number and p50, p95 and p99, each
interpolated within its bucket. Keeps no single duration. Knows nothing of Prometheus.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence

WINDOW_S = 300.0
SLOT_S = 10.0  # what is forgotten at once
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class RecentTimes:
    """Durations of the last WINDOW_S seconds, by buckets that end at `bounds` (ascending)."""

    def __init__(
        self, bounds: Sequence[float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = tuple(bounds)
        self._clock = clock
        self._slots: deque[tuple[float, list[int]]] = deque()  # its end and its counts

    def add(self, seconds: float) -> None:
        """Count one duration; what lies beyond the last bound counts as the last bound."""
        counts = self._current_slot()
        counts[min(bisect_left(self._bounds, seconds), len(counts) - 1)] += 1

    def summary(self) -> dict[str, float | int | None]:
        """`count`, and p50, p95, p99 in seconds; None while nothing was counted."""
        self._forget()
        counts = [sum(each) for each in zip(*(one for _, one in self._slots), strict=True)]
        told: dict[str, float | int | None] = {"count": sum(counts)}
        return told | {name: self._quantile(counts, share) for name, share in QUANTILES.items()}

    def _quantile(self, counts: Sequence[int], share: float) -> float | None:
        wanted = share * sum(counts)
        below, start = 0, 0.0
        for bound, count in zip(self._bounds, counts, strict=False):
            if count and below + count >= wanted:
                return round(start + (bound - start) * (wanted - below) / count, 6)
            below, start = below + count, bound
        return None

    def _current_slot(self) -> list[int]:
        now = self._clock()
        if not self._slots or now >= self._slots[-1][0]:
            self._forget()
            self._slots.append((now + SLOT_S, [0] * len(self._bounds)))
        return self._slots[-1][1]

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_S
        while self._slots and self._slots[0][0] <= oldest:
            self._slots.popleft()
