"""Candidate logits to one token a row: greedy, temperature, top-k, top-p, min-p.

Comes in: logits sorted largest first, and for each row its settings and one uniform number. Goes
out: one column index a row. Pure and vectorised; knows nothing of requests or of randomness.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanotriton.engine.penalties import changes_logits
from nanotriton.engine.request import Settings


def pick(
    logits: NDArray[np.float32], settings: Sequence[Settings], uniforms: Sequence[float]
) -> NDArray[np.intp]:
    """Column of the chosen candidate for each of R rows of (R, K) logits, largest first.

    Order of the filters: temperature, top_k, top_p, min_p, each over what the one before left
    (as vLLM and Hugging Face do). top_p keeps the smallest set of tokens whose probability
    reaches p; min_p keeps tokens at least min_p times as likely as the likeliest. The token is
    drawn by inverting the cumulative distribution at the row's uniform number in [0, 1), so it
    depends on nothing but its own row. Temperature 0 takes column 0.
    """
    temperature = np.array([row.temperature for row in settings], np.float64)
    chosen = np.zeros(len(settings), np.intp)
    drawn = np.flatnonzero(temperature > 0)
    if not len(drawn):
        return chosen
    num_columns = logits.shape[1]
    rows = [settings[index] for index in drawn]
    top_k = np.array([min(row.top_k or num_columns, num_columns) for row in rows])[:, None]
    top_p = np.array([row.top_p for row in rows])[:, None]
    min_p = np.array([row.min_p for row in rows])[:, None]
    # Kept below 1 so that rounding can't reach past the last column that has weight.
    uniform = np.minimum([uniforms[index] for index in drawn], 1 - 1e-12)[:, None]

    scaled = logits[drawn].astype(np.float64) / temperature[drawn, None]
    weights = np.exp(scaled - scaled[:, :1])  # (R, K), the likeliest weighs 1
    weights[np.arange(num_columns) >= top_k] = 0
    total = weights.sum(axis=1, keepdims=True)
    before = np.cumsum(weights, axis=1) - weights
    weights[(before >= top_p * total) | (weights < min_p)] = 0
    weights[:, 0] = 1.0  # rounding never leaves a row empty
    cumulative = np.cumsum(weights, axis=1)
    chosen[drawn] = (cumulative <= uniform * cumulative[:, -1:]).sum(axis=1)
    return chosen


def needs_all_logits(settings: Settings, num_candidates: int) -> bool:
    """Whether the K largest logits can't hold everything that may be chosen."""
    if changes_logits(settings):
        return True
    return settings.temperature > 0 and not 0 < settings.top_k <= num_candidates
