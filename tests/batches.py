"""Batches for runners in tests, and the logits that come back."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanotriton.runners.base import Batch, Chunk, Decode, Runner

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


def chunk_of(slot: int, tokens: Sequence[int] | Ids, past: int = 0) -> Chunk:
    """Tokens for one slot."""
    return Chunk(slot, np.array(tokens, np.int64), past)


def decode_of(first_slot: int, tokens: Sequence[int], lengths: Sequence[int]) -> Decode:
    """A token for each of adjacent slots."""
    return Decode(first_slot, np.array(tokens, np.int64), np.array(lengths, np.int32))


def logits_of(
    runner: Runner,
    chunk: Chunk | None = None,
    decode: Decode | None = None,
    rows: Sequence[int] | None = None,
) -> Floats:
    """Logits (R, V) of one call; of all of its tokens unless told whose."""
    num_tokens = sum(len(part.input_ids) for part in (chunk, decode) if part)
    wanted = np.arange(num_tokens) if rows is None else np.array(rows)
    found = runner.run(Batch(wanted, chunk, decode, full_logits=True)).full
    assert found is not None
    return found.copy()


def prefill(runner: Runner, slot: int, ids: Ids, chunk: int = 64) -> Floats:
    """Logits (T, V) of a sequence that enters `slot` in chunks."""
    starts = range(0, len(ids), chunk)
    parts = [chunk_of(slot, ids[start : start + chunk], start) for start in starts]
    return np.concatenate([logits_of(runner, part) for part in parts])


def decode(
    runner: Runner,
    first_slot: int,
    tokens: Sequence[int],
    lengths: Sequence[int],
    rows: Sequence[int] | None = None,
) -> Floats:
    """Logits (R, V) of one step over adjacent slots."""
    return logits_of(runner, None, decode_of(first_slot, tokens, lengths), rows)
