"""A version with two graphs in, how often its greedy texts are those of one graph out.

Which graph answers a decode step depends on how many rows are under way. Here it changes at every
step, on the same slots: all of them in one call, then in calls small enough for the decode graph.
Knows nothing of what agreement is allowed (`export.comparison`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.checkpoint import Checkpoint
from export.parity import Ids, Progress, cut_windows, encode_known, generate, match_greedy
from export.reference import Reference
from nanotriton.runners.base import Runner


@dataclass(frozen=True, slots=True)
class Runners:
    """One that picks the graph by the rows of a step, and one that is pinned to model.onnx; each
    has more slots than the `max_decode_rows` up to which the first picks the decode graph.
    """

    both: Runner
    pinned: Runner
    max_decode_rows: int


def measure_alternation(
    checkpoint: Checkpoint, runners: Runners, text: str, max_tokens: int, progress: Progress
) -> dict[str, float]:
    """Shares of greedy texts that are equal to float32's and to those of model.onnx alone.

    A token of a text counts as float32's by the rules of `export.parity`; a text does when all of
    its tokens do.
    """
    windows = cut_windows(encode_known(checkpoint.vocabulary, text), runners.both, max_tokens)
    prompts = [window[: len(window) // 2] for window in windows]
    rows_a_call = (runners.both.num_slots, runners.max_decode_rows)
    alternating = _generate_all(runners.both, prompts, rows_a_call)
    pinned = _generate_all(runners.pinned, prompts, rows_a_call)
    reference = Reference(checkpoint)
    matches = [
        match_greedy(reference, [prompt], [tokens])
        for prompt, tokens in zip(prompts, alternating, strict=True)
    ]
    progress(f"parity: compared {len(prompts)} texts of graphs that take turns")
    equal = [(one == other).all() for one, other in zip(alternating, pinned, strict=True)]
    return {
        "alternating_texts": float(len(prompts)),
        "alternating_greedy": float(np.concatenate(matches).mean()),
        "alternating_texts_fp32": float(np.mean([one.all() for one in matches])),
        "alternating_texts_pinned": float(np.mean(equal)),
    }


def _generate_all(
    runner: Runner, prompts: Sequence[Ids], rows_a_call: tuple[int, ...]
) -> list[NDArray[np.int64]]:
    """As many prompts at once as there are slots."""
    texts: list[NDArray[np.int64]] = []
    for start in range(0, len(prompts), runner.num_slots):
        texts += generate(runner, prompts[start : start + runner.num_slots], rows_a_call)
    return texts
