"""Who takes part in a step in, the runner's batch and who reads which of its candidates out.

Knows nothing of why they take part (`engine.scheduler`), nor of what slots hold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotriton.engine.picking import Sampled
from nanotriton.engine.sequence import Sequence
from nanotriton.runners.base import Batch, Chunk, Copy, Decode


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: the chunk of `chunked` enters its slot, and a token of each of `decoded`.

    `kind` is "prefill", "decode", "mixed" (a prompt's chunk beside decode rows) or "verify" (a
    draft, perhaps beside decode rows). The rows of the batch's candidates belong to `sampled` in
    its order. A prompt's chunk that isn't its last samples nothing; when it is alone, its one row
    of candidates is left unread.
    """

    kind: str
    batch: Batch
    chunked: Sequence | None
    decoded: list[Sequence]
    sampled: list[Sampled]

    @property
    def touched(self) -> list[Sequence]:
        """Sequences that grow in their slots."""
        return [*([self.chunked] if self.chunked else []), *self.decoded]


@dataclass(frozen=True, slots=True)
class Step:
    """What a scheduler decided: at most one of `prompt` and `draft`, and who decodes beside it.

    prompt        whose prompt goes on, by at most `max_chunk` tokens
    draft         whose draft is verified
    slot_lengths  (S,) int32, tokens that each slot holds before the step
    """

    decoding: list[Sequence]
    slot_lengths: NDArray[np.int32]
    copies: list[Copy]
    num_candidates: int
    prompt: Sequence | None = None
    max_chunk: int = 0
    draft: Sampled | None = None

    def compose(self) -> Plan:
        """The plan of this step."""
        if self.prompt:
            return self._compose_prompt(self.prompt)
        if self.draft:
            one = self.draft.sequence
            chunk = _chunk(one, [one.tokens[-1], *self.draft.draft])
            rows = list(range(len(chunk.input_ids)))
            return self._compose("verify", chunk, one, rows, [self.draft])
        return self._compose("decode", None, None, [], [])

    def _compose_prompt(self, one: Sequence) -> Plan:
        chunk = _chunk(one, one.tokens[one.num_cached : one.num_cached + self.max_chunk])
        is_last = chunk.length == len(one.tokens)
        rows = [len(chunk.input_ids) - 1]
        kind = "mixed" if self.decoding else "prefill"
        sampled = [Sampled(one)] if is_last else []
        return self._compose(
            kind, chunk, one, rows if is_last or not self.decoding else [], sampled
        )

    def _compose(
        self,
        kind: str,
        chunk: Chunk | None,
        chunked: Sequence | None,
        rows: list[int],
        sampled: list[Sampled],
    ) -> Plan:
        """A plan whose first candidates, those of `rows`, are for `sampled`."""
        decoded = sorted(self.decoding, key=_slot)
        decode = self._decode(decoded, chunk) if decoded else None
        if decode:
            start = (len(chunk.input_ids) if chunk else 0) - decode.first_slot
            rows = [*rows, *(start + _slot(one) for one in decoded)]
        sampled = [*sampled, *(Sampled(one) for one in decoded)]
        batch = Batch(
            np.array(rows, np.int64),
            chunk,
            decode,
            full_logits=any(one.needs_all_logits(self.num_candidates) for one in sampled),
            copies=tuple(self.copies),
        )
        return Plan(kind, batch, chunked, decoded, sampled)

    def _decode(self, decoded: list[Sequence], chunk: Chunk | None) -> Decode:
        """The newest token of each, and dead rows for the slots in between."""
        first, last = _slot(decoded[0]), _slot(decoded[-1])
        input_ids = [0] * (last - first + 1)
        for one in decoded:
            input_ids[_slot(one) - first] = one.tokens[-1]
        lengths = self.slot_lengths[first : last + 1].copy()
        if chunk and first < chunk.slot < last:
            lengths[chunk.slot - first] = chunk.length
        return Decode(first, np.array(input_ids, np.int64), lengths)  # (B,) both


def _chunk(sequence: Sequence, tokens: list[int]) -> Chunk:
    return Chunk(_slot(sequence), np.array(tokens, np.int64), sequence.num_cached)


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None
    return sequence.slot
