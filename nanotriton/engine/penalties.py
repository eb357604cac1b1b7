"""Logits changed by what a request asks and what it has written: bias and the three penalties.

Comes in: one row of all V logits, the settings, the request's tokens. Goes out: a new row. Needs
every logit: a token that a penalty lifts may stand outside the K candidates. Pure; knows nothing of
sequences or of sampling.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanotriton.engine.request import Settings


def changes_logits(settings: Settings) -> bool:
    """Whether the settings ask for other logits than the model's."""
    return bool(
        settings.repetition_penalty != 1
        or settings.frequency_penalty
        or settings.presence_penalty
        or settings.logit_bias
    )


def penalized(
    logits: NDArray[np.float32],
    settings: Settings,
    prompt: Sequence[int],
    completion: Sequence[int],
) -> NDArray[np.float32]:
    """A copy of (V,) logits, biased, then penalized, in vLLM's order.

    The bias is added. Every token of prompt or completion has its positive logit divided by the
    repetition penalty, its negative one multiplied (CTRL, arXiv:1909.05858). From every token of
    the completion the frequency penalty is taken as often as it occurs, the presence penalty once
    (OpenAI's definition).
    """
    changed = logits.copy()
    if settings.logit_bias:
        tokens, biases = zip(*settings.logit_bias, strict=True)
        changed[list(tokens)] += np.array(biases, np.float32)
    if settings.repetition_penalty != 1:
        seen = np.unique(np.array([*prompt, *completion], np.int64))
        factor = np.float32(settings.repetition_penalty)
        values = changed[seen]
        changed[seen] = np.where(values > 0, values / factor, values * factor)
    if completion and (settings.frequency_penalty or settings.presence_penalty):
        written, counts = np.unique(np.array(completion, np.int64), return_counts=True)
        penalty = settings.frequency_penalty * counts + settings.presence_penalty
        changed[written] -= penalty.astype(np.float32)
    return changed
