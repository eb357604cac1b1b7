"""What every runner promises (see nanotriton.runners.base), held against each of them.

A test compares two ways to the same tokens within one runner, never two runners: whether a graph
computes what its checkpoint does is parity's matter.
"""

import numpy as np
import pytest
from batches import chunk_of, decode_of
from stepping import decode, prefill, step

from nanotriton.runners.base import Batch, Copy


def test_sizes_are_told(runner):
    assert (runner.num_slots, runner.context, runner.vocab_size) == (4, 64, 283)
    assert 0 < runner.num_candidates <= runner.vocab_size
    assert runner.cache_bytes > 0


@pytest.mark.parametrize("rows", [[0], [9], [9, 2], list(range(10))], ids=str)
def test_candidates_belong_to_the_wanted_rows_in_their_order(runner, kind, ids, rows):
    expected = prefill(runner, 0, ids[:10])
    found = runner.run(Batch(np.array(rows), chunk_of(1, ids[:10]), full_logits=True))
    assert found.logits.shape == found.tokens.shape == (len(rows), runner.num_candidates)
    assert found.lse.shape == (len(rows),)
    np.testing.assert_allclose(found.full, expected[rows], atol=kind.atol)


CALLS = {
    "decode": lambda ids: (None, decode_of(0, ids[:1], [0])),
    "prefill": lambda ids: (chunk_of(0, ids[:40]), None),
    "mixed": lambda ids: (chunk_of(0, ids[:40]), decode_of(1, [5, 6], [0, 0])),
}


def everything(chunk, decode):
    """A batch that asks for all logits of all of its tokens."""
    size = sum(len(part.input_ids) for part in (chunk, decode) if part)
    return Batch(np.arange(size), chunk, decode, full_logits=True)


@pytest.mark.parametrize("call", CALLS)
def test_candidates_are_the_best_of_all_logits(runner, ids, call):
    found = runner.run(everything(*CALLS[call](ids)))
    best = runner.num_candidates
    np.testing.assert_array_equal(found.logits, -np.sort(-found.full)[:, :best])
    np.testing.assert_array_equal(np.take_along_axis(found.full, found.tokens, 1), found.logits)


