"""A runner for tests: its next token depends on the whole prefix in the slot, and on nothing else.

Comes in: batches. Goes out: made-up logits. It keeps the token ids where a real runner keeps keys
and values, so a wrong slot, a wrong length or a torn prefill changes the text.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanotriton.errors import RunnerError
from nanotriton.runners.base import Batch, Candidates


@dataclass
class FakeRunner:
    """S slots over a vocabulary of V tokens; `batches` records the shape of every call.

    `fail_on` names a token id whose arrival makes the call raise RunnerError, `nan_on` one that
    makes its row's logits NaN. `echo` is how much likelier, in logits, it makes what followed the
    newest token where that stood before: code repeats itself.
    """

    num_slots: int = 4
    context: int = 64
    vocab_size: int = 97
    num_candidates: int = 8
    fail_on: int | None = None
    nan_on: int | None = None
    echo: float = 0.0
    batches: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots = np.full((self.num_slots, self.context), -1, np.int64)
        self.cache_bytes = self._slots.nbytes

    def run(self, batch: Batch) -> Candidates:
        """Append the tokens and answer with logits seeded by each row's prefix."""
        num_rows, num_new = batch.input_ids.shape
        assert num_rows == 1 or num_new == 1
        self.batches.append((num_rows, num_new))
        for one in batch.copies:
            self._slots[one.target] = -1  # what lay behind the copy must not be read
            self._slots[one.target, : one.length] = self._slots[one.source, : one.length]
            assert (self._slots[one.target, : one.length] >= 0).all(), one
        if self.fail_on is not None and self.fail_on in batch.input_ids:
            raise RunnerError(f"token {self.fail_on} was told to fail")
        for row, past in enumerate(batch.past_lengths):
            slot = self._slots[batch.first_slot + row]
            slot[past : past + num_new] = batch.input_ids[row]
        full = np.stack([self._logits(batch, position) for position in batch.rows])
        order = np.argsort(-full, axis=1)[:, : self.num_candidates]
        lse = np.log(np.exp(full).sum(axis=1))
        return Candidates(
            np.take_along_axis(full, order, axis=1),
            order.astype(np.int64),
            lse.astype(np.float32),
            full if batch.full_logits else None,
        )

    def _logits(self, batch: Batch, position: int) -> NDArray[np.float32]:
        row, column = divmod(int(position), batch.input_ids.shape[1])
        prefix = self._slots[batch.first_slot + row, : batch.past_lengths[row] + column + 1]
        assert (prefix >= 0).all(), "a position was read that was never written"
        if batch.input_ids[row, column] == self.nan_on:
            return np.full(self.vocab_size, np.nan, np.float32)
        seed = zlib.crc32(prefix.tobytes())
        logits = np.random.default_rng(seed).normal(0, 3, self.vocab_size).astype(np.float32)
        earlier = np.flatnonzero(prefix[:-1] == prefix[-1])
        if len(earlier):
            logits[prefix[earlier[-1] + 1]] += self.echo
        return logits
