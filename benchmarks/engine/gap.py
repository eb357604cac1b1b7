"""How long running streams wait for their next token while somebody's long prompt comes in.

Comes in: an exported version. Goes out: for each way of using its graphs the gaps between tokens,
undisturbed and while prompts arrive. Runs in this process, without a server.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nanotriton.engine.core import Engine
from nanotriton.engine.events import Failure
from nanotriton.engine.request import Request, Settings
from nanotriton.runners.graphs import BY_ROWS, DETERMINISTIC, GraphUse
from nanotriton.runners.ort import OrtRunner
from nanotriton.tokenizer import load_tokenizer

WAYS: Mapping[str, GraphUse] = MappingProxyType({"auto": BY_ROWS, "int8": DETERMINISTIC})
NUM_STREAMS = 4
STREAM_PROMPT = 64
NUM_QUIET = 24  # decode steps between two arrivals


@dataclass(frozen=True, slots=True)
class Gap:
    """Milliseconds between two tokens of a stream: quiet, and while prompts enter.

    `ratio` is the 99th percentile over the median of the same time, `to_quiet` over the quiet one.
    `first_ms` is the median of what the arriving prompts waited for their own first token.
    """

    way: str
    num_gaps: int
    quiet_ms: float
    median_ms: float
    p99_ms: float
    ratio: float
    to_quiet: float
    first_ms: float


@dataclass(slots=True)
class _Round:
    """One arrival: gaps before and during it, and the time to its own first token."""

    quiet_ms: list[float] = field(default_factory=list)
    busy_ms: list[float] = field(default_factory=list)
    first_ms: float = 0.0


def measure_gap(folder: Path, prompt_tokens: int, num_rounds: int, num_threads: int) -> list[Gap]:
    """Let a prompt arrive beside four streams, `num_rounds` times.

    Raises ValueError when the model's context is too short for the prompt.
    """
    return [_measure(way, folder, prompt_tokens, num_rounds, num_threads) for way in WAYS]


def _measure(way: str, folder: Path, prompt_tokens: int, num_rounds: int, threads: int) -> Gap:
    runner = OrtRunner(folder, 2 * NUM_STREAMS, threads, WAYS[way])
    if prompt_tokens >= runner.context:
        raise ValueError(
            f"the prompt has {prompt_tokens} tokens, the model reads {runner.context}: "
            "give a smaller --prompt-tokens"
        )
    tokenizer = load_tokenizer(folder)
    random = np.random.default_rng(0)
    rounds = [
        _run_round(
            Engine(runner, tokenizer, lambda: 0, time.perf_counter),
            runner.vocab_size,
            random,
            prompt_tokens,
        )
        for _ in range(num_rounds + 1)
    ][1:]  # the first one warms up
    busy_ms = [gap for one in rounds for gap in one.busy_ms]
    quiet_ms = float(np.median([gap for one in rounds for gap in one.quiet_ms]))
    median_ms, p99_ms = np.percentile(busy_ms, (50, 99)).tolist()
    ratios = p99_ms / median_ms, p99_ms / quiet_ms
    first_ms = float(np.median([one.first_ms for one in rounds]))
    return Gap(way, len(busy_ms), quiet_ms, median_ms, p99_ms, *ratios, first_ms)


def _run_round(
    engine: Engine, vocab_size: int, random: np.random.Generator, prompt_tokens: int
) -> _Round:
    """Four streams start, go on alone for a while, and then the prompt comes."""
    context = engine.stats()["context"]
    last_s: dict[int, float] = {}
    found = _Round()

    def submit(number: int, num_tokens: int, max_tokens: int) -> None:
        prompt = tuple(random.integers(0, vocab_size, num_tokens).tolist())
        settings = Settings(max_tokens, temperature=0.8, top_k=40, seed=1, ignore_eos=True)
        engine.submit(Request((b"", number), prompt, settings))

    def step(gaps_ms: list[float]) -> None:
        for event in engine.step():
            if isinstance(event, Failure):
                raise event.error
            now_s, number = time.perf_counter(), event.key[1]
            if number in last_s:
                gaps_ms.append((now_s - last_s[number]) * 1e3)
            last_s[number] = now_s

    for number in range(NUM_STREAMS):
        submit(number, STREAM_PROMPT, context - STREAM_PROMPT)
    while len(last_s) < NUM_STREAMS:
        step([])
    for _ in range(NUM_QUIET):
        step(found.quiet_ms)
    arrived_s = time.perf_counter()
    submit(NUM_STREAMS, prompt_tokens, 1)
    while NUM_STREAMS not in last_s:
        step(found.busy_ms)
    found.first_ms = (last_s[NUM_STREAMS] - arrived_s) * 1e3
    return found
