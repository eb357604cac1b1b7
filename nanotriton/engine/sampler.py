"""Candidate logits to one token a row: greedy, temperature, top-k, top-p, min-p.

Comes in: logits sorted largest first, and for each row its settings and one uniform number. Goes
out: one column index a row. Pure; knows nothing of requests or of randomness.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import exp
from operator import neg

import numpy as np
from numpy.typing import NDArray

from nanotriton.engine.penalties import changes_logits
from nanotriton.engine.request import Settings

# Beside a model, with cold caches, a dozen calls of numpy take longer than so many numbers in
# Python: 138 and 19 us for a row of 64, 2 cores.
FEW = 256


def pick(
    logits: NDArray[np.float32], settings: Sequence[Settings], uniforms: Sequence[float]
) -> list[int]:
    """Column of the chosen candidate for each of R rows of (R, K) logits, largest first.

    Order of the filters: temperature, top_k, top_p, min_p, each over what the one before left
    (as vLLM and Hugging Face do). top_p keeps the smallest set of tokens whose probability
    reaches p; min_p keeps tokens at least min_p times as likely as the likeliest. The token is
    drawn by inverting the cumulative distribution at the row's uniform number in [0, 1), so it
    depends on nothing but its own row. Temperature 0 takes column 0.
    """
    return [*map(_pick_column, logits, settings, uniforms)]


def _pick_column(logits: NDArray[np.float32], settings: Settings, uniform: float) -> int:
    """Weights fall along a row, so every filter keeps a beginning of it."""
    if settings.temperature == 0:
        return 0
    weights = _weigh(logits[: settings.top_k or None], settings.temperature)
    cumulative = weights.cumsum() if isinstance(weights, np.ndarray) else [*accumulate(weights)]
    num_kept = bisect_left(cumulative, settings.top_p * cumulative[-1]) + 1
    if settings.min_p:
        num_kept = min(num_kept, bisect_right(weights, -settings.min_p, key=neg))
    # Kept below 1 so that rounding can't reach past the last column that has weight.
    return bisect_right(cumulative, min(uniform, 1 - 1e-12) * cumulative[num_kept - 1])


def _weigh(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64] | list[float]:
    """How likely each is beside the likeliest; in Python's own numbers if they are few."""
    if len(logits) > FEW:
        scaled = logits.astype(np.float64) / temperature
        weights: NDArray[np.float64] = np.exp(scaled - scaled[0])
        return weights
    shares = [logit / temperature for logit in logits.tolist()]
    return [exp(share - shares[0]) for share in shares]


def needs_all_logits(settings: Settings, num_candidates: int) -> bool:
    """Whether the K largest logits can't hold everything that may be chosen."""
    if changes_logits(settings):
        return True
    return settings.temperature > 0 and not 0 < settings.top_k <= num_candidates
