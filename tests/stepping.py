"""A runner driven by hand: whole prompts and single decode steps, and the logits they bring."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanotriton.runners.base import Batch, Candidates, Copy, Runner


def prefill(
    runner: Runner,
    slot: int,
    ids: NDArray[np.int64],
    chunk: int = 64,
    *,
    copies: tuple[Copy, ...] = (),
    past: int = 0,
) -> NDArray[np.float32]:
    """Logits (T, V) of a sequence that enters `slot` after `past` others, in chunks."""
    parts = []
    for start in range(0, len(ids), chunk):
        part = ids[None, start : start + chunk]
        rows, lengths = np.arange(part.shape[1]), np.array([past + start], np.int32)
        batch = Batch(slot, part, lengths, rows, full_logits=True, copies=copies)
        parts.append(runner.run(batch).full.copy())
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
    ids, past = np.array(tokens, np.int64)[:, None], np.array(lengths, np.int32)
    return runner.run(Batch(first_slot, ids, past, np.array(rows), full_logits))


def decode(
    runner: Runner,
    first_slot: int,
    tokens: Sequence[int],
    lengths: Sequence[int],
    rows: Sequence[int],
) -> NDArray[np.float32]:
    """Logits (R, V) of such a step."""
    return step(runner, first_slot, tokens, lengths, rows).full.copy()
