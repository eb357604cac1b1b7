"""Candidates to tokens: one for each sampled sequence, and more where a draft proves right.

Comes in: a plan's sequences and the runner's candidates. Goes out: the tokens of each. A sequence
whose prompt was healed gets tokens that write the missing bytes, until all are there. A verified
position is sampled from its own logits with the request's own next number, and the draft goes on
as long as it is what was sampled: so the text is, number for number, the one without a draft.
Pure; knows nothing of slots.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nanotriton.engine.logprobs import TokenLogprob, logprob_of
from nanotriton.engine.penalties import changes_logits, penalized
from nanotriton.engine.sampler import needs_all_logits, pick
from nanotriton.engine.sequence import Sequence
from nanotriton.healing import Healer
from nanotriton.runners.base import Candidates


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sequence and the 1 + len(draft) rows behind it: its newest token's, then the draft's."""

    sequence: Sequence
    draft: tuple[int, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of candidates that it reads."""
        return 1 + len(self.draft)

    def needs_all_logits(self, num_candidates: int) -> bool:
        """Whether the K largest logits can't hold everything that may be chosen."""
        if self.sequence.missing:
            return True
        return needs_all_logits(self.sequence.request.settings, num_candidates)


@dataclass(frozen=True, slots=True)
class Picked:
    """Tokens that a sequence gets; `is_broken` when the logits that follow them are NaN.

    `logprobs` holds one for each token of a request that asked for them.
    """

    tokens: list[int]
    is_broken: bool
    logprobs: list[TokenLogprob] = field(default_factory=list)


def pick_tokens(sampled: list[Sampled], candidates: Candidates, healer: Healer) -> list[Picked]:
    """The tokens of each sampled sequence; its rows stand in the candidates in this order."""
    if not sampled:
        return []
    rows = [(one, index) for one in sampled for index in range(one.num_rows)]
    settings = [one.sequence.request.settings for one, _ in rows]
    uniforms = [number for one in sampled for number in one.sequence.uniforms(one.num_rows)]
    columns = pick(candidates.logits, settings, uniforms)
    num_candidates = candidates.logits.shape[1]

    def token_at(row: int) -> int:
        if not rows[row][0].needs_all_logits(num_candidates):
            return int(candidates.tokens[row, columns[row]])
        assert candidates.full is not None  # the plan asked for them
        logits = candidates.full[row]
        if changes_logits(settings[row]):
            logits = _penalized(logits, *rows[row])
        if missing := rows[row][0].sequence.missing:
            allowed = healer.allowed(missing)
            order = allowed[np.argsort(-logits[allowed], kind="stable")]
        else:
            order = np.argsort(-logits, kind="stable")
        column = pick(logits[order][None], [settings[row]], [uniforms[row]])[0]
        return int(order[column])

    starts = accumulate((one.num_rows for one in sampled), initial=0)
    return [
        _walk(one, start, candidates, token_at) for one, start in zip(sampled, starts, strict=False)
    ]


def _penalized(
    logits: NDArray[np.float32], sampled: Sampled, num_drafted: int
) -> NDArray[np.float32]:
    """A row's logits as the request wants them, after so many tokens of its draft."""
    sequence, drafted = sampled.sequence, sampled.draft[:num_drafted]
    prompt, written = sequence.tokens[: sequence.num_prompt], sequence.tokens[sequence.num_prompt :]
    return penalized(logits, sequence.request.settings, prompt, (*written, *drafted))


def _walk(
    sampled: Sampled, start: int, candidates: Candidates, token_at: Callable[[int], int]
) -> Picked:
    """Go along a draft up to the first token that is not what the logits brought."""
    num_top = sampled.sequence.request.settings.logprobs
    picked = Picked([], is_broken=False)
    for row, expected in enumerate((*sampled.draft, None), start):
        if math.isnan(candidates.lse[row]):
            return replace(picked, is_broken=True)
        token = token_at(row)
        picked.tokens.append(token)
        if num_top is not None:
            picked.logprobs.append(logprob_of(candidates, row, token, num_top))
        if token != expected:
            break
    return picked
