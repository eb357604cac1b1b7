"""The autoscaler's rule: how many replicas there should be, from one figure of those there are.

Kubernetes' HorizontalPodAutoscaler with a metric of KEDA's (type AverageValue), as documented in
"Algorithm details" of its page: wanted = ceil(sum / target), nothing within a tolerance, at once
upwards but at most twice as many or four more every 15 s, downwards to the most that was wanted
within the stabilization window. Pure: time comes in.
"""

from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import Literal

Signal = Literal["in flight", "waiting"]


@dataclass(frozen=True, slots=True)
class Rule:
    """`target` is of the signal, for each replica; the metric is its mean over `average_s`."""

    signal: Signal
    target: float
    min_replicas: int = 2
    max_replicas: int = 100_000
    period_s: float = 15.0  # Kubernetes' own
    average_s: float = 60.0
    down_window_s: float = 300.0
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise ValueError(f"the target is {self.target} a replica: give more than 0")
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"replicas are to be {self.min_replicas} to {self.max_replicas}: give 1 at least, "
                "and no fewer at most"
            )


class Autoscaler:
    """A rule with its memory."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._metrics: deque[float] = deque(maxlen=max(1, round(rule.average_s / rule.period_s)))
        num_kept = max(1, round(rule.down_window_s / rule.period_s))
        self._wanted: deque[int] = deque(maxlen=num_kept)

    def decide(self, num_replicas: int, signal: float) -> int:
        """Once a period: how many there should be; `signal` is the sum over all that are ready."""
        rule = self.rule
        self._metrics.append(signal)
        metric = sum(self._metrics) / len(self._metrics)
        wanted = ceil(metric / rule.target - 1e-9)
        if abs(metric / (rule.target * max(1, num_replicas)) - 1) <= rule.tolerance:
            wanted = num_replicas
        self._wanted.append(wanted)
        if wanted < num_replicas:
            wanted = min(num_replicas, max(self._wanted))
        wanted = min(wanted, max(2 * num_replicas, num_replicas + 4))
        return max(rule.min_replicas, min(rule.max_replicas, wanted))
