"""Developers around the world: how many questions each region gets when, and who waits for them.

Comes in: a number of developers. Goes out: rates over a working day, and drawn arrivals. All
figures here are assumptions; docs/CAPACITY.md says why these.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.capacity.replica import Arrivals
from benchmarks.capacity.tally import Values

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
# Share of a working day's questions asked in each hour of local time, in thousandths.
HOURS = (
    *(4, 3, 2, 2, 2, 3, 6, 17, 52, 92, 103, 96),
    *(62, 78, 98, 100, 92, 72, 40, 22, 18, 16, 12, 8),
)


@dataclass(frozen=True, slots=True)
class Habits:
    """What a developer does on a working day.

    `typed_on_share` of the questions is overtaken by the next key, if the answer isn't there before
    it: after `typed_on_s` on average, exponentially. Nobody waits longer than `give_up_s`. The way
    to the own region and back takes `near_s`, to another one `far_s`.
    """

    questions_per_day: float = 300.0
    working_days: float = 21.0  # a month
    typed_on_share: float = 0.4
    typed_on_s: float = 0.4
    give_up_s: float = 5.0
    near_s: float = 0.02
    far_s: float = 0.12

    def __post_init__(self) -> None:
        if not self.questions_per_day > 0:
            raise ValueError(f"{self.questions_per_day} questions a day: give more than 0")
        if not 0 <= self.typed_on_share <= 1:
            raise ValueError(f"a share of {self.typed_on_share} is typed on: give 0 to 1")


@dataclass(frozen=True, slots=True)
class Region:
    """Where a share of the developers sits; its clock is so many hours ahead of UTC."""

    name: str
    share: float
    utc_hours: float


ONE_REGION = (Region("here", 1.0, 0.0),)
THREE_REGIONS = (
    Region("Americas", 0.40, -6.0),
    Region("Europe", 0.35, 1.0),
    Region("Asia", 0.25, 7.0),
)
LEAST_FOR_THREE = 10_000  # developers; fewer have one region


def regions_of(num_developers: int) -> tuple[Region, ...]:
    """Where so many are served."""
    return THREE_REGIONS if num_developers >= LEAST_FOR_THREE else ONE_REGION


def rate_at(region: Region, num_developers: int, habits: Habits, utc_s: float) -> float:
    """Questions a second of a region's developers; linear between the middles of the hours."""
    per_day = num_developers * region.share * habits.questions_per_day
    place = (utc_s / HOUR_S + region.utc_hours - 0.5) % 24
    hour, part = int(place), place % 1
    weight = (1 - part) * HOURS[hour] + part * HOURS[(hour + 1) % 24]
    return per_day * weight / sum(HOURS) / HOUR_S


def draw_arrivals(
    rate: float,
    span_s: tuple[float, float],
    habits: Habits,
    sizes: Values,
    random: np.random.Generator,
) -> Arrivals:
    """Poisson arrivals of one rate: many who don't know of each other look like that."""
    begin_s, end_s = span_s
    count = random.poisson(rate * (end_s - begin_s))
    patience_s = np.full(count, habits.give_up_s)
    typed_on = random.random(count) < habits.typed_on_share
    waits_s = random.exponential(habits.typed_on_s, count)
    patience_s[typed_on] = np.minimum(waits_s[typed_on], habits.give_up_s)
    drawn = sizes[random.integers(len(sizes), size=count)]
    times = np.sort(random.uniform(begin_s, end_s, count))
    return Arrivals(times.tolist(), drawn.tolist(), patience_s.tolist())
