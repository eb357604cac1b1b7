"""What counts as good, late, given up and wasted; and the search for the most developers."""

import math

import pytest

from benchmarks.serving.developers import Most, find_most
from benchmarks.serving.performance import Performance, Stretch, judge
from benchmarks.serving.questions import Asked

LIMIT_S = 0.2


def whole(total_s: float, tokens: int = 4, source: str = "engine") -> Asked:
    return Asked(
        source=source,
        first_s=total_s / 2,
        last_s=total_s,
        total_s=total_s,
        num_pieces=tokens,
        tokens=tokens,
    )


def left(after_s: float, pieces: int = 0, *, is_cut: bool = False) -> Asked:
    return Asked(left_s=after_s, num_pieces=pieces, is_cut=is_cut)


def failed(error: str) -> Asked:
    return Asked(error=error)


def judged(*asked: Asked, written: int | None = None) -> Performance:
    read = sum(one.read_tokens for one in asked if one.is_wanted)
    stretch = Stretch(list(asked), 0.0, 2.0, read, {"engine": 0.5}, written_tokens=written)
    return judge(stretch, LIMIT_S)


@pytest.mark.parametrize(
    ("asked", "goodput"),
    [
        ([whole(0.1), whole(0.2)], 1.0),
        ([whole(0.1), whole(0.3)], 0.5),
        ([whole(0.1), left(0.1)], 1.0),
        ([whole(0.1), left(0.3)], 0.5),
        ([whole(0.1), left(0.1, is_cut=True), left(0.3, is_cut=True)], 0.5),
        ([whole(0.1), failed("HTTP 503")], 0.5),
        ([left(0.1)], math.nan),
        ([], math.nan),
    ],
    ids=["within", "late", "left in time", "left late", "cut", "failed", "all left", "none"],
)
def test_goodput_is_of_what_somebody_waited_for(asked: list[Asked], goodput: float) -> None:
    assert judged(*asked).goodput == pytest.approx(goodput, nan_ok=True)


def test_who_waited_in_vain_is_among_the_times() -> None:
    found = judged(whole(0.1), left(0.5), left(0.1))

    assert found.total.num == 2
    assert found.total.p50_ms == pytest.approx(300)
    assert not found.is_held(LIMIT_S)


def test_who_saw_no_text_is_among_the_first_times() -> None:
    started = left(0.9, pieces=1, is_cut=True)
    started.first_s = 0.3

    found = judged(whole(0.1), left(0.5, is_cut=True), left(0.1, is_cut=True), started)

    assert found.first.num == 3
    assert found.first.p50_ms == pytest.approx(300)
    assert found.first.p99_ms == pytest.approx(500, rel=0.02)


def test_who_waited_through_the_whole_stretch_is_of_it() -> None:
    waiting, answered = Asked(asked_s=0.0), whole(0.1)
    stretch = Stretch([waiting, answered])
    stretch.begin()
    stretch.close()

    found = judge(stretch, LIMIT_S)

    assert (found.num_asked, found.num_late, found.first.num) == (1, 1, 1)


def test_an_error_is_no_held_aim() -> None:
    found = judged(whole(0.1), failed("HTTP 503: busy"), failed("HTTP 503: busy"))

    assert found.errors == {"HTTP 503: busy": 2}
    assert found.error_rate == pytest.approx(2 / 3)
    assert not found.is_held(LIMIT_S)


def test_tokens_rate_cost_and_waste() -> None:
    found = judged(whole(0.1, 6), whole(0.01, 5, "typeahead"), left(0.1, 3), written=20)

    assert found.tokens_per_s == pytest.approx(11 / 2)
    assert found.cpu_ms_per_token == pytest.approx(500 / 11)
    assert found.cost_per_1k(3.6) == pytest.approx(3.6 / 3600 * 2 / 11 * 1000)
    assert found.wasted_tokens == 20 - 6  # a cache's answer cost the engine nothing
    assert not found.is_least_waste
    assert judged(left(0.1, 3)).wasted_tokens == 3  # where no server tells
    assert found.sources == {"engine": 1, "typeahead": 1}


def test_only_the_engines_first_texts_and_gaps_are_timed() -> None:
    found = judged(whole(0.1, 5), whole(0.002, 5, "typeahead"))

    assert (found.first.num, found.gap.num, found.total.num) == (1, 1, 2)
    assert found.first.p50_ms == pytest.approx(50)
    assert found.gap.p50_ms == pytest.approx(50 / 4)


def test_what_came_before_the_stretch_is_not_of_it() -> None:
    early, under_way = whole(0.1, 9), left(0.1, 3)
    under_way.left_s = None
    stretch = Stretch([early, under_way])
    stretch.begin()
    under_way.num_pieces = 7
    stretch.asked.append(whole(0.1, 2))
    stretch.close()

    assert stretch.read_tokens == 4 + 2
    assert judge(stretch, LIMIT_S).num_whole == 1


@pytest.mark.parametrize("limit", [0, 1, 5, 60, 173, 500])
def test_search_ends_near_the_most_that_hold(limit: int) -> None:
    found = find_most(lambda number: number <= limit, first=8, ceiling=200, max_probes=20)

    assert found.held <= limit
    assert found.held >= min(limit, 200) * 0.9 - 1
    assert found.failed is None if limit >= 200 else found.failed is not None


def test_search_asks_no_more_than_it_may() -> None:
    found = find_most(lambda number: number <= 100, first=1, ceiling=1000, max_probes=3)

    assert found == Most(4, None, ((1, True), (2, True), (4, True)))
