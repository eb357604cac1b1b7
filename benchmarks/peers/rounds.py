"""The rounds: every peer gets every workload once a round, in turn, so that all see the same noise.

Comes in: workers that are ready. Goes out: a rate for each round. Prompts are random tokens, other
ones in each round and the same for every peer.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from benchmarks.peers.catalogue import Peer, PeerError
from benchmarks.peers.worker import Answer, Worker

NUM_WARM_UP_TOKENS = 2
# A peer without a cache computes the whole text for each token, so a few tell what many cost.
NUM_TOKENS_WITHOUT_CACHE = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """So many prompts at once; `kind` says what is divided by what.

    decode   tokens after the first, by the time after the first
    prefill  tokens of the prompt, by the time to the first new one
    served   new tokens, by the whole time
    """

    name: str
    kind: str
    num_prompts: int
    prompt_tokens: int
    new_tokens: int
    repeats: int = 1  # a round's rate is the median of so many

    def rate(self, answer: Answer, num_new: int) -> float:
        """Tokens a second."""
        if self.kind == "decode":
            return (num_new - 1) / (answer.seconds - answer.first_s)
        if self.kind == "prefill":
            return self.prompt_tokens / answer.first_s
        return self.num_prompts * num_new / answer.seconds


WORKLOADS = (
    Workload("decode, 1 sequence at 300", "decode", 1, 284, 33, repeats=3),
    Workload("prefill of 256", "prefill", 1, 256, 1, repeats=3),
    Workload("served, 8 x (128 + 64)", "served", 8, 128, 64),
    Workload("served, 32 x (128 + 64)", "served", 32, 128, 64),
)


@dataclass(slots=True)
class Track:
    """What one peer did: rates by workload and round, its first tokens, and why it stopped."""

    peer: Peer
    versions: dict[str, str]
    rates: dict[str, list[float]]
    first_tokens: dict[str, list[int]] = field(default_factory=dict)
    resident_mib: int = 0
    error: str = ""


def run_rounds(
    workers: Sequence[Worker],
    workloads: Sequence[Workload],
    vocab_size: int,
    *,
    num_rounds: int,
    max_s: float,
    progress: Callable[[str], None],
) -> list[Track]:
    """Up to `num_rounds`; after the first none begins that would, by the longest, pass `max_s`."""
    tracks = [
        Track(one.peer, one.versions, {load.name: [] for load in workloads}) for one in workers
    ]
    pairs = list(zip(workers, tracks, strict=True))
    started_s = time.monotonic()
    longest_s = 0.0
    for number in range(-1, num_rounds):  # the first one warms up, and counts for nothing
        began_s = time.monotonic()
        if number > 0 and began_s - started_s + longest_s > max_s:
            progress(f"no time for round {number + 1}")
            break
        random = np.random.default_rng(number + 1)
        for load in workloads:
            shape = (load.num_prompts, load.prompt_tokens)
            _run_workload(pairs, load, random.integers(0, vocab_size, shape).tolist(), number)
        if number >= 0:
            longest_s = max(longest_s, time.monotonic() - began_s)
            progress(f"round {number + 1} of {num_rounds}: {time.monotonic() - began_s:.0f} s")
    for worker, track in pairs:
        track.resident_mib = 0 if track.error else worker.resident_mib()
    return tracks


def _run_workload(
    pairs: list[tuple[Worker, Track]], load: Workload, prompts: list[list[int]], number: int
) -> None:
    """Give one workload to every peer that is still there, each time another one first."""
    start = number % len(pairs)
    for worker, track in pairs[start:] + pairs[:start]:
        if track.error or load.num_prompts > track.peer.max_prompts:
            continue
        num_new = load.new_tokens
        if not track.peer.has_cache:
            num_new = min(num_new, NUM_TOKENS_WITHOUT_CACHE)
        if number < 0:
            num_new = min(num_new, NUM_WARM_UP_TOKENS)
        try:
            answers = [worker.ask(prompts, num_new) for _ in range(load.repeats)]
        except PeerError as error:
            track.error = str(error)
            continue
        if number >= 0:
            track.rates[load.name].append(median(load.rate(one, num_new) for one in answers))
            firsts = track.first_tokens.setdefault(load.name, [])
            firsts += [tokens[0] for tokens in answers[0].tokens]
