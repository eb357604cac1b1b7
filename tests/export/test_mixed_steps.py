"""A chunk and decode rows in one call: what comes out is what two calls bring."""

import numpy as np
import pytest
from batches import chunk_of, decode_of, logits_of, prefill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanotriton.runners.base import Batch, Copy

NUM_SLOTS = 4
CONTEXT = 64
# Sums of float32 in another order; a row of the 8-bit graph is bit for bit the same.
TOLERANCE = {"fp32": 1e-5, "int8": 0.0}


@st.composite
def mixed_steps(draw):
    """Which slot gets a chunk, how long it is and each slot's length before; who decodes."""
    lengths = draw(st.lists(st.integers(0, CONTEXT), min_size=NUM_SLOTS, max_size=NUM_SLOTS))
    slot = draw(st.integers(0, NUM_SLOTS - 1))
    lengths[slot] = min(lengths[slot], CONTEXT - 1)
    size = draw(st.integers(1, CONTEXT - lengths[slot]))
    able = [one for one in range(NUM_SLOTS) if one != slot and 0 < lengths[one] < CONTEXT]
    return lengths, slot, size, draw(st.sets(st.sampled_from(able))) if able else set()


def fill(runner, ids, lengths):
    """Slot s starts with token s, so that no two hold the same."""
    for slot, length in enumerate(lengths):
        if length:
            prefill(runner, slot, texts_of(ids)[slot][:length])


def texts_of(ids):
    return [np.roll(ids, slot) for slot in range(NUM_SLOTS)]


def rows_of(ids, lengths, slot, size, decoding):
    """The decode part of such a step, and which of its rows are alive."""
    first, last = min(decoding), max(decoding)
    past = list(lengths)
    past[slot] += size  # where a dead row of the chunk's slot may write
    tokens = [texts_of(ids)[one][past[one] % CONTEXT] for one in range(first, last + 1)]
    return decode_of(first, tokens, past[first : last + 1]), [one - first for one in decoding]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=mixed_steps())
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_mixed_step_brings_what_its_parts_bring(runner_of, ids, precision, step):
    lengths, slot, size, decoding = step
    together, apart = runner_of(precision), runner_of(precision)
    fill(together, ids, lengths)
    fill(apart, ids, lengths)
    start = lengths[slot]
    chunk = chunk_of(slot, texts_of(ids)[slot][start : start + size], start)
    expected, decode, rows = [logits_of(apart, chunk)], None, list(range(size))
    if decoding:
        decode, alive = rows_of(ids, *step)
        expected.append(logits_of(apart, None, decode, alive))
        rows += [size + row for row in alive]
    found = logits_of(together, chunk, decode, rows)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=TOLERANCE[precision])
    for one in range(NUM_SLOTS):  # what is in the slots is the same too
        length = lengths[one] + (size if one == slot else one in decoding)
        held = [runner._cache[:, :, one, :, :length] for runner in (together, apart)]
        np.testing.assert_allclose(*held, atol=TOLERANCE[precision])


def test_dead_row_of_a_chunk_that_fills_its_slot_harms_no_slot(runner_of, ids):
    runner = runner_of("fp32")
    expected = [prefill(runner, 3, text) for text in texts_of(ids)[:3]]
    for slot, length in ((0, 20), (1, 40), (2, 30)):
        prefill(runner, slot, texts_of(ids)[slot][:length])
    tokens = [texts_of(ids)[0][20], 0, texts_of(ids)[2][30]]
    chunk = chunk_of(1, texts_of(ids)[1][40:], 40)
    found = logits_of(runner, chunk, decode_of(0, tokens, [20, CONTEXT, 30]), [23, 24, 26])
    rows = [expected[1][63], expected[0][20], expected[2][30]]
    np.testing.assert_allclose(found, rows, atol=1e-5)


def test_copies_come_before_both_parts(runner_of, ids):
    runner = runner_of("fp32")
    expected = prefill(runner, 0, ids)
    prefill(runner, 2, ids[:30])
    copies = (Copy(0, 1, 20), Copy(0, 3, 25))
    batch = Batch(
        np.array([4, 5, 6]),
        chunk_of(1, ids[20:25], 20),
        decode_of(2, ids[[30, 25]], [30, 25]),
        full_logits=True,
        copies=copies,
    )
    np.testing.assert_allclose(runner.run(batch).full, expected[[24, 30, 25]], atol=1e-5)


def test_dead_row_that_would_write_into_the_chunk_is_refused(runner_of, ids):
    chunk, decode = chunk_of(1, ids[10:20], 10), decode_of(0, [1, 0, 2], [3, 10, 3])
    with pytest.raises(AssertionError, match="writes into the chunk"):
        logits_of(runner_of("fp32"), chunk, decode)
