"""Which sequences take part in the next step: admission, chunked prefill, continuous batching.

Comes in: sequences. Goes out: a `Plan`, one runner batch and the sequences behind its rows. Holds
no lock, clock or I/O, and knows nothing of sampling, of drafting, or of what makes a slot right.
"""

from dataclasses import dataclass

import numpy as np

from nanotriton.engine.costs import StepCosts
from nanotriton.engine.drafts import draft_length
from nanotriton.engine.kv_slots import KVSlots
from nanotriton.engine.picking import Sampled
from nanotriton.engine.prefix import PrefixCache
from nanotriton.engine.sequence import Sequence
from nanotriton.engine.waiting import WaitingLine, urgency
from nanotriton.errors import Unavailable
from nanotriton.runners.base import Batch, Copy


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: `touched` sequences grow in their slots, `sampled` ones get a token.

    The rows of the batch's candidates belong to `sampled` in its order. A prefill chunk that isn't
    the prompt's last samples nothing, and its one row of candidates is left unread.
    """

    kind: str  # "prefill", "decode" or "verify"
    batch: Batch
    touched: list[Sequence]
    sampled: list[Sampled]

    @property
    def is_decoding(self) -> bool:
        """Whether it goes on with texts that have begun."""
        return self.kind != "prefill"


class Scheduler:
    """The most urgent first (see `urgency`); a prefill chunk and a decode turn alternate.

    So a running stream waits for at most one chunk of somebody's prompt between two tokens, and
    a new prompt waits for at most one decode turn a chunk. A decode turn belongs to whoever waited
    longest: a sequence whose draft is worth it gets a verify pass of its own, the others one step
    together. `costs` tells what is worth it; None leaves speculation off.
    """

    def __init__(
        self,
        slots: KVSlots,
        prefixes: PrefixCache,
        costs: StepCosts | None,
        *,
        num_candidates: int,
        max_waiting: int,
        prefill_chunk: int,
    ) -> None:
        self.waiting = WaitingLine()
        self.running: list[Sequence] = []
        self._slots = slots
        self._prefixes = prefixes
        self._num_candidates = num_candidates
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self._costs = costs
        self._prefilled_last = False
        self._num_turns = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a request's first sequence; raises Unavailable when as many as may wait do so."""
        if self.waiting.num_requests >= self._max_waiting + self._slots.num_free:
            raise Unavailable(
                f"the engine is full: {self._max_waiting} requests wait for a slot, which is the "
                "limit: send the request again in a moment"
            )
        self.waiting.add(sequence)

    def hand_over(self, sequence: Sequence, heir: Sequence) -> None:
        """Let a waiting sequence go on in the slot of a running one, with the prompt they share."""
        assert sequence.slot is not None
        self.waiting.discard(heir)
        self.running[self.running.index(sequence)] = heir
        heir.slot, sequence.slot = sequence.slot, None
        heir.num_reused = heir.num_cached = self._prefixes.hand_over(heir.slot, heir.tokens)

    def remove(self, sequence: Sequence, is_sound: bool = True) -> None:
        """Take a sequence out, wherever it is; its slot is free for the next step.

        What the slot holds may serve later prompts, unless the sequence's end makes it doubtful.
        """
        if sequence.slot is None:
            self.waiting.discard(sequence)
            return
        self.running.remove(sequence)
        self._prefixes.release(sequence.slot, is_sound)
        sequence.slot = None

    def plan(self, now_s: float) -> Plan | None:
        """The next step, or None when there is nothing to do."""
        copies = self._admit(now_s)
        prefilling = [one for one in self.running if one.is_prefilling]
        decoding = [one for one in self.running if not one.is_prefilling]
        if prefilling and not (decoding and self._prefilled_last):
            self._prefilled_last = True
            first = min(prefilling, key=lambda one: urgency(one, now_s))
            return self._plan_prefill(first, copies)
        self._prefilled_last = False
        return self._plan_decoding(decoding, copies) if decoding else None

    def commit(self, plan: Plan) -> None:
        """Note that the batch's tokens are in their slots, but for drafts that were wrong.

        The newest token is never there: it came out of the batch, not with it.
        """
        num_new = plan.batch.input_ids.shape[1]
        for sequence in plan.touched:
            assert sequence.slot is not None
            sequence.num_cached = min(sequence.num_cached + num_new, len(sequence.tokens) - 1)
            self._slots.lengths[sequence.slot] = sequence.num_cached

    def _admit(self, now_s: float) -> list[Copy]:
        """Give slots to those that wait, as long as there are any; the copies that it takes."""
        copies: list[Copy] = []
        while self.waiting and self._slots.num_free:
            sequence = self.waiting.pop(now_s)
            request = sequence.request
            place = self._prefixes.place(sequence.tokens, request.settings.user, request.key)
            sequence.slot = place.slot
            sequence.num_reused = sequence.num_cached = place.num_reused
            copies += place.copies
            self.running.append(sequence)
        return copies

    def _plan_prefill(self, sequence: Sequence, copies: list[Copy]) -> Plan:
        assert sequence.slot is not None
        if sequence.num_cached == sequence.num_reused:  # nothing of its own is computed yet
            copies += self._share(sequence)
        start = sequence.num_cached
        chunk = sequence.tokens[start : start + self._prefill_chunk]
        is_last = start + len(chunk) == len(sequence.tokens)
        sampled = [Sampled(sequence)] if is_last else []
        batch = Batch(
            first_slot=sequence.slot,
            input_ids=np.array([chunk], np.int64),  # (1, T)
            past_lengths=np.array([start], np.int32),
            rows=np.array([len(chunk) - 1], np.int64),
            full_logits=self._needs_all_logits(sampled),
            copies=tuple(copies),
        )
        return Plan("prefill", batch, [sequence], sampled)

    def _share(self, sequence: Sequence) -> list[Copy]:
        """Let a sequence start from what other slots hold by now, if that is more."""
        assert sequence.slot is not None
        user = sequence.request.settings.user
        copy = self._prefixes.share(sequence.slot, sequence.tokens, user)
        if copy is None:
            return []
        sequence.num_reused = sequence.num_cached = copy.length
        return [copy]

    def _plan_decoding(self, decoding: list[Sequence], copies: list[Copy]) -> Plan:
        drafts = [self._draft(one, len(decoding)) for one in decoding]
        first = min(range(len(decoding)), key=lambda index: decoding[index].last_turn)
        if drafts[first]:
            plan = self._plan_verify(decoding[first], drafts[first], copies)
        else:
            undrafted = [one for one, draft in zip(decoding, drafts, strict=True) if not draft]
            plan = self._plan_decode(undrafted, copies)
        self._num_turns += 1
        for sequence in plan.touched:
            sequence.last_turn = self._num_turns
        return plan

    def _draft(self, sequence: Sequence, num_decoding: int) -> tuple[int, ...]:
        """The part of a sequence's draft that is worth a pass of its own; often nothing."""
        if self._costs is None or sequence.missing or not (draft := sequence.drafter.propose()):
            return ()
        acceptance, limit = sequence.drafter.acceptance, sequence.num_left - 1
        return tuple(draft[: draft_length(acceptance, num_decoding, limit, self._costs)])

    def _plan_verify(self, sequence: Sequence, draft: tuple[int, ...], copies: list[Copy]) -> Plan:
        assert sequence.slot is not None
        sampled = [Sampled(sequence, draft)]
        batch = Batch(
            first_slot=sequence.slot,
            input_ids=np.array([[sequence.tokens[-1], *draft]], np.int64),  # (1, T)
            past_lengths=np.array([sequence.num_cached], np.int32),
            rows=np.arange(1 + len(draft)),
            full_logits=self._needs_all_logits(sampled),
            copies=tuple(copies),
        )
        return Plan("verify", batch, [sequence], sampled)

    def _plan_decode(self, sequences: list[Sequence], copies: list[Copy]) -> Plan:
        by_slot = {one.slot: one for one in sequences if one.slot is not None}
        order = sorted(by_slot)
        first, last = order[0], order[-1]
        input_ids = np.zeros((last - first + 1, 1), np.int64)  # (B, 1)
        for slot in order:
            input_ids[slot - first, 0] = by_slot[slot].tokens[-1]
        sampled = [Sampled(by_slot[slot]) for slot in order]
        batch = Batch(
            first_slot=first,
            input_ids=input_ids,
            past_lengths=self._slots.lengths[first : last + 1].copy(),
            rows=np.array(order, np.int64) - first,
            full_logits=self._needs_all_logits(sampled),
            copies=tuple(copies),
        )
        return Plan("decode", batch, sequences, sampled)

    def _needs_all_logits(self, sampled: list[Sampled]) -> bool:
        return any(one.needs_all_logits(self._num_candidates) for one in sampled)
