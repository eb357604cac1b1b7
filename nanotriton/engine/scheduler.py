"""Which sequences take part in the next step: admission, chunked prefill, continuous batching.

Comes in: sequences. Goes out: a `Plan`, one runner batch and the sequences behind its rows. Holds
no lock, clock or I/O, and knows nothing of sampling, of drafting, or of what makes a slot right.
"""

from nanotriton.engine.costs import StepCosts
from nanotriton.engine.drafts import value_draft
from nanotriton.engine.kv_slots import KVSlots
from nanotriton.engine.picking import Sampled
from nanotriton.engine.plan import Plan, Step
from nanotriton.engine.prefix import PrefixCache
from nanotriton.engine.sequence import Sequence
from nanotriton.engine.waiting import WaitingLine, urgency
from nanotriton.errors import Unavailable
from nanotriton.runners.base import Copy

# A step that takes a prompt's chunk along lasts so many times as long as one without, if it can;
# longer by as much as the prompts that wait outnumber the streams. The sooner a prompt is in, the
# more rows share the steps that follow: at 2.5 the first texts of 8 users came 4 times as late, and
# a fifth fewer tokens.
MAX_STRETCH = 6
# Chunks beside running streams are cut to multiples of it: fewer shapes, and kernels like them.
CHUNK_UNIT = 16


class Scheduler:
    """Every step serves all running streams, and takes at most one chunk of one prompt along.

    The most urgent prompt (see `urgency`) is the one that goes on. Its chunk is cut so that the
    streams don't wait much longer for it than without, unless more prompts wait than streams run;
    while nobody decodes it is `prefill_chunk`.
    Where no prompt waits, the chunk's place goes to the sequence whose draft brings most, if that
    pays. `costs` tells what fits and what pays.
    """

    def __init__(
        self,
        slots: KVSlots,
        prefixes: PrefixCache,
        costs: StepCosts,
        *,
        num_candidates: int,
        max_waiting: int,
        prefill_chunk: int,
        speculation: bool,
    ) -> None:
        self.waiting = WaitingLine()
        self.running: list[Sequence] = []
        self._slots = slots
        self._prefixes = prefixes
        self._costs = costs
        self._num_candidates = num_candidates
        self._max_waiting = max_waiting
        self._prefill_chunk = prefill_chunk
        self._speculation = speculation

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
        if not self.running:
            return None
        prefilling: list[Sequence] = []
        decoding: list[Sequence] = []
        for one in self.running:
            (prefilling if one.is_prefilling else decoding).append(one)
        copies += self._gather(decoding)
        prompt = draft = None
        max_chunk = 0
        if prefilling:
            prompt = min(prefilling, key=lambda one: urgency(one, now_s))
            max_chunk = self._max_chunk(len(prefilling), len(decoding))
            copies += self._share(prompt)
        elif draft := self._best_draft(decoding):
            decoding.remove(draft.sequence)
        return Step(
            decoding,
            self._slots.lengths,
            copies,
            self._num_candidates,
            prompt,
            max_chunk,
            draft,
        ).compose()

    def commit(self, plan: Plan) -> None:
        """Note that the batch's tokens are in their slots, but for drafts that were wrong.

        The newest token is never there: it came out of the batch, not with it.
        """
        for sequence in plan.touched:
            assert sequence.slot is not None
            num_new = plan.batch.num_chunked if sequence is plan.chunked else 1
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

    def _share(self, sequence: Sequence) -> list[Copy]:
        """Let a prompt start from what other slots hold by now, if that is more."""
        if sequence.num_cached > sequence.num_reused:  # some of its own is computed
            return []
        assert sequence.slot is not None
        user = sequence.request.settings.user
        copy = self._prefixes.share(sequence.slot, sequence.tokens, user)
        if copy is None:
            return []
        sequence.num_reused = sequence.num_cached = copy.length
        return [copy]

    def _gather(self, decoding: list[Sequence]) -> list[Copy]:
        """Bring the streams' slots together, by one at each step; the copies that it takes."""
        slots = {one.slot: one for one in decoding if one.slot is not None}
        move = self._prefixes.gather(tuple(slots))
        if move is None:
            return []
        slot, place = move
        slots[slot].slot = place.slot
        return list(place.copies)

    def _max_chunk(self, num_prefilling: int, num_decoding: int) -> int:
        """Tokens of a prompt that the next step may take along."""
        if num_decoding == 0:
            return self._prefill_chunk
        stretch = MAX_STRETCH * max(1.0, num_prefilling / num_decoding)
        room = self._costs.prompt_tokens(num_decoding, stretch)
        return min(self._prefill_chunk, max(CHUNK_UNIT, room // CHUNK_UNIT * CHUNK_UNIT))

    def _best_draft(self, decoding: list[Sequence]) -> Sampled | None:
        """The draft that speeds the next step up most, as long as is worth it; often none."""
        if not self._speculation:
            return None
        best, most = None, 0.0
        for sequence in decoding:
            if not sequence.missing and (draft := sequence.drafter.propose()):
                acceptance, limit = sequence.drafter.acceptance, sequence.num_left - 1
                value = value_draft(acceptance, len(decoding), limit, self._costs)
                if value.gain > most:
                    best, most = Sampled(sequence, tuple(draft[: value.length])), value.gain
        return best