@pytest.mark.parametrize("call", CALLS)
def test_log_sum_exp_is_over_all_logits(runner, ids, call):
    found = runner.run(everything(*CALLS[call](ids)))
    exact = np.log(np.exp(found.full.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(found.lse, exact, atol=1e-5)


def test_full_logits_come_only_when_asked_for(runner, ids):
    prefill(runner, 0, ids[:5])
    without = step(runner, 0, [ids[5]], [5], [0], full_logits=False)
    tokens = without.tokens.copy()
    assert without.full is None
    with_all = step(runner, 0, [ids[5]], [5], [0])
    assert with_all.full.shape == (1, runner.vocab_size)
    np.testing.assert_array_equal(with_all.tokens, tokens)


@pytest.mark.parametrize("chunk", [6, 32, 62])
def test_chunks_bring_what_the_whole_prompt_brings(runner, kind, ids, chunk):
    whole = prefill(runner, 0, ids)
    np.testing.assert_allclose(prefill(runner, 2, ids, chunk), whole, atol=kind.atol)


# Not auto: there prompts and decode steps have weights of their own.
ONE_GRAPH = [
    *("fake", "ort-fp32", "ort-fp32-standard", "ort-fp32+kv8", "ort-int8", "ort-int4"),
    *("trt-fp32", "trt-fp16"),
]


@pytest.mark.parametrize("kind", ONE_GRAPH, indirect=True)
def test_decode_goes_on_as_the_prompt_would(runner, kind, ids):
    whole = prefill(runner, 0, ids)
    prefill(runner, 1, ids[:20])
    for length in range(20, 24):
        found = decode(runner, 1, [ids[length]], [length], [0])
        np.testing.assert_allclose(found, whole[[length]], atol=kind.atol)


def alone(runner, ids, length, num_steps=1):
    """Logits (steps, V) of a sequence that decodes by itself, in the last slot."""
    slot = runner.num_slots - 1
    prefill(runner, slot, ids[:length])
    steps = range(length, length + num_steps)
    return np.concatenate([decode(runner, slot, [ids[one]], [one], [0]) for one in steps])


def test_every_slot_computes_the_same(runner, kind, ids):
    found = []
    for slot in range(runner.num_slots):
        prefill(runner, slot, ids[:12])
        found.append(decode(runner, slot, [ids[12]], [12], [0]))
    for one in found:
        np.testing.assert_allclose(one, found[0], atol=kind.atol)


def test_ragged_decode_equals_single_sequences(runner, kind, ids):
    lengths, num_steps = [40, 3, 17], 5
    expected = [alone(runner, ids, length, num_steps) for length in lengths]
    for slot, length in enumerate(lengths):
        prefill(runner, slot, ids[:length])
    for index in range(num_steps):
        now = [length + index for length in lengths]
        found = decode(runner, 0, ids[now], now, [0, 1, 2])
        together = np.stack([one[index] for one in expected])
        np.testing.assert_allclose(found, together, atol=kind.atol)


def test_dead_rows_change_nothing(runner, kind, ids):
    lengths = [20, 9, 30]
    expected = [alone(runner, ids, length) for length in lengths]
    for slot, length in enumerate(lengths):
        prefill(runner, slot, ids[:length])
    outer = decode(runner, 0, [ids[20], 0, ids[30]], lengths, [0, 2])
    np.testing.assert_allclose(outer, np.concatenate(expected[::2]), atol=kind.atol)
    inner = decode(runner, 1, [ids[9]], [9], [0])  # it was written past its length
    np.testing.assert_allclose(inner, expected[1], atol=kind.atol)


def test_dead_row_of_a_full_slot_harms_no_slot(runner, kind, ids):
    expected = alone(runner, ids, 5, 2)
    prefill(runner, 1, ids)  # full: 64 of 64 positions
    last = alone(runner, ids, 63)
    prefill(runner, 0, ids[:63])
    prefill(runner, 2, ids[:5])
    for index, length in enumerate((5, 6)):
        found = decode(runner, 0, [ids[63], 0, ids[length]], [63, 64, length], [0, 2])
        np.testing.assert_allclose(found, [last[0], expected[index]], atol=kind.atol)


# Slots of a chunk and of three decode rows: apart, and the chunk's a dead row among them, which
# writes behind the chunk. Not auto: there a step of decode rows alone has weights of its own.
@pytest.mark.parametrize(("slot", "live"), [(3, [0, 1, 2]), (1, [0, 2])], ids=["beside", "among"])
@pytest.mark.parametrize("kind", ONE_GRAPH, indirect=True)
def test_chunk_and_decode_rows_bring_what_they_bring_apart(runner, kind, ids, slot, live):
    lengths = [20, 33, 30]
    chunk = prefill(runner, slot, ids[:33])[25:]
    for row in live:
        prefill(runner, row, ids[: lengths[row]])
    apart = [decode(runner, row, [ids[lengths[row]]], [lengths[row]], [0]) for row in live]
    prefill(runner, slot, ids[:25])
    tokens = [ids[length] if row in live else 0 for row, length in enumerate(lengths)]
    rows = np.array([*range(8), *(8 + row for row in live)])
    parts = chunk_of(slot, ids[25:33], 25), decode_of(0, tokens, lengths)
    found = runner.run(Batch(rows, *parts, full_logits=True)).full.copy()
    np.testing.assert_allclose(found, np.concatenate([chunk, *apart]), atol=kind.atol)
    again = decode(runner, slot, [ids[33]], [33], [0])
    np.testing.assert_allclose(again, prefill(runner, slot, ids[:34])[[33]], atol=kind.atol)


@pytest.mark.parametrize("length", [1, 13, 38])
def test_copied_beginning_is_as_good_as_computed(runner, kind, ids, length):
    expected = prefill(runner, 0, ids[:40])
    copies = (Copy(0, 2, length),)
    found = prefill(runner, 2, ids[length:40], copies=copies, past=length)
    np.testing.assert_allclose(found[-1], expected[-1], atol=kind.atol)


def test_copy_leaves_its_source_as_it_was(runner, kind, ids):
    expected = alone(runner, ids, 20)
    prefill(runner, 0, ids[:20])
    prefill(runner, 1, ids[::-1][:30].copy(), copies=(Copy(0, 1, 10),), past=10)
    found = decode(runner, 0, [ids[20]], [20], [0])
    np.testing.assert_allclose(found, expected, atol=kind.atol)


def test_copies_are_made_in_their_order(runner, kind, ids):
    expected = prefill(runner, 0, ids[:20])
    chain = (Copy(0, 1, 12), Copy(1, 2, 12), Copy(2, 3, 12))
    found = prefill(runner, 3, ids[12:20], copies=chain, past=12)
    np.testing.assert_allclose(found[-1], expected[-1], atol=kind.atol)


def test_slot_is_reused_without_clearing(runner, ids):
    expected = prefill(runner, 0, ids[:10])
    prefill(runner, 0, ids[::-1].copy())
    np.testing.assert_array_equal(prefill(runner, 0, ids[:10]), expected)


def test_wrong_draft_is_overwritten(runner, kind, ids):
    """A verify pass writes more than is kept; the next token follows what was kept."""
    expected = alone(runner, ids, 12)
    prefill(runner, 0, ids[:10])
    prefill(runner, 0, np.array([ids[10], ids[11], 7, 8, 9]), past=10)  # 7, 8, 9 were wrong
    found = decode(runner, 0, [ids[12]], [12], [0])
    np.testing.assert_allclose(found, expected, atol=kind.atol)


def test_same_calls_bring_the_same_bits(runner, ids):
    first = prefill(runner, 0, ids[:20], chunk=8), decode(runner, 0, [ids[20]], [20], [0])
    again = prefill(runner, 0, ids[:20], chunk=8), decode(runner, 0, [ids[20]], [20], [0])
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
