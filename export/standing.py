"""Contenders in, how each stands to the first of them out: quality, size, speed.

All read the same held-out tokens, through their own runners as the engine drives them (prompts in
chunks, then all slots token by token), and take every timed step in turn. The first is the
reference of every comparison. Knows nothing of how it is shown (`export.standing_report`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from export.comparison import Report, Tally
from export.contender import Contender
from export.parity import (
    CHUNK,
    Ids,
    Progress,
    Served,
    cut_windows,
    encode_known,
    generate,
    serve,
)
from export.vocabulary import find_vocabulary
from nanotriton.runners.base import Runner
from nanotriton.runners.timing import Timing, decode_batch, prefill_batch, time_steps

NUM_SLOTS = 4  # while quality is measured
BATCHES = (1, 8, 32)
PREFILL = 128


@dataclass(frozen=True, slots=True)
class Speed:
    """Median tokens a second, how many times the reference's that is, and the quartiles' distance
    as a share of the median.
    """

    tokens_s: float
    ratio: float
    spread: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender's figures; shares lie between 0 and 1, KL in nats a token.

    `top1` and `greedy_texts` are shares of the places and of the greedy texts where it agrees
    with the reference. Speeds are those of "decode B" rows and of a "prefill T" chunk.
    """

    name: str
    precision: str
    size_bytes: int
    load_s: float
    tokens: int
    perplexity: float
    perplexity_rise: float
    mean_kl: float
    top1: float
    greedy_texts: float
    num_texts: int
    speeds: dict[str, Speed]


@dataclass(frozen=True, slots=True)
class Contest:
    """How to compare: about `max_tokens` tokens of `text`, `rounds` times each timed step."""

    text: str
    max_tokens: int
    rounds: int
    num_threads: int
    progress: Progress

    def measure(self, contenders: Sequence[Contender]) -> list[Standing]:
        """In their order; raises ArtifactError when the text is too short."""
        reports = self._reports(contenders)
        started: list[float] = []
        runners = []
        for one in contenders:  # once more: the files now lie in memory for all of them
            started.append(perf_counter())
            runners.append(one.open(max(BATCHES), self.num_threads))
        loads = np.diff([*started, perf_counter()])
        timings = self._timings(runners)
        return [
            _standing(one, reports[at], float(loads[at]), at, timings)
            for at, one in enumerate(contenders)
        ]

    def _reports(self, contenders: Sequence[Contender]) -> list[Report]:
        runners = [one.open(NUM_SLOTS, self.num_threads) for one in contenders]
        shortest = min(runners, key=lambda one: one.context)
        ids = encode_known(find_vocabulary(contenders[0].folder), self.text)
        windows = cut_windows(ids, shortest, self.max_tokens)
        tallies = [Tally() for _ in runners]
        equal: list[list[bool]] = [[] for _ in runners]
        for start in range(0, len(windows), NUM_SLOTS):
            group = windows[start : start + NUM_SLOTS]
            expected = serve(runners[0], group)
            prompts = [window[: len(window) // 2] for window in group]
            texts = generate(runners[0], prompts)
            for runner, tally, same in zip(runners, tallies, equal, strict=True):
                found = expected if runner is runners[0] else serve(runner, group)
                for one in zip(group, expected, found, strict=True):
                    _compare(tally, *one)
                written = texts if runner is runners[0] else generate(runner, prompts)
                num_new = min(len(texts[0]), len(written[0]))  # contexts may differ
                same += [
                    bool((one[:num_new] == other[:num_new]).all())
                    for one, other in zip(texts, written, strict=True)
                ]
            self.progress(f"compare: {start + len(group)} of {len(windows)} texts")
        return [tally.report(np.array(same)) for tally, same in zip(tallies, equal, strict=True)]

    def _timings(self, runners: Sequence[Runner]) -> dict[str, Timing]:
        context = min(one.context for one in runners)
        chunk = min(PREFILL, context)
        steps = {f"decode {rows}": decode_batch(rows, context) for rows in BATCHES}
        steps[f"prefill {chunk}"] = prefill_batch(chunk)
        timings = time_steps(runners, list(steps.values()), self.rounds)
        self.progress(f"compare: timed {', '.join(steps)}")
        return dict(zip(steps, timings, strict=True))


def _compare(tally: Tally, window: Ids, expected: Served, found: Served) -> None:
    for start in range(0, len(window), CHUNK):
        rows = slice(start, start + CHUNK)
        targets: NDArray[np.int64] = window[start + 1 : start + 1 + CHUNK]
        tally.add(expected.logits[rows], found.logits[rows], found.lse[rows], targets)


def _standing(
    contender: Contender, report: Report, load_s: float, at: int, timings: dict[str, Timing]
) -> Standing:
    return Standing(
        name=contender.name,
        precision=contender.precision,
        size_bytes=contender.size_bytes,
        load_s=load_s,
        tokens=int(report.positions),
        perplexity=report.perplexity_artifact,
        perplexity_rise=report.perplexity_rise,
        mean_kl=report.mean_kl,
        top1=report.top1,
        greedy_texts=report.greedy,
        num_texts=int(report.greedy_tokens),
        speeds={
            name: Speed(one.tokens_s(at), one.ratio(at), one.spread(at))
            for name, one in timings.items()
        },
    )
