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

from benchmarks.common.ratios import Ratio, paired_ratio
from benchmarks.common.typing_users import random_series, typed_series
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
RANDOM_PROMPT = 200  # tokens; about what the typed ones have


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: time to its first token, tokens a second after it and in all, the tokens."""

    first_ms: float
    decode_per_s: float
    tokens_per_s: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One way with so many users at once; shares of prompt tokens reused and of drafts accepted.

    `decode_per_s` counts from the first token on, `tokens_per_s` from when the request was sent.
    `first_ratio`, `decode_ratio` and `speed` say how many times faster than plain the median
    request was. `num_different` texts are not the plain engine's: nearly tied tokens, or a fault.
    """

    users: int
    way: str
    num_requests: int
    first_ms: float
    decode_per_s: float
    tokens_per_s: float
    first_ratio: float
    decode_ratio: float
    speed: Ratio
    reused: float
    accepted: float
    num_different: int


def measure_replay(
    folder: Path,
    files: Sequence[Path] | None,
    users: Sequence[int],
    settings: Settings,
    *,
    every: int,
    num_rounds: int,
    num_threads: int,
) -> list[Row]:
    """Replay `num_rounds` keystroke requests of each user, for each number of users.

    Without `files` every prompt is made of new random tokens: what the features cost where they
    can't bring anything.
    """
    tokenizer = load_tokenizer(folder)
    runners = [OrtRunner(folder, 2 * max(users), num_threads) for _ in WAYS]
    room = runners[0].context - settings.max_tokens
    if files is None:
        num_prompts = max(users) * (num_rounds + NUM_WARM_UP)
        series = random_series(num_prompts, min(RANDOM_PROMPT, room), runners[0].vocab_size)
    else:
        series = typed_series(files, every, tokenizer, room)
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
        Answer(
            (times[0] - started_s) * 1e3,
            _decode_speed(times, len(found)),
            len(found) / (times[-1] - started_s),
            found,
        )
        for times, found in zip(arrivals, tokens, strict=True)
    ]


def _decode_speed(times: Sequence[float], num_tokens: int) -> float:
    """Tokens a second after the first one; NaN when there was only one."""
    return (num_tokens - 1) / (times[-1] - times[0]) if num_tokens > 1 else float("nan")


def _row(
    users: int, way: str, found: list[Answer], plain: list[Answer], stats: Mapping[str, int]
) -> Row:
    first_ms = np.array([one.first_ms for one in found])
    decode = np.array([one.decode_per_s for one in found])
    speed = [one.tokens_per_s for one in found]
    plain_ms = np.array([one.first_ms for one in plain])
    plain_decode = np.array([one.decode_per_s for one in plain])
    return Row(
        users,
        way,
        len(found),
        float(np.median(first_ms)),
        float(np.nanmedian(decode)),
        float(np.median(speed)),
        float(np.median(plain_ms / first_ms)),
        float(np.nanmedian(decode / plain_decode)),
        paired_ratio(speed, [one.tokens_per_s for one in plain]),
        stats["prefix_hit_tokens"] / max(1, stats["prefix_lookup_tokens"]),
        stats["num_accepted"] / max(1, stats["num_drafted"]),
        sum(one.tokens != other.tokens for one, other in zip(found, plain, strict=True)),
    )
