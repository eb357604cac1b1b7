"""A working day of all regions: each fleet serves its own developers, or those of a lost one too.

Comes in: a Day. Goes out: a Row of its figures and what there was when, for plots.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Literal

import simpy

from benchmarks.capacity.curve import ServiceCurve
from benchmarks.capacity.developers import DAY_S, HOUR_S, Habits, Region, rate_at, regions_of
from benchmarks.capacity.fleet import Fleet, Happening, Hazards, Moment
from benchmarks.capacity.rule import Rule
from benchmarks.capacity.tally import Tally

Scenario = Literal["steady", "spot", "region lost"]
WARM_UP_S = 1800.0
SIMULATED_PER_S = 5.0  # questions of a region; fewer make the autoscaler's figure noisy
SPOT_PER_HOUR = 0.05  # harsher than clouds publish: 7 of 10 machines go within a day
LOST_AT_UTC_S, LOST_FOR_S = 15 * HOUR_S, HOUR_S  # the Americas' busiest hours
FAILOVER_S = 60.0  # until DNS and editors go elsewhere


@dataclass(frozen=True, slots=True)
class Day:
    """What is simulated."""

    curve: ServiceCurve
    rule: Rule
    habits: Habits
    num_developers: int
    scenario: Scenario = "steady"
    cold_start_s: float = 90.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """A day's figures; shares are of all questions, times those that developers see.

    `replica_hours` are those of the day, `least` and `most` replicas those of all regions together.
    """

    num_developers: int
    scenario: str
    signal: str
    num_regions: int
    least: int
    mean: float
    most: int
    replica_hours: float
    p50_ms: float
    p95_ms: float
    goodput: float
    refused: float
    failed: float
    typed_on: float
    num_simulated: int
    sample: int  # replicas of a region that are simulated

    @property
    def day(self) -> str:
        """What a table calls it."""
        return self.scenario if self.signal == "in flight" else f"{self.scenario}, by {self.signal}"


def simulate_day(day: Day) -> tuple[Row, list[Moment]]:
    """The figures, and the fleets together at each period's end."""
    world = _World(day)
    world.run()
    tally, moments = Tally(), _together([one.moments for one in world.fleets.values()])
    for fleet in world.fleets.values():
        tally.merge(fleet.tally)
    p50_s, p95_s = tally.percentiles_s(0.5, 0.95)
    sizes = [one.num_replicas for one in moments]
    replica_s = sum(fleet.replica_s for fleet in world.fleets.values())
    row = Row(
        day.num_developers,
        day.scenario,
        day.rule.signal,
        len(world.fleets),
        min(sizes),
        replica_s / DAY_S,
        max(sizes),
        replica_s / HOUR_S,
        p50_s * 1e3,
        p95_s * 1e3,
        tally.goodput(),
        tally.refused / tally.asked,
        tally.failed / tally.asked,
        tally.left / tally.asked,
        tally.num_ended,
        world.sample,
    )
    return row, moments


class _World:
    """The regions and who serves whom."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self._env = simpy.Environment(initial_time=-WARM_UP_S)
        self._regions = regions_of(day.num_developers)
        self._away: list[Region] = []  # those whose developers are served by the others
        spot = SPOT_PER_HOUR if day.scenario == "spot" else 0.0
        hazards = Hazards(day.cold_start_s, spot)
        streams = max(1, round(day.rule.target)) if day.rule.signal == "in flight" else 1
        self.sample = max(2, math.ceil(SIMULATED_PER_S / day.curve.per_s(streams)))
        self.fleets = {
            region: Fleet(
                self._env,
                day.curve,
                day.rule,
                hazards,
                day.habits,
                rate=partial(self._rate, region),
                far_share=partial(self._far_share, region),
                sample=self.sample,
                seed=day.seed * 100 + number,
            )
            for number, region in enumerate(self._regions)
        }

    def run(self) -> None:
        """The whole day."""
        self._env.run(0)
        for fleet in self.fleets.values():
            fleet.forget()
        if self._day.scenario == "region lost":
            self._env.process(self._lose(self._regions[0]))
        self._env.run(DAY_S)
        for fleet in self.fleets.values():
            fleet.finish()

    def _rates(self, region: Region, at_s: float) -> tuple[float, float]:
        """Questions a second from the region's own developers, and from those of lost ones."""
        day = self._day
        if region in self._away:
            return 0.0, 0.0
        here = sum(one.share for one in self._regions if one not in self._away)
        asked = [rate_at(one, day.num_developers, day.habits, at_s) for one in self._away]
        own = rate_at(region, day.num_developers, day.habits, at_s)
        return own, sum(asked) * region.share / here

    def _rate(self, region: Region, at_s: float) -> float:
        return sum(self._rates(region, at_s))

    def _far_share(self, region: Region) -> float:
        own, far = self._rates(region, self._env.now)
        return far / (own + far) if far else 0.0

    def _lose(self, region: Region) -> Happening:
        yield self._env.timeout(LOST_AT_UTC_S)
        count = self.fleets[region].lose()
        yield self._env.timeout(FAILOVER_S)
        self._advance()
        if len(self._regions) > 1:
            self._away.append(region)
        yield self._env.timeout(LOST_FOR_S - FAILOVER_S)
        yield from self.fleets[region].restore(count)
        self._advance()
        self._away.clear()

    def _advance(self) -> None:
        for fleet in self.fleets.values():
            fleet.advance()


def _together(fleets: list[list[Moment]]) -> list[Moment]:
    """Sums of replicas and rates; the worst region's p95."""
    sizes: dict[float, int] = defaultdict(int)
    rates: dict[float, float] = defaultdict(float)
    worst: dict[float, float] = {}
    for one in (moment for fleet in fleets for moment in fleet):
        sizes[one.at_s] += one.num_replicas
        rates[one.at_s] += one.rate
        if one.p95_s > worst.get(one.at_s, 0.0):
            worst[one.at_s] = one.p95_s
    return [Moment(at, sizes[at], rates[at], worst.get(at, math.nan)) for at in sorted(sizes)]
