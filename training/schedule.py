"""Progress and settings in, the share of the run used up and the learning rate out.

Pure arithmetic: holds no clock and knows nothing of PyTorch.
"""

import math

from training.config import TrainConfig

FIRST_SHARE = 0.01  # of the warm-up: at exactly 0 the first step would change nothing


def used_share(config: TrainConfig, step: int, elapsed_s: float) -> float:
    """The part of the run that is over, 1 at its end: the larger of steps' and minutes' share."""
    steps = step / config.max_steps if config.max_steps else 0.0
    minutes = elapsed_s / (60 * config.max_minutes) if config.max_minutes else 0.0
    return max(steps, minutes)


def learning_rate(config: TrainConfig, share: float) -> float:
    """Linear warm-up over ``warmup_share`` of the run, then a cosine down to the minimum."""
    if share < config.warmup_share:
        return config.learning_rate * max(share / config.warmup_share, FIRST_SHARE)
    done = (share - config.warmup_share) / (1.0 - config.warmup_share)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    return config.min_learning_rate + cosine * (config.learning_rate - config.min_learning_rate)
