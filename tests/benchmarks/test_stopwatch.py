"""The clock around the engine's parts: each second is one part's."""

import time

import pytest

from benchmarks.timing.stopwatch import FUNCTIONS, GRAPH, PARTS, REST, Stopwatch

PAUSE_S = 0.02


def test_time_within_another_part_counts_there_alone():
    watch = Stopwatch()
    graph = watch.timed(GRAPH, lambda: time.sleep(3 * PAUSE_S))

    def run() -> None:
        time.sleep(PAUSE_S)
        graph()

    watch.timed("runner", run)()

    (parts,) = watch.wall_s
    assert parts[PARTS.index(GRAPH)] >= 3 * PAUSE_S
    assert PAUSE_S <= parts[PARTS.index("runner")] < parts[PARTS.index(GRAPH)]


def test_parts_sum_up_to_the_time_between_two_runs():
    watch = Stopwatch()
    graph = watch.timed(GRAPH, lambda: None)
    graph()
    watch.timed("sampling", lambda: time.sleep(PAUSE_S))()
    time.sleep(PAUSE_S)
    graph()

    assert sum(watch.wall_s[1]) == pytest.approx(watch.ended_s[1] - watch.ended_s[0])
    assert watch.wall_s[1][PARTS.index(REST)] >= PAUSE_S


def test_function_that_fails_ends_its_part():
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch.timed("sampling", lambda: 1 / 0)()
    time.sleep(PAUSE_S)
    watch.timed(GRAPH, lambda: None)()

    assert watch.wall_s[0][PARTS.index(REST)] >= PAUSE_S


@pytest.mark.parametrize(("part", "owner", "name"), FUNCTIONS, ids=[one[2] for one in FUNCTIONS])
def test_every_part_is_a_function_of_the_engine(part, owner, name):
    assert callable(getattr(owner, name)), part
