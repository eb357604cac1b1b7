"""One simulated replica: questions arrive, run at the speed that the curve gives, wait, leave.

Comes in: a ServiceCurve; then, stretch by stretch, when questions arrive, how long each is and when
its asker leaves. Goes out: what became of each. Has a clock of its own, and draws nothing.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

from benchmarks.capacity.curve import ServiceCurve


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Questions in the order of their times; `patience_s` is how long each asker waits."""

    times: Sequence[float]
    sizes: Sequence[float]
    patience_s: Sequence[float]


@dataclass(slots=True)
class Outcomes:
    """What ended, and how long it took; what arrived and is not here is still inside."""

    num_arrived: int = 0
    served_s: list[float] = field(default_factory=list)
    left_s: list[float] = field(default_factory=list)
    num_refused: int = 0
    num_failed: int = 0

    @property
    def num_ended(self) -> int:
        """All together."""
        return len(self.served_s) + len(self.left_s) + self.num_refused + self.num_failed


@dataclass(slots=True)
class _Question:
    arrived_s: float
    size: float
    is_running: bool = False


class Replica:
    """Equal shares for what runs, a line in the order of arrival for the rest."""

    def __init__(self, curve: ServiceCurve, now_s: float = 0.0) -> None:
        self.outcomes = Outcomes()
        self.num_running = 0
        self.num_waiting = 0
        self.waiting_s = 0.0  # integrals over time: of those that wait,
        self.inside_s = 0.0  # and of all
        self._speeds = curve.speeds()
        self._num_slots = curve.num_slots
        self._max_waiting = curve.max_waiting
        self._now_s = now_s
        self._work = 0.0  # what each running question was given since the beginning
        self._inside: dict[int, _Question] = {}
        self._line: deque[int] = deque()
        self._ends: list[tuple[float, int]] = []  # by work
        self._leaving: list[tuple[float, int]] = []  # by time
        self._next_id = 0

    @property
    def num_inside(self) -> int:
        """Running and waiting."""
        return len(self._inside)

    def advance(self, until_s: float, arrivals: Arrivals) -> None:
        """Let time pass; all arrivals lie between now and `until_s`."""
        times, index, num = arrivals.times, 0, len(arrivals.times)
        while True:
            ends_s, leaves_s = self._next_end(), self._next_leaving()
            arrives_s = times[index] if index < num else inf
            event_s = min(ends_s, leaves_s, arrives_s)
            if event_s >= until_s:
                self._pass(until_s)
                return
            self._pass(event_s)
            if event_s == ends_s:
                self._end(heappop(self._ends)[1])
            elif event_s == leaves_s:
                self._leave(heappop(self._leaving)[1])
            else:
                self._arrive(arrivals.sizes[index], arrivals.patience_s[index])
                index += 1

    def fail(self) -> None:
        """It is gone with all that is in it."""
        self.outcomes.num_failed += len(self._inside)
        self._inside.clear()
        self._line.clear()
        self._ends.clear()
        self._leaving.clear()
        self.num_running = self.num_waiting = 0

    def drain(self) -> None:
        """No more come; let what is inside end or leave."""
        while self._inside:
            self.advance(min(self._next_end(), self._next_leaving()) + 1e-9, Arrivals((), (), ()))

    def _next_end(self) -> float:
        while self._ends and self._ends[0][1] not in self._inside:
            heappop(self._ends)
        if not self._ends:
            return inf
        left = self._ends[0][0] - self._work
        return self._now_s + max(0.0, left) / self._speeds[self.num_running]

    def _next_leaving(self) -> float:
        while self._leaving and self._leaving[0][1] not in self._inside:
            heappop(self._leaving)
        return self._leaving[0][0] if self._leaving else inf

    def _pass(self, until_s: float) -> None:
        seconds = until_s - self._now_s
        self._work += seconds * self._speeds[self.num_running]
        self.waiting_s += seconds * self.num_waiting
        self.inside_s += seconds * (self.num_waiting + self.num_running)
        self._now_s = until_s

    def _arrive(self, size: float, patience_s: float) -> None:
        self.outcomes.num_arrived += 1
        if self.num_running == self._num_slots and self.num_waiting == self._max_waiting:
            self.outcomes.num_refused += 1
            return
        number = self._next_id
        self._next_id += 1
        self._inside[number] = _Question(self._now_s, size)
        if patience_s < inf:
            heappush(self._leaving, (self._now_s + patience_s, number))
        if self.num_running < self._num_slots:
            self._run(number)
        else:
            self.num_waiting += 1
            self._line.append(number)

    def _run(self, number: int) -> None:
        question = self._inside[number]
        question.is_running = True
        self.num_running += 1
        heappush(self._ends, (self._work + question.size, number))

    def _end(self, number: int) -> None:
        question = self._inside.pop(number)
        self.outcomes.served_s.append(self._now_s - question.arrived_s)
        self._free_slot()

    def _leave(self, number: int) -> None:
        question = self._inside.pop(number)
        self.outcomes.left_s.append(self._now_s - question.arrived_s)
        if question.is_running:
            self._free_slot()
        else:
            self.num_waiting -= 1

    def _free_slot(self) -> None:
        self.num_running -= 1
        while self._line:
            number = self._line.popleft()
            if number in self._inside:  # else it left
                self.num_waiting -= 1
                self._run(number)
                return
