"""How likely the model found what was written: candidates in, log-probabilities out.

They are the model's own, in nats, whatever temperature, penalties and filters then made of them.
Knows nothing of sequences.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nanotriton.runners.base import Candidates


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A written token's log-probability, and the likeliest tokens of its place with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def logprob_of(candidates: Candidates, row: int, token: int, num_top: int) -> TokenLogprob:
    """Of a token in row `row`; one outside the K candidates needs `candidates.full`.

    Exact, not renormalised over the candidates: logit - log-sum-exp over all V logits.
    """
    lse = float(candidates.lse[row])
    if candidates.full is not None:
        logit = float(candidates.full[row, token])
    else:
        column = int(np.flatnonzero(candidates.tokens[row] == token)[0])
        logit = float(candidates.logits[row, column])
    tokens, logits = candidates.tokens[row, :num_top], candidates.logits[row, :num_top]
    top = zip(tokens.tolist(), logits.tolist(), strict=True)
    return TokenLogprob(token, logit - lse, tuple((one, value - lse) for one, value in top))


def to_json(logprobs: Iterable[TokenLogprob], table: Sequence[bytes]) -> str:
    """The output tensor `output_logprobs`: a JSON array of objects, one a token.

    `table` has each token's bytes; what is no whole UTF-8 shows as U+FFFD in `text`.
    """

    def shown(token: int, logprob: float) -> dict[str, object]:
        text = table[token].decode("utf-8", errors="replace")
        return {"id": token, "text": text, "logprob": round(logprob, 6)}

    return json.dumps(
        [
            shown(one.token, one.logprob) | {"top": [shown(*other) for other in one.top]}
            for one in logprobs
        ]
    )
