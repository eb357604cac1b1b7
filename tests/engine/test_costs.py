"""How much of a prompt fits beside running streams, learned from steps."""

from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.costs import StepCosts

STEP_S = 0.010
SECONDS = st.floats(0, 1e3)


def learned(row_s, prompt_s, num_rows):
    """Costs of a machine where a row and a prompt token more take so long, after some steps."""
    costs = StepCosts()
    for _ in range(40):
        costs.note_decode(1, STEP_S)
        costs.note_decode(num_rows, STEP_S + row_s * (num_rows - 1))
        costs.note_prompt(num_rows, 32, STEP_S + row_s * (num_rows - 1) + prompt_s * 32)
    return costs


@given(st.floats(1e-4, 1e-2), st.floats(1e-4, 1e-2), st.integers(2, 32))
def test_chunk_fills_what_a_stretched_step_leaves(row_s, prompt_s, num_rows):
    without = STEP_S + row_s * (num_rows - 1)
    expected = 1.5 * without / prompt_s
    found = learned(row_s, prompt_s, num_rows).prompt_tokens(num_rows, 2.5)
    assert abs(found - expected) <= 1 + 0.01 * expected


def test_more_rows_take_more_of_a_prompt_along():
    costs = StepCosts()
    assert costs.prompt_tokens(1, 2.5) < costs.prompt_tokens(8, 2.5) < costs.prompt_tokens(32, 2.5)


def test_prompt_alone_is_measured_too():
    costs = StepCosts()
    costs.note_decode(1, STEP_S)
    before = costs.prompt_tokens(1, 2.5)
    for _ in range(15):
        costs.note_prompt(0, 128, 40 * STEP_S)
    assert costs.prompt_tokens(1, 2.5) < before


@given(st.lists(st.tuples(st.sampled_from("dvp"), st.integers(1, 9), SECONDS), max_size=60))
def test_any_measurements_leave_room_and_costs_that_are_numbers(steps):
    costs = StepCosts()
    for kind, size, seconds in steps:
        if kind == "d":
            costs.note_decode(size, seconds)
        elif kind == "v":
            costs.note_verify(size, 2, seconds)
        else:
            costs.note_prompt(size - 1, 16, seconds)
    assert costs.prompt_tokens(4, 2.5) >= 0
    assert 1 <= costs.decode(4) <= costs.verify(4, 8) < float("inf")
