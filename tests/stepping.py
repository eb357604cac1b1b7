"""A runner driven by hand: whole prompts and single decode steps, and the logits they bring."""

from collections.abc import Sequence

import numpy as np
from batches import Floats, Ids, chunk_of, decode_of

from nanotriton.runners.base import Batch, Candidates, Copy, Runner


def prefill(
    runner: Runner,
    slot: int,
    ids: Ids,
    chunk: int = 64,
    *,
    copies: tuple[Copy, ...] = (),
    past: int = 0,
) -> Floats:
    """Logits (T, V) of a sequence that enters `slot` after `past` others, in chunks."""
    parts = []
    for start in range(0, len(ids), chunk):
        part = chunk_of(slot, ids[start : start + chunk], past + start)
        rows = np.arange(len(part.input_ids))
        found = runner.run(Batch(rows, part, full_logits=True, copies=copies))
        parts.append(found.full.copy())
        copies = ()
    return np.concatenate(parts)


def step(
    runner: Runner,
    first_slot: int,
    tokens: Sequence[int],
    lengths: Sequence[int],
    rows: Sequence[int],
    *,
    full_logits: bool = True,
) -> Candidates:
    """The candidates of one step of one token over adjacent slots."""
    decode = decode_of(first_slot, tokens, lengths)
    return runner.run(Batch(np.array(rows), None, decode, full_logits))


def decode(
    runner: Runner,
    first_slot: int,
    tokens: Sequence[int],
    lengths: Sequence[int],
    rows: Sequence[int],
) -> Floats:
    """Logits (R, V) of such a step."""
    return step(runner, first_slot, tokens, lengths, rows).full.copy()
