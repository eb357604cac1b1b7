"""A region's replicas over a day: they share the questions, the autoscaler adds and takes away.

Comes in: a curve, a rule, the hazards, the rate of questions. Goes out: a Tally, and how many
replicas there were when. The gateway sends a person to the same replica always, by hashing, so
each replica gets a Poisson stream of its own share. Of a large fleet a uniform sample of replicas
is therefore simulated: each sees exactly what one replica sees, and counts for the others.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import ceil

import numpy as np
import simpy

from benchmarks.capacity.curve import ServiceCurve
from benchmarks.capacity.developers import Habits, draw_arrivals
from benchmarks.capacity.replica import Outcomes, Replica
from benchmarks.capacity.rule import Autoscaler, Rule
from benchmarks.capacity.tally import Tally, Values

Happening = Generator[simpy.Event, None, None]


@dataclass(frozen=True, slots=True)
class Hazards:
    """How long a replica takes to be ready, and what takes it away.

    A spot machine is taken back `spot_per_hour` times an hour on average, told `notice_s` before.
    """

    cold_start_s: float = 90.0
    spot_per_hour: float = 0.0
    notice_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet at the end of a period, and the answers in it."""

    at_s: float
    num_replicas: int
    rate: float
    p95_s: float


class Fleet:
    """`rate` gives the questions a second at a time, `far_share` the part that comes from afar."""

    def __init__(
        self,
        env: simpy.Environment,
        curve: ServiceCurve,
        rule: Rule,
        hazards: Hazards,
        habits: Habits,
        *,
        rate: Callable[[float], float],
        far_share: Callable[[], float],
        sample: int,
        seed: int,
    ) -> None:
        self.tally = Tally()
        self.moments: list[Moment] = []
        self.replica_s = 0.0  # paid for, those that start included
        self._env, self._curve, self._hazards, self._habits = env, curve, hazards, habits
        self._autoscaler = Autoscaler(rule)
        self._rate, self._far_share, self._sample = rate, far_share, sample
        self._random = np.random.default_rng(seed)
        self._sizes = np.array(curve.sizes)
        self._last_s = env.now
        self._life = 0  # another one after a loss: what was starting then never comes
        self._is_lost = False
        self._num_doomed = 0
        self._period = Tally()
        self._inside_s = self._waiting_s = 0.0  # integrals over all replicas in the period
        guess = ceil(2 * rate(env.now) / curve.most_per_s)
        self._num_ready = max(rule.min_replicas, guess)
        self._size = self._num_ready  # with those that start
        self._replicas = [Replica(curve, env.now) for _ in range(min(sample, self._num_ready))]
        env.process(self._scale())

    def advance(self) -> None:
        """Bring everything to now; to be called before anything changes."""
        span = (self._last_s, self._env.now)
        self._last_s = self._env.now
        seconds = span[1] - span[0]
        if seconds <= 0:
            return
        self.replica_s += seconds * self._size
        rate = self._rate(span[0] + seconds / 2)
        if not self._replicas:
            self._period.refuse(int(self._random.poisson(rate * seconds)))
            return
        share = rate / self._num_ready
        for one in self._replicas:
            inside_s, waiting_s = one.inside_s, one.waiting_s
            one.advance(
                span[1], draw_arrivals(share, span, self._habits, self._sizes, self._random)
            )
            self._inside_s += self._weight * (one.inside_s - inside_s)
            self._waiting_s += self._weight * (one.waiting_s - waiting_s)
            self._collect(one)

    def lose(self) -> int:
        """All at once, without a word; how many there were."""
        self.advance()
        for one in self._replicas:
            one.fail()
            self._collect(one)
        lost = self._size
        self._life += 1
        self._is_lost = True
        self._replicas.clear()
        self._num_ready = self._size = self._num_doomed = 0
        return lost

    def restore(self, count: int) -> Happening:
        """Start so many and wait until they are ready."""
        yield from self._start(count)
        self._is_lost = False

    def finish(self) -> None:
        """Let the replicas end what they have."""
        self.advance()
        for one in self._replicas:
            self._retire(one)
        self.tally.merge(self._period)

    def forget(self) -> None:
        """Count from now on: what was before is the beginning's."""
        self.advance()
        self.tally, self._period, self.replica_s = Tally(), Tally(), 0.0
        self.moments.clear()
        for one in self._replicas:
            self.tally.num_arrived += one.num_inside

    @property
    def _weight(self) -> float:
        """How many replicas a simulated one stands for."""
        return self._num_ready / len(self._replicas) if self._replicas else 1.0

    def _scale(self) -> Happening:
        rule = self._autoscaler.rule
        while True:
            yield self._env.timeout(rule.period_s)
            self.advance()
            inside, waiting = self._inside_s / rule.period_s, self._waiting_s / rule.period_s
            self._inside_s = self._waiting_s = 0.0
            self._note()
            if self._is_lost:
                continue
            size = self._size - self._num_doomed
            wanted = self._autoscaler.decide(size, waiting if rule.signal == "waiting" else inside)
            if wanted > size:
                self._env.process(self._start(wanted - size))
            else:
                self._remove(min(size - wanted, self._num_ready - 1))
            odds = self._hazards.spot_per_hour * rule.period_s / 3600
            for _ in range(self._random.binomial(self._num_ready, odds)):
                self._env.process(self._take_back())

    def _note(self) -> None:
        rate = self._rate(self._env.now)
        (p95_s,) = self._period.percentiles_s(0.95)
        self.moments.append(Moment(self._env.now, self._size, rate, p95_s))
        self.tally.merge(self._period)
        self._period = Tally()

    def _start(self, count: int) -> Happening:
        life = self._life
        self.advance()
        self._size += count
        yield self._env.timeout(self._hazards.cold_start_s)
        self.advance()
        for _ in range(count if life == self._life else 0):
            self._join()

    def _join(self) -> None:
        """A new replica; each of those that are ready is in the sample with the same odds."""
        self._num_ready += 1
        new = Replica(self._curve, self._env.now)
        if len(self._replicas) < self._sample:
            self._replicas.append(new)
        elif (place := int(self._random.integers(self._num_ready))) < self._sample:
            self._retire(self._replicas[place])
            self._replicas[place] = new

    def _remove(self, count: int) -> None:
        """They end what they have. Who goes has nothing to do with load, so the sample may stay."""
        for _ in range(count):
            self._size -= 1
            self._num_ready -= 1
            if self._num_ready < len(self._replicas):
                self._retire(self._replicas.pop(int(self._random.integers(len(self._replicas)))))

    def _take_back(self) -> Happening:
        """A spot machine goes; another one starts when that is told."""
        life = self._life
        self._num_doomed += 1
        self._env.process(self._start(1))
        yield self._env.timeout(self._hazards.notice_s)
        self.advance()
        if life == self._life:
            self._num_doomed -= 1
            self._remove(min(1, self._num_ready))

    def _retire(self, replica: Replica) -> None:
        replica.drain()
        self._collect(replica)

    def _collect(self, replica: Replica) -> None:
        outcomes, replica.outcomes = replica.outcomes, Outcomes()
        self._period.add(outcomes, self._weight, self._network)

    def _network(self, count: int) -> Values:
        """Seconds on the way of so many questions."""
        is_far = self._random.random(count) < self._far_share()
        return np.where(is_far, self._habits.far_s, self._habits.near_s)
