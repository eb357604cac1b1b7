"""A runner for tests: its next token depends on the whole prefix in the slot, and on nothing else.

Comes in: batches. Goes out: made-up logits. It keeps the token ids where a real runner keeps keys
and values, so a wrong slot, a wrong length or a torn prefill changes the text.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nanotriton.errors import RunnerError
from nanotriton.runners.base import Batch, Candidates, Copy, check_batch


@dataclass
class FakeRunner:
    """S slots over a vocabulary of V tokens; `batches` records T and B of every call.

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
        # One position more than the context, as every runner has it: see `Decode`.
        self._slots = np.full((self.num_slots, self.context + 1), -1, np.int64)
        self.cache_bytes = self._slots.nbytes
        self.has_native_attention = False

    def run(self, batch: Batch) -> Candidates:
        """Append the tokens and answer with logits seeded by each row's prefix."""
        check_batch(batch, self)
        self.batches.append((batch.num_chunked, batch.num_decoded))
        for one in batch.copies:
            self._copy(one)
        prefixes = self._append(batch)
        newest = [prefix[-1] for prefix in prefixes]
        if self.fail_on is not None and self.fail_on in newest:
            raise RunnerError(f"token {self.fail_on} was told to fail")
        full = np.stack([self._logits(prefixes[row]) for row in batch.rows])
        order = np.argsort(-full, axis=1)[:, : self.num_candidates]
        lse = np.log(np.exp(full).sum(axis=1))
        return Candidates(
            np.take_along_axis(full, order, axis=1),
            order.astype(np.int64),
            lse.astype(np.float32),
            full if batch.full_logits else None,
        )

    def _copy(self, one: Copy) -> None:
        self._slots[one.target] = -1  # what lay behind the copy must not be read
        self._slots[one.target, : one.length] = self._slots[one.source, : one.length]
        assert (self._slots[one.target, : one.length] >= 0).all(), one

    def _append(self, batch: Batch) -> list[NDArray[np.int64]]:
        """Write the tokens; of each of the N the prefix that it ends."""
        ends: list[tuple[int, int]] = []
        if chunk := batch.chunk:
            self._slots[chunk.slot, chunk.past_length : chunk.length] = chunk.input_ids
            ends += [(chunk.slot, end + 1) for end in range(chunk.past_length, chunk.length)]
        if decode := batch.decode:
            for row, past in enumerate(decode.past_lengths):
                slot = decode.first_slot + row
                self._slots[slot, past] = decode.input_ids[row]
                ends.append((slot, int(past) + 1))
        return [self._slots[slot, :end] for slot, end in ends]

    def _logits(self, prefix: NDArray[np.int64]) -> NDArray[np.float32]:
        assert (prefix >= 0).all(), "a position was read that was never written"
        if prefix[-1] == self.nan_on:
            return np.full(self.vocab_size, np.nan, np.float32)
        seed = zlib.crc32(prefix.tobytes())
        logits = np.random.default_rng(seed).normal(0, 3, self.vocab_size).astype(np.float32)
        earlier = np.flatnonzero(prefix[:-1] == prefix[-1])
        if len(earlier):
            logits[prefix[earlier[-1] + 1]] += self.echo
        return logits
