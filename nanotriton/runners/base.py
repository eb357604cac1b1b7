"""The runner protocol: token ids and slots in, candidate logits out.

A runner owns the model and its KV cache of S slots, each M positions long. It knows nothing of
requests, text or sampling; the engine's scheduler says which slots take which tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Copy:
    """The first `length` tokens that slot `source` holds, to the beginning of slot `target`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One call: row b works on slot `first_slot + b` and appends T tokens to it.

    input_ids     (B, T) int64
    past_lengths  (B,) int32, tokens that the slot already holds; the new ones are written after
                  them. A row whose slot only lies between two others (a dead row) carries any
                  token and its slot's own length: what it writes there is overwritten later.
    rows          (R,) int64, positions b * T + t whose logits are wanted
    full_logits   whether `Candidates.full` is wanted too (slow: V numbers a row)
    copies        made before anything else, in their order

    T > 1 needs B = 1 (a limit of ONNX Runtime's GroupQueryAttention with a past).
    """

    first_slot: int
    input_ids: NDArray[np.int64]
    past_lengths: NDArray[np.int32]
    rows: NDArray[np.int64]
    full_logits: bool = False
    copies: tuple[Copy, ...] = ()


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
    """A model with S KV slots of M positions, V tokens, K candidates a row, and what S takes."""

    num_slots: int
    context: int
    vocab_size: int
    num_candidates: int
    cache_bytes: int

    def run(self, batch: Batch) -> Candidates:
        """Make the copies, append the tokens to their slots, return the wanted rows' candidates.

        Raises RunnerError when the runtime fails; the slots it touched are then undefined.
        """
        ...
