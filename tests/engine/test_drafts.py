import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.costs import FORGET_AFTER, StepCosts
from nanotriton.engine.drafts import LENGTHS, MAX_DRAFT, NGRAMS, Drafter, value_draft

TEXT = [*range(20), 3, 4, 5]
STEP_S = 0.010
TOKENS = st.lists(st.integers(0, 3), max_size=40)


def draft_length(acceptance, num_decoding, limit=MAX_DRAFT, costs=None):
    return value_draft(acceptance, num_decoding, limit, costs or StepCosts()).length


def learned(verify_s, lengths, *, times=100, costs=None):
    """Costs after steps of one row and verify steps of drafts of each length, in turn."""
    costs = costs or StepCosts()
    for _ in range(times):
        for length in lengths:
            costs.note_decode(1, STEP_S)
            costs.note_verify(1, length, verify_s)
    return costs


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
    [(0.0, 1, 0), (0.1, 1, 0), (0.6, 1, 4), (1.0, 1, 8), (0.6, 2, 2), (0.95, 4, 8), (0.6, 8, 0)],
)
def test_draft_is_as_long_as_acceptance_and_load_allow(acceptance, num_decoding, expected):
    assert draft_length(acceptance, num_decoding) == expected


@given(st.floats(0, 1), st.integers(1, 64), st.integers(0, 20))
def test_draft_never_passes_the_limit_nor_grows_with_the_load(acceptance, num_decoding, limit):
    length = draft_length(acceptance, num_decoding, limit)
    assert length in (0, *LENGTHS)
    assert length <= limit
    assert bool(length) >= bool(draft_length(acceptance, num_decoding + 1, limit))


@given(st.floats(0, 1), st.integers(1, 64))
def test_surer_draft_brings_no_less(acceptance, num_decoding):
    values = [value_draft(a, num_decoding, MAX_DRAFT, StepCosts()) for a in (acceptance, 1.0)]
    assert values[0].gain <= values[1].gain


def test_dear_verify_passes_end_speculation_and_cheap_ones_bring_it_back():
    costs = learned(5 * STEP_S, LENGTHS)
    assert draft_length(0.6, 1, costs=costs) == 0
    assert draft_length(0.6, 1, costs=learned(1.1 * STEP_S, LENGTHS, costs=costs)) > 0


def test_length_that_is_dear_says_nothing_of_the_others():
    costs = learned(5 * STEP_S, [4])
    assert costs.verify(1, 4) > 4
    assert costs.verify(1, 2) == StepCosts().verify(1, 2)


def test_draft_that_hardly_pays_by_the_estimate_is_not_verified():
    costs = learned(1.5 * STEP_S, LENGTHS)
    assert draft_length(0.3, 1, costs=costs) == draft_length(0.35, 1, costs=costs) == 0
    assert draft_length(0.6, 1, costs=costs) > 0


def test_speculation_that_stopped_is_tried_again_after_a_while():
    costs = learned(5 * STEP_S, LENGTHS)
    for _ in range(2 * FORGET_AFTER):
        costs.note_decode(1, STEP_S)
    assert costs.verify(1, 4) == StepCosts().verify(1, 4)


def test_only_lengths_that_were_not_verified_for_long_are_forgotten():
    costs = learned(5 * STEP_S, LENGTHS)
    for _ in range(2 * FORGET_AFTER):
        costs.note_verify(1, 2, 5 * STEP_S)
    assert costs.verify(1, 4) == StepCosts().verify(1, 4)
    assert costs.verify(1, 2) > 4


def test_dear_rows_make_a_draft_beside_them_cheap():
    costs = learned(1.4 * STEP_S, LENGTHS)
    plain = draft_length(0.6, 8, costs=costs)
    for _ in range(100):
        costs.note_decode(1, STEP_S)
        costs.note_decode(8, 8 * STEP_S)
    assert draft_length(0.6, 8, costs=costs) > plain


def test_odd_measurements_keep_the_costs_sane():
    costs = StepCosts()
    costs.note_verify(1, 4, 1.0)  # nothing to compare it with yet
    assert costs.verify(1, 4) == StepCosts().verify(1, 4)
    for _ in range(100):
        costs.note_decode(1, 1.0)
        costs.note_verify(1, 4, 0.0)
        costs.note_decode(4, 1e6)
    assert costs.verify(1, 4) == 1
    assert 1 < costs.decode(2) < math.inf


def test_single_slow_passes_teach_nothing():
    costs = learned(1.2 * STEP_S, [4], times=50)
    before = costs.verify(1, 4)
    costs.note_decode(1, 10 * STEP_S)
    assert learned(30 * STEP_S, [4], times=5, costs=costs).verify(1, 4) == before
