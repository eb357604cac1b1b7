"""A model's sizes, a device and a duration in; tokens a second and the share of the peak out.

The peak is measured on the machine itself: a square matrix product in the training's dtype, the
best of a few, on all threads this process has. Knows nothing of training.
"""

import time
from dataclasses import dataclass

import torch

from training.gpt import GPT

PEAK_SIZE = {"cpu": 1024, "cuda": 8192}  # large enough to reach the peak, 10 ms or less each
PEAK_ROUNDS = 10  # the best counts: other programs only ever slow it down


@dataclass(frozen=True, slots=True)
class Speed:
    """``peak_flops`` a second of all processes together."""

    flops_per_token: float
    peak_flops: float

    def peak_share(self, tokens_per_s: float) -> float:
        """What part of the peak the training's own arithmetic is (MFU), 0 to 1."""
        return tokens_per_s * self.flops_per_token / self.peak_flops


def flops_per_token(model: GPT) -> float:
    """Forward and backward: 6 N + 12 L (H D) T.

    N counts every weight that is multiplied: all but the positions, and the embedding once, as the
    output layer. Attention is counted in full, without the half that causality saves (PaLM,
    https://arxiv.org/abs/2204.02311, appendix B; nanoGPT's estimate_mfu does the same).
    """
    config = model.config
    attention = 12 * config.n_layer * config.n_embd * config.block_size
    return 6.0 * model.num_parameters + attention


def measure_peak(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of one process's matrix product."""
    kind = torch.device(device).type
    size = PEAK_SIZE[kind]
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    durations_s = []
    for _ in range(PEAK_ROUNDS):
        started_s = time.perf_counter()
        _ = left @ right
        if kind == "cuda":
            torch.cuda.synchronize()
        durations_s.append(time.perf_counter() - started_s)
    return 2.0 * size**3 / min(durations_s)
