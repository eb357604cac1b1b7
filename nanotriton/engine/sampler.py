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
    chosen = np.zeros(len(settings), np.intp)
    drawn = [row for row, one in enumerate(settings) if one.temperature > 0]
    if not drawn:
        return chosen
    num_columns = logits.shape[1]
    # Beside a model each call of numpy costs microseconds, whatever its work: hence one array.
    numbers = np.array([_numbers(settings[row], uniforms[row], num_columns) for row in drawn])
    temperature, top_k, top_p, min_p, uniform = numbers.T[:, :, None]  # (R, 1) each

    scaled = logits[drawn] / temperature
    weights = np.exp(scaled - scaled[:, :1])  # (R, K), the likeliest weighs 1
    weights *= np.arange(num_columns) < top_k
    cumulative = weights.cumsum(axis=1)
    before = cumulative - weights
    weights *= (before < top_p * cumulative[:, -1:]) & (weights >= min_p)
    weights[:, 0] = 1.0  # rounding never leaves a row empty
    cumulative = weights.cumsum(axis=1)
    chosen[drawn] = (cumulative <= uniform * cumulative[:, -1:]).sum(axis=1)
    return chosen


def _numbers(one: Settings, uniform: float, num_columns: int) -> tuple[float, ...]:
    # Kept below 1 so that rounding can't reach past the last column that has weight.
    below_1 = min(uniform, 1 - 1e-12)
    return one.temperature, one.top_k or num_columns, one.top_p, one.min_p, below_1


def needs_all_logits(settings: Settings, num_candidates: int) -> bool:
    """Whether the K largest logits can't hold everything that may be chosen."""
    if changes_logits(settings):
        return True
    return settings.temperature > 0 and not 0 < settings.top_k <= num_candidates
