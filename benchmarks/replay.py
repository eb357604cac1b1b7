"""Somebody types, and the editor asks after every few characters: what reuse and speculation bring.

Comes in: an exported version and Python files. Goes out: for each way of running the engine and
each number of users the medians over requests, and the medians of each request's own ratio to the
plain engine's. Runs in this process, without a server; every way gets every request in turn, so
that all see the same noise.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from benchmarks.typing_users import functions_of, typed_prompts
from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.events import Failure, is_final
from nanotriton.engine.request import Request, Settings
from nanotriton.runners.ort import OrtRunner
from nanotriton.tokenizer import load_tokenizer

PLAIN = "plain"
WAYS: Mapping[str, tuple[bool, bool]] = MappingProxyType(  # prefix cache, speculation
    {PLAIN: (False, False), "cache": (True, False), "speculation": (False, True)}
    | {"both": (True, True)}
)
NUM_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's time to its first token, its tokens a second from then on, and the tokens."""

    first_ms: float
    tokens_per_s: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One way with so many users at once; shares of prompt tokens reused and of drafts accepted.

    `first_ratio` and `speed_ratio` say how many times faster than plain the median request was.
    `num_different` texts are not the plain engine's: nearly tied tokens, or a fault.
    """

    users: int
    way: str
    num_requests: int
    first_ms: float
    tokens_per_s: float
    first_ratio: float
    speed_ratio: float
    reused: float
    accepted: float
    num_different: int


def measure_replay(
    folder: Path,
    files: Sequence[Path],
    users: Sequence[int],
    settings: Settings,
    *,
    every: int,
    num_rounds: int,
    num_threads: int,
) -> list[Row]:
    """Replay `num_rounds` keystroke requests of each user, for each number of users."""
    tokenizer = load_tokenizer(folder)
    runners = [OrtRunner(folder, 2 * max(users), num_threads) for _ in WAYS]
    room = runners[0].context - settings.max_tokens
    series = [
        prompts
        for file in files
        for above, function in functions_of(file.read_text(encoding="utf-8"))
        if (prompts := typed_prompts(above, function, every, tokenizer, room))
    ]
    rows: list[Row] = []
    for num_users in users:
        engines = [
            Engine(runner, tokenizer, lambda: 0, time.perf_counter, EngineOptions(256, 128, *on))
            for runner, on in zip(runners, WAYS.values(), strict=True)
        ]
        rounds = itertools.islice(rounds_of(series, num_users), num_rounds + NUM_WARM_UP)
        rows += _compare(engines, num_users, rounds, settings)
    return rows


def rounds_of(series: Sequence[list[list[int]]], num_users: int) -> Iterator[list[list[int]]]:
    """What `num_users` people ask at once, round after round, each function after function."""
    typists = [
        itertools.chain.from_iterable(series[index::num_users]) for index in range(num_users)
    ]
    return (list(prompts) for prompts in zip(*typists, strict=False))


def _compare(
    engines: Sequence[Engine], users: int, rounds: Iterator[list[list[int]]], settings: Settings
) -> list[Row]:
    answers: list[list[Answer]] = [[] for _ in engines]
    for number, prompts in enumerate(rounds):
        for turn in range(len(engines)):
            way = (turn + number) % len(engines)  # nobody is always first
            answers[way] += ask(engines[way], prompts, settings)
    warm = [one[NUM_WARM_UP * users :] for one in answers]
    return [
        _row(users, way, found, warm[0], engine.stats())
        for way, found, engine in zip(WAYS, warm, engines, strict=True)
    ]


def ask(engine: Engine, prompts: Sequence[Sequence[int]], settings: Settings) -> list[Answer]:
    """Send prompts together and wait for all; their answers in the same order."""
    started_s = time.perf_counter()
    arrivals: list[list[float]] = [[] for _ in prompts]
    tokens: list[tuple[int, ...]] = [() for _ in prompts]
    for number, prompt in enumerate(prompts):
        engine.submit(Request((b"", number), tuple(prompt), settings))
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Failure):
                raise event.error
            number = event.key[1]
            arrivals[number].append(time.perf_counter())
            tokens[number] += event.tokens
            assert not is_final(event) or event.usage
    return [
        Answer((times[0] - started_s) * 1e3, _speed(times, len(found)), found)
        for times, found in zip(arrivals, tokens, strict=True)
    ]


def _speed(times: Sequence[float], num_tokens: int) -> float:
    """Tokens a second after the first one; NaN when there was only one."""
    return (num_tokens - 1) / (times[-1] - times[0]) if num_tokens > 1 else float("nan")


def _row(
    users: int, way: str, found: list[Answer], plain: list[Answer], stats: Mapping[str, int]
) -> Row:
    first_ms = np.array([one.first_ms for one in found])
    speed = np.array([one.tokens_per_s for one in found])
    plain_ms = np.array([one.first_ms for one in plain])
    plain_speed = np.array([one.tokens_per_s for one in plain])
    return Row(
        users,
        way,
        len(found),
        float(np.median(first_ms)),
        float(np.nanmedian(speed)),
        float(np.median(plain_ms / first_ms)),
        float(np.nanmedian(speed / plain_speed)),
        stats["prefix_hit_tokens"] / max(1, stats["prefix_lookup_tokens"]),
        stats["num_accepted"] / max(1, stats["num_drafted"]),
        sum(one.tokens != other.tokens for one, other in zip(found, plain, strict=True)),
    )
