"""The simulator against real servers: the same Poisson arrivals, measured and simulated.

Comes in: a model repository and a Load. Goes out: a Check for each number of replicas and each
arrival rate. The curve comes from closed loops on the same servers just before, so that what is
checked is the step from it to arrivals at random, and to two replicas that know nothing of each
other. Knows nothing of autoscaling, which no single machine could show.
"""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.capacity.curve import ServiceCurve
from benchmarks.capacity.developers import Habits, draw_arrivals
from benchmarks.capacity.measuring import Load, Servers, measure_curve, running_servers
from benchmarks.capacity.questions import Timed, ask_at_random
from benchmarks.capacity.replica import Outcomes, Replica
from benchmarks.capacity.tally import GOAL_S
from benchmarks.http_door import Door

SHARES = (0.3, 0.6, 0.8)  # of what the replicas can do
PATIENT = Habits(typed_on_share=0.0, give_up_s=math.inf)
NUM_SIMULATED = 200  # runs of the same length
FIGURES = ("mean_ms", "p50_ms", "p95_ms", "goodput")


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds of whole answers; `goodput` is the share within the goal."""

    mean_ms: float
    p50_ms: float
    p95_ms: float
    goodput: float

    @classmethod
    def of(cls, total_s: list[float], num_asked: int) -> "Figures":
        """NaN where no answer came."""
        if not total_s:
            return cls(math.nan, math.nan, math.nan, 0.0)
        values = np.array(total_s)
        p50, p95 = np.percentile(values, (50, 95))
        good = float((values <= GOAL_S).sum()) / num_asked
        return cls(float(values.mean()) * 1e3, float(p50) * 1e3, float(p95) * 1e3, good)


@dataclass(frozen=True, slots=True)
class Check:
    """One arrival rate: measured, the median simulated run, and between what 9 of 10 were."""

    num_replicas: int
    per_s: float
    share: float
    num_asked: int
    num_failed: int
    measured: Figures
    simulated: Figures
    low: Figures
    high: Figures

    def error(self, figure: str) -> float:
        """Simulated over measured, less one; of `goodput` the difference."""
        one, other = getattr(self.simulated, figure), getattr(self.measured, figure)
        return float(one - other if figure == "goodput" else one / other - 1)

    def is_within(self, figure: str) -> bool:
        """Whether nine of ten runs of the simulator are as this one, or further out."""
        low, high = getattr(self.low, figure), getattr(self.high, figure)
        return bool(low <= getattr(self.measured, figure) <= high)


def validate(
    repository: Path, load: Load, seconds: float, progress: Callable[[str], None]
) -> tuple[list[Check], list[ServiceCurve]]:
    """With one replica and with two; the curves that were measured, in that order."""
    checks, curves = [], []
    for num_replicas in (1, 2):
        with running_servers(repository, num_replicas) as servers:
            curves.append(measure_curve(servers, load, progress))
            for share in SHARES:
                checks.append(_check(servers, curves[-1], share, load, seconds))
                progress(f"{num_replicas} replicas, {share:.0%} of what they can")
    return checks, curves


def _check(
    servers: Servers, curve: ServiceCurve, share: float, load: Load, seconds: float
) -> Check:
    per_s = share * curve.most_per_s * servers.num_replicas
    answers = asyncio.run(_ask(servers.url, load, per_s, seconds))
    whole = [one.total_s for one in answers if one.status == 200]
    runs = [
        simulate(curve, servers.num_replicas, per_s, seconds, seed) for seed in range(NUM_SIMULATED)
    ]
    low, middle, high = (_quantile(runs, at) for at in (0.05, 0.5, 0.95))
    measured = Figures.of(whole, len(answers))
    failed = len(answers) - len(whole)
    return Check(
        servers.num_replicas, per_s, share, len(answers), failed, measured, middle, low, high
    )


def _quantile(runs: list[Figures], at: float) -> Figures:
    """Of each figure by itself."""
    columns = ([getattr(run, name) for run in runs] for name in FIGURES)
    return Figures(*(float(np.nanquantile(column, at)) for column in columns))


async def _ask(url: str, load: Load, per_s: float, seconds: float) -> list[Timed]:
    door = Door(url)
    bodies = load.questions.bodies(seed=random.random())
    try:
        return await ask_at_random(door, bodies, per_s, seconds, seed=round(per_s * 1000))
    finally:
        door.close()


def simulate(
    curve: ServiceCurve, num_replicas: int, per_s: float, seconds: float, seed: int
) -> Figures:
    """A run of that length from empty replicas, all answers waited for."""
    random_numbers = np.random.default_rng(seed)
    ended = Outcomes()
    for _ in range(num_replicas):
        one = Replica(curve)
        span = (0.0, seconds)
        sizes = np.array(curve.sizes)
        share = per_s / num_replicas
        one.advance(seconds, draw_arrivals(share, span, PATIENT, sizes, random_numbers))
        one.drain()
        ended.served_s += one.outcomes.served_s
        ended.num_arrived += one.outcomes.num_arrived
    return Figures.of(ended.served_s, max(1, ended.num_arrived))
