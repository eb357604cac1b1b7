"""Pairs of measurements to a ratio: where its median lies, and when noise swallows it."""

from math import comb
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common.ratios import Ratio, num_outside, paired_ratio

RATES = st.floats(0.1, 1e4)


@given(st.lists(st.tuples(RATES, RATES), min_size=1, max_size=40))
def test_interval_holds_the_median_of_the_pairs(pairs):
    ratio = paired_ratio(*zip(*pairs, strict=True))

    assert ratio.value == median(ours / peer for ours, peer in pairs)
    assert ratio.low <= ratio.value <= ratio.high


@given(st.integers(5, 300))
def test_interval_is_the_narrowest_that_misses_one_time_in_ten_at_most(num_rounds):
    def missed(outside: int) -> float:
        return 2 * sum(comb(num_rounds, index) for index in range(outside + 1)) / 2**num_rounds

    assert missed(num_outside(num_rounds)) <= 0.1 < missed(num_outside(num_rounds) + 1)


@pytest.mark.parametrize("num_rounds", [1, 2, 3, 4])
def test_too_few_rounds_give_all_that_was_seen_and_no_verdict(num_rounds):
    ratio = paired_ratio([3.0] * num_rounds, [2.0] * num_rounds)

    assert num_outside(num_rounds) == 0
    assert ratio.verdict == "too few rounds"


@given(st.lists(RATES, min_size=5, max_size=20), st.floats(1.01, 5))
def test_constant_lead_is_seen_through_any_common_noise(noise, lead):
    ratio = paired_ratio([one * lead for one in noise], noise)

    assert ratio.value == pytest.approx(lead)
    assert ratio.verdict == "ahead"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.02, 1.3, "ahead"), (0.7, 0.99, "behind"), (0.98, 1.4, "noise swallows it")],
)
def test_verdict_asks_whether_the_interval_holds_one(low, high, verdict):
    assert Ratio((low + high) / 2, low, high, 9).verdict == verdict
