"""The simulator against real servers: the same Poisson arrivals, measured and simulated.

Comes in: a model repository and a Load. Goes out: a Check for each number of replicas and each
arrival rate. The curve comes from closed loops on the same servers, so that what is
checked is the step from it to arrivals at random, and to two replicas that know nothing of each
other. Closed loops and arrivals take turns, so that both see the same noise. Knows nothing of
autoscaling, which no single machine could show.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.capacity.askers import ask_at_random
from benchmarks.capacity.curve import ServiceCurve
from benchmarks.capacity.developers import Habits, draw_arrivals
from benchmarks.capacity.measuring import (
    Load,
    Servers,
    curve_of,
    measure_round,
    running_servers,
)
from benchmarks.capacity.replica import Outcomes, Replica
from benchmarks.capacity.tally import GOAL_S
from benchmarks.serving.questions import Asked

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
    repository: Path,
    load: Load,
    replicas: Sequence[int],
    seconds: float,
    progress: Callable[[str], None],
) -> tuple[list[Check], list[ServiceCurve]]:
    """With so many replicas, and so many; the curves that were measured, in that order."""
    checks, curves = [], []
    for num_replicas in replicas:
        with running_servers(repository, num_replicas) as servers:
            found, curve = _check(servers, load, seconds / load.rounds, progress)
        checks += found
        curves.append(curve)
    return checks, curves


def _check(
    servers: Servers, load: Load, seconds: float, progress: Callable[[str], None]
) -> tuple[list[Check], ServiceCurve]:
    """`seconds` of each rate in every round."""
    first = curve_of([measure_round(servers, load, 0)])  # warms up, and says what they can
    rates = {share: share * first.most_per_s * servers.num_replicas for share in SHARES}
    rounds, asked = [], {share: list[Asked]() for share in SHARES}
    for number in range(1, load.rounds + 1):
        rounds.append(measure_round(servers, load, number))
        for share, per_s in rates.items():
            asked[share] += asyncio.run(_ask(servers, load, per_s, seconds, number))
        progress(f"{servers.num_replicas} replicas: round {number} of {load.rounds}")
    curve = curve_of(rounds)
    runs = (servers.num_replicas, seconds, load.rounds)
    return [_compare(curve, rates[share], share, asked[share], runs) for share in SHARES], curve


def _compare(
    curve: ServiceCurve,
    per_s: float,
    share: float,
    asked: list[Asked],
    runs: tuple[int, float, int],
) -> Check:
    """`runs` are replicas, seconds of a stretch, and how many of those."""
    whole = [one.total_s for one in asked if one.total_s is not None]
    simulated = [simulate(curve, per_s, *runs, seed=seed) for seed in range(NUM_SIMULATED)]
    low, middle, high = (_quantile(simulated, at) for at in (0.05, 0.5, 0.95))
    measured, num_failed = Figures.of(whole, len(asked)), len(asked) - len(whole)
    return Check(runs[0], per_s, share, len(asked), num_failed, measured, middle, low, high)


def _quantile(runs: list[Figures], at: float) -> Figures:
    """Of each figure by itself."""
    columns = ([getattr(run, name) for run in runs] for name in FIGURES)
    return Figures(*(float(np.nanquantile(column, at)) for column in columns))


async def _ask(
    servers: Servers, load: Load, per_s: float, seconds: float, number: int
) -> list[Asked]:
    targets, seed = servers.targets(), round(per_s * 1000) + number
    try:
        return await ask_at_random(targets, load.questions(seed), per_s, seconds, seed)
    finally:
        for target in targets:
            await target.close()


def simulate(
    curve: ServiceCurve,
    per_s: float,
    num_replicas: int,
    seconds: float,
    num_stretches: int,
    *,
    seed: int,
) -> Figures:
    """So many stretches of so many seconds, each from empty replicas, all answers waited for."""
    random, sizes = np.random.default_rng(seed), np.array(curve.sizes)
    ended = Outcomes()
    for _ in range(num_replicas * num_stretches):
        one, span = Replica(curve), (0.0, seconds)
        one.advance(seconds, draw_arrivals(per_s / num_replicas, span, PATIENT, sizes, random))
        one.drain()
        ended.served_s += one.outcomes.served_s
        ended.num_arrived += one.outcomes.num_arrived
    return Figures.of(ended.served_s, max(1, ended.num_arrived))
