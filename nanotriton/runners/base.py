"""The runner protocol: token ids and slots in, candidate logits out.

A runner owns the model and its KV cache of S slots, each M positions long. It knows nothing of
requests, text or sampling; the engine's scheduler says which slots take which tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nanotriton.errors import RunnerError


@dataclass(frozen=True, slots=True)
class Copy:
    """The first `length` tokens that slot `source` holds, to the beginning of slot `target`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """T tokens for one slot: a piece of a prompt, or a newest token and the draft behind it.

    input_ids    (T,) int64, written after the `past_length` tokens that the slot already holds
    """

    slot: int
    input_ids: NDArray[np.int64]
    past_length: int

    @property
    def length(self) -> int:
        """Tokens that the slot holds after the call."""
        return self.past_length + len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Decode:
    """One token for each of B consecutive slots: row b works on slot `first_slot + b`.

    input_ids     (B,) int64
    past_lengths  (B,) int32, tokens that the slot already holds; the new one is written after
                  them. A row whose slot only lies between two others (a dead row) carries any
                  token and the length that its slot has after the call, the chunk's tokens
                  included: what it writes there is overwritten later.
    """

    first_slot: int
    input_ids: NDArray[np.int64]
    past_lengths: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """One call: a chunk, decode rows, or both, whose N = T + B tokens pass the model together.

    rows         (R,) int64, whose logits are wanted: the chunk's tokens count from 0, and the
                 decode rows from T
    full_logits  whether `Candidates.full` is wanted too (slow: V numbers a row)
    copies       made before anything else, in their order
    """

    rows: NDArray[np.int64]
    chunk: Chunk | None = None
    decode: Decode | None = None
    full_logits: bool = False
    copies: tuple[Copy, ...] = ()

    @property
    def num_chunked(self) -> int:
        """T, 0 without a chunk."""
        return len(self.chunk.input_ids) if self.chunk else 0

    @property
    def num_decoded(self) -> int:
        """B, 0 without decode rows."""
        return len(self.decode.input_ids) if self.decode else 0


@dataclass(frozen=True, slots=True)
class Candidates:
    """The K largest logits of each wanted row; valid until the runner's next call.

    logits  (R, K) float32, largest first
    tokens  (R, K) int64
    lse     (R,) float32, log-sum-exp over all V logits: log-probability = logit - lse
    full    (R, V) float32 when the batch asked for it
    graph   which of the model's graphs answered, if it has several
    """

    logits: NDArray[np.float32]
    tokens: NDArray[np.int64]
    lse: NDArray[np.float32]
    full: NDArray[np.float32] | None = None
    graph: str = ""


class Runner(Protocol):
    """A model with S KV slots of M positions, V tokens, K candidates a row, and what S takes.

    `has_native_attention` says whether the library of our own attends (`runners.native`).
    """

    num_slots: int
    context: int
    vocab_size: int
    num_candidates: int
    cache_bytes: int
    has_native_attention: bool

    def run(self, batch: Batch) -> Candidates:
        """Make the copies, append the tokens to their slots, return the wanted rows' candidates.

        Raises RunnerError when the runtime fails: what the slots held before stays, what the call
        was to append or to copy is undefined. Raises DeviceLost when no call can work again, which
        ends the engine's process.
        """
        ...


def check_batch(batch: Batch, runner: Runner) -> None:
    """Assert that a batch is one that this runner can take: the engine's own invariants."""
    chunk, decode = batch.chunk, batch.decode
    assert chunk or decode
    assert len(batch.rows) > 0
    _check_range(batch.rows, batch.num_chunked + batch.num_decoded)
    if chunk:
        assert 0 <= chunk.slot < runner.num_slots, chunk.slot
        assert 0 <= chunk.past_length < chunk.length <= runner.context, chunk
        _check_ids(chunk.input_ids, runner)
    if decode:
        assert 0 <= decode.first_slot <= runner.num_slots - batch.num_decoded, decode.first_slot
        assert decode.past_lengths.shape == decode.input_ids.shape, decode.past_lengths.shape
        # A dead row whose slot is full writes at the one position that a slot has to spare.
        _check_range(decode.past_lengths, runner.context + 1)
        _check_ids(decode.input_ids, runner)
    if chunk and decode and 0 <= (row := chunk.slot - decode.first_slot) < batch.num_decoded:
        assert decode.past_lengths[row] >= chunk.length, "a dead row writes into the chunk"
    for one in batch.copies:
        assert one.source != one.target, one
        assert 0 < one.length <= runner.context, one


def _check_ids(input_ids: NDArray[np.int64], runner: Runner) -> None:
    assert input_ids.ndim == 1, input_ids.shape
    _check_range(input_ids, runner.vocab_size)


def _check_range(array: NDArray[np.generic], end: int) -> None:
    numbers = array.tolist()  # of so few, Python finds the least and the largest sooner than numpy
    assert 0 <= min(numbers) <= max(numbers) < end, numbers


def fit_slots(cache_bytes: int, slot_bytes: int) -> int:
    """KV slots that fit into so many bytes; raises RunnerError when not even one does."""
    if cache_bytes < slot_bytes:
        raise RunnerError(
            f"kv_cache_bytes is {cache_bytes}, one KV slot of this model takes {slot_bytes}: "
            "give it at least that much"
        )
    return cache_bytes // slot_bytes
