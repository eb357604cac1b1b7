"""Prompts as token ids and a Predictor in; what it writes after each of them out.

Greedy or sampled. Every prompt has a random stream of its own, so its completion does not depend on
which others share its batch. Knows nothing of text: its caller says when a row is done.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.errors import ConfigError
from training.prediction import Predictor, pick
from training.progress import track

IsDone = Callable[[int, Sequence[int]], bool]  # index of the prompt, what was written so far


@dataclass(frozen=True, slots=True)
class CompletionConfig:
    """At most ``max_tokens`` after each prompt; temperature 0 takes the likeliest every time."""

    max_tokens: int
    temperature: float
    seed: int
    batch_size: int = 25  # a batch runs as long as its longest row: small ones waste less

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens is {self.max_tokens}, it must be at least 1")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}, it must be at least 0")


def complete(
    predictor: Predictor,
    prompts: Sequence[Sequence[int]],
    end_of_text: int,
    is_done: IsDone,
    config: CompletionConfig,
) -> list[list[int]]:
    """The ids after each prompt, up to ``is_done``, the limit or the end of the text (left out)."""
    completions: list[list[int]] = []
    starts = range(0, len(prompts), config.batch_size)
    for first in track(starts, len(starts), "batches of completions"):
        batch = dict(enumerate(prompts[first : first + config.batch_size], first))
        completions += _complete_batch(predictor, batch, end_of_text, is_done, config)
    return completions


def _complete_batch(
    predictor: Predictor,
    prompts: Mapping[int, Sequence[int]],
    end_of_text: int,
    is_done: IsDone,
    config: CompletionConfig,
) -> list[list[int]]:
    generators = {index: np.random.default_rng((config.seed, index)) for index in prompts}
    written: dict[int, list[int]] = {index: [] for index in prompts}
    is_open = set(prompts)
    upcoming = predictor.begin(list(prompts.values()))  # (B, V)
    for _ in range(config.max_tokens):
        tokens = [
            pick(row, config.temperature, generators[index])
            for index, row in zip(prompts, upcoming, strict=True)
        ]
        for index, token in zip(prompts, tokens, strict=True):
            if index not in is_open:
                continue
            if token != end_of_text:
                written[index].append(token)
            if token == end_of_text or is_done(index, written[index]):
                is_open.remove(index)
        if not is_open:
            break
        upcoming = predictor.advance(tokens)
    return list(written.values())
