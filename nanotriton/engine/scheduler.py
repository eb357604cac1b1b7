"""Which sequences take part in the next step: admission, chunked prefill, continuous batching.

Comes in: sequences. Goes out: a `Plan`, one runner batch and the sequences behind its rows. Holds
no lock, clock or I/O, and knows nothing of sampling.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nanotriton.engine.kv_slots import KVSlots
from nanotriton.engine.sampler import needs_all_logits
from nanotriton.engine.sequence import Sequence
from nanotriton.errors import Unavailable
from nanotriton.runners.base import Batch


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: `touched` sequences grow in their slots, `sampled` ones get a token.

    `sampled[r]` stands behind row r of the batch's candidates. A prefill chunk that isn't the
    prompt's last samples nothing, and its one row of candidates is left unread.
    """

    kind: str  # "prefill" or "decode"
    batch: Batch
    touched: list[Sequence]
    sampled: list[Sequence]


class Scheduler:
    """First come, first served; a prefill chunk and a decode step take turns.

    So a running stream waits for at most one chunk of somebody's prompt between two tokens, and
    a new prompt waits for at most one decode step a chunk.
    """

    def __init__(
        self, slots: KVSlots, num_candidates: int, max_waiting: int, prefill_chunk: int
    ) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._slots = slots
        self._num_candidates = num_candidates
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self._prefilled_last = False

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; raises Unavailable when as many as may wait for a slot do so."""
        if len(self.waiting) >= self._max_waiting + self._slots.num_free:
            raise Unavailable(
                f"the engine is full: {self._max_waiting} requests wait for a slot, which is the "
                "limit: send the request again in a moment"
            )
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; its slot is free for the next step."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self._slots.release(sequence.slot)
        sequence.slot = None

    def find(self, is_wanted: Callable[[Sequence], bool]) -> list[Sequence]:
        """Every sequence, waiting or running, that `is_wanted`."""
        return [one for one in (*self.running, *self.waiting) if is_wanted(one)]

    def plan(self) -> Plan | None:
        """The next step, or None when there is nothing to do."""
        self._admit()
        prefilling = next((one for one in self.running if one.is_prefilling), None)
        decoding = [one for one in self.running if not one.is_prefilling]
        if prefilling and not (decoding and self._prefilled_last):
            self._prefilled_last = True
            return self._plan_prefill(prefilling)
        self._prefilled_last = False
        return self._plan_decode(decoding) if decoding else None

    def commit(self, plan: Plan) -> None:
        """Note that the batch's tokens are in their slots now."""
        num_new = plan.batch.input_ids.shape[1]
        for sequence in plan.touched:
            assert sequence.slot is not None
            sequence.num_cached += num_new
            self._slots.lengths[sequence.slot] = sequence.num_cached

    def _admit(self) -> None:
        while self.waiting and self._slots.num_free:
            sequence = self.waiting.popleft()
            sequence.slot = self._slots.take()
            self.running.append(sequence)

    def _plan_prefill(self, sequence: Sequence) -> Plan:
        start = sequence.num_cached
        chunk = sequence.tokens[start : start + self._prefill_chunk]
        sampled = [sequence] if start + len(chunk) == len(sequence.tokens) else []
        assert sequence.slot is not None
        batch = Batch(
            first_slot=sequence.slot,
            input_ids=np.array([chunk], np.int64),  # (1, T)
            past_lengths=np.array([start], np.int32),
            rows=np.array([len(chunk) - 1], np.int64),
            full_logits=self._needs_all_logits(sampled),
        )
        return Plan("prefill", batch, [sequence], sampled)

    def _plan_decode(self, sequences: list[Sequence]) -> Plan:
        by_slot = {one.slot: one for one in sequences if one.slot is not None}
        order = sorted(by_slot)
        first, last = order[0], order[-1]
        input_ids = np.zeros((last - first + 1, 1), np.int64)  # (B, 1)
        for slot in order:
            input_ids[slot - first, 0] = by_slot[slot].tokens[-1]
        sampled = [by_slot[slot] for slot in order]
        batch = Batch(
            first_slot=first,
            input_ids=input_ids,
            past_lengths=self._slots.lengths[first : last + 1].copy(),
            rows=np.array(order, np.int64) - first,
            full_logits=self._needs_all_logits(sampled),
        )
        return Plan("decode", batch, sampled, sampled)

    def _needs_all_logits(self, sampled: list[Sequence]) -> bool:
        return any(needs_all_logits(one.request.settings, self._num_candidates) for one in sampled)
