import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.costs import DRAFT_SHARE, FORGET_AFTER, StepCosts
from nanotriton.engine.drafts import LENGTHS, MAX_DRAFT, NGRAMS, Drafter, draft_length

TEXT = [*range(20), 3, 4, 5]
TOKENS = st.lists(st.integers(0, 3), max_size=40)


def reference(tokens):
    """What followed the last earlier place of the longest known end, walked token by token."""
    for n in NGRAMS:
        for end in range(len(tokens) - 1, n - 1, -1):
            if len(tokens) >= n and tokens[end - n : end] == tokens[-n:]:
                grown = list(tokens)
                for index in range(MAX_DRAFT):
                    grown.append(grown[end + index])
                return grown[len(tokens) :]
    return []


def test_what_followed_the_same_tokens_before_is_proposed():
    assert Drafter(TEXT).propose() == [6, 7, 8, 9, 10, 11, 12, 13]


def test_newest_of_several_places_counts():
    assert Drafter([1, 2, 3, 50, 1, 2, 3, 60, 1, 2, 3]).propose()[:2] == [60, 1]


def test_longer_end_is_trusted_more():
    assert Drafter([1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3]).propose()[0] == 50


def test_repetition_goes_on_beyond_the_end():
    assert Drafter([7, 8, 9, 7, 8, 9, 7, 8]).propose() == [9, 7, 8, 9, 7, 8, 9, 7]


def test_new_text_has_no_draft():
    assert Drafter([*range(30)]).propose() == []


@given(TOKENS, st.lists(st.integers(1, 5), max_size=10))
def test_draft_is_the_one_that_a_walk_finds_however_the_text_grew(tokens, sizes):
    grown = []
    drafter = Drafter(grown)
    for size in [*sizes, len(tokens)]:
        grown += tokens[len(grown) : len(grown) + size]
        assert drafter.propose() == reference(grown)


def test_acceptance_follows_how_often_the_first_guesses_are_right():
    tokens = list(TEXT)
    drafter = Drafter(tokens)
    before = drafter.acceptance
    drafter.propose()
    tokens += [6, 7]
    drafter.propose()
    better = drafter.acceptance
    tokens += [99]
    drafter.propose()
    assert before < better
    assert drafter.acceptance < better


def test_proposal_is_not_scored_twice():
    tokens = list(TEXT)
    drafter = Drafter(tokens)
    drafter.propose()
    tokens.append(6)
    drafter.propose()
    once = drafter.acceptance
    drafter.propose()
    assert drafter.acceptance == once


@pytest.mark.parametrize(
    ("acceptance", "num_decoding", "expected"),
    [(0.0, 1, 0), (0.1, 1, 0), (0.6, 1, 4), (1.0, 1, 8), (0.6, 2, 0), (0.95, 4, 8), (0.8, 8, 0)],
)
def test_draft_is_as_long_as_acceptance_and_load_allow(acceptance, num_decoding, expected):
    assert draft_length(acceptance, num_decoding, MAX_DRAFT, StepCosts()) == expected


@given(st.floats(0, 1), st.integers(1, 64), st.integers(0, 20))
def test_draft_never_passes_the_limit_nor_grows_with_the_load(acceptance, num_decoding, limit):
    costs = StepCosts()
    length = draft_length(acceptance, num_decoding, limit, costs)
    assert length in (0, *LENGTHS)
    assert length <= limit
    assert bool(length) >= bool(draft_length(acceptance, num_decoding + 1, limit, costs))


def test_dear_verify_passes_end_speculation_and_cheap_ones_bring_it_back():
    costs = StepCosts()
    for _ in range(100):
        costs.note(1, 1, 0.010)
        costs.note(1, 5, 0.050)
    assert draft_length(0.6, 1, MAX_DRAFT, costs) == 0
    for _ in range(100):
        costs.note(1, 1, 0.010)
        costs.note(1, 5, 0.011)
    assert draft_length(0.6, 1, MAX_DRAFT, costs) > 0


def test_speculation_that_stopped_is_tried_again_after_a_while():
    costs = StepCosts()
    for _ in range(100):
        costs.note(1, 1, 0.010)
        costs.note(1, 5, 0.050)
    for _ in range(FORGET_AFTER):
        costs.note(1, 1, 0.010)
    assert costs.verify(4) == 1 + 4 * DRAFT_SHARE


def test_cheap_rows_make_the_batch_win_against_a_verify_pass():
    costs = StepCosts()
    assert draft_length(0.7, 2, MAX_DRAFT, costs) > 0
    for _ in range(100):
        costs.note(1, 1, 0.010)
        costs.note(2, 1, 0.0101)
        costs.note(1, 5, 0.013)
    assert draft_length(0.7, 2, MAX_DRAFT, costs) == 0
    assert draft_length(0.7, 1, MAX_DRAFT, costs) > 0


def test_odd_measurements_keep_the_costs_sane():
    costs = StepCosts()
    costs.note(1, 5, 1.0)  # nothing to compare it with yet
    assert costs.verify(4) == 1 + 4 * DRAFT_SHARE
    for _ in range(100):
        costs.note(1, 1, 1.0)
        costs.note(1, 5, 0.0)
        costs.note(4, 1, 1e6)
    assert costs.verify(4) == 1
    assert 1 < costs.decode(2) < math.inf


def test_single_slow_passes_teach_nothing():
    costs = StepCosts()
    for _ in range(50):
        costs.note(1, 1, 0.010)
        costs.note(1, 5, 0.012)
    before = costs.verify(4)
    for _ in range(5):
        costs.note(1, 1, 0.100)
        costs.note(1, 5, 0.300)
    assert costs.verify(4) == before
