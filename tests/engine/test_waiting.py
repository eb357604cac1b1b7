from dataclasses import dataclass, field
from itertools import count

import pytest
from driving import Drive, complete_alone, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.request import RANGES, Request, Settings
from nanotriton.engine.sequence import Sequence
from nanotriton.engine.waiting import AGEING_S, WaitingLine

PROMPT = [3, 1, 4]
LEAST, MOST, _ = RANGES["priority"]
ARRIVALS = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.integers(LEAST, MOST),
        st.none() | st.integers(1, 60_000),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


@dataclass
class Line:
    """A waiting line and a clock; `served` is whom it let go, and when."""

    now_s: float = 0.0
    waiting: WaitingLine = field(default_factory=WaitingLine)
    served: list[tuple[Sequence, float]] = field(default_factory=list)
    numbers: count = field(default_factory=count)

    def arrive(self, priority=0, timeout_ms=None):
        """Let a request come now; its number."""
        number = next(self.numbers)
        settings = Settings(priority=priority, timeout_ms=timeout_ms)
        request = Request((b"", number), (1,), settings)
        self.waiting.add(Sequence(request, vocabulary(), 8, 0, self.now_s))
        return number

    def serve(self):
        """Let one go; its number."""
        sequence = self.waiting.pop(self.now_s)
        self.served.append((sequence, self.now_s))
        return sequence.request.key[1]


def order_of(*arrivals):
    """The order in which requests are served that came at once, or (s later)."""
    line = Line()
    for later_s, settings in arrivals:
        line.now_s += later_s
        line.arrive(**settings)
    return [line.serve() for _ in arrivals]


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ([(0, {}), (0, {}), (1, {})], [0, 1, 2]),
        ([(0, {}), (0, {"priority": 1}), (0, {"priority": -1})], [1, 0, 2]),
        ([(0, {}), (0, {"timeout_ms": 9000}), (1, {"timeout_ms": 7000})], [2, 1, 0]),
        ([(0, {"timeout_ms": 100}), (0, {"priority": 1})], [1, 0]),
        ([(0, {}), (AGEING_S, {}), (0, {"timeout_ms": 100})], [0, 2, 1]),
        ([(0, {}), (AGEING_S * 0.9, {"priority": 1})], [1, 0]),
        ([(0, {}), (AGEING_S * 2, {"priority": 1})], [0, 1]),
    ],
    ids=["arrival", "priority", "deadline", "both", "age", "young", "old"],
)
def test_priority_then_deadline_then_arrival_decides(arrivals, expected):
    assert order_of(*arrivals) == expected


@given(ARRIVALS)
def test_request_is_only_overtaken_by_those_that_came_soon_after_it(arrivals):
    line = Line()
    for pause_s, priority, timeout_ms, serves in arrivals:
        line.now_s += pause_s
        line.arrive(priority, timeout_ms)
        if serves:
            line.serve()
    while line.waiting:
        line.serve()
    places = {one.request.key[1]: place for place, (one, _) in enumerate(line.served)}
    for first, _ in line.served:
        for later, _ in line.served:
            levels = later.request.settings.priority - first.request.settings.priority + 1
            if later.arrived_s - first.arrived_s > max(0, levels) * AGEING_S:
                assert places[first.request.key[1]] < places[later.request.key[1]]


def test_lowest_priority_is_served_under_an_endless_load_of_the_highest():
    line = Line()
    patient = line.arrive(priority=int(LEAST))
    for _ in range(1000):
        line.now_s += 0.5
        line.arrive(priority=int(MOST))
        if line.serve() == patient:
            break
    assert line.now_s <= (MOST - LEAST + 2) * AGEING_S


def test_urgent_prompt_enters_before_others_that_have_slots_already():
    drive = Drive(prefill_chunk=4)
    drive.submit([5] * 20)
    drive.step()
    urgent = drive.submit([6] * 8, priority=1)
    drive.step()
    assert drive.step() == [urgent]


def test_urgent_request_gets_the_next_free_slot():
    drive = Drive(num_slots=1)
    drive.submit(PROMPT, max_tokens=2)
    drive.step()
    drive.submit(PROMPT)
    urgent = drive.submit(PROMPT, priority=1)
    drive.step()
    assert drive.step() == [urgent]


def test_deadline_ends_a_stream_with_what_came_so_far():
    drive = Drive()
    number = drive.submit(PROMPT, timeout_ms=100)
    for _ in range(3):
        drive.step()
    drive.now_s = 0.1
    assert drive.step() == [number]
    found = drive.outcome(number)
    assert found.reason == "timeout"
    assert found.tokens == complete_alone(PROMPT).tokens[:3]
    assert drive.engine.stats()["num_free_slots"] == 4


def test_deadline_ends_a_request_that_still_waits():
    drive = Drive(num_slots=1)
    running = drive.submit(PROMPT)
    drive.step()
    waiting = drive.submit(PROMPT, timeout_ms=100)
    drive.step()
    drive.now_s = 0.2
    assert set(drive.step()) == {waiting, running}
    assert drive.outcome(waiting).reason == "timeout"
    assert drive.outcome(waiting).usage.completion_tokens == 0


def test_deadline_that_is_kept_changes_nothing():
    drive = Drive()
    number = drive.submit(PROMPT, timeout_ms=100, max_tokens=5)
    drive.now_s = 0.0999
    drive.finish()
    assert drive.outcome(number) == complete_alone(PROMPT, max_tokens=5)
