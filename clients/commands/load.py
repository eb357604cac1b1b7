"""bench: so many streams at once against a server; times and tokens as a table or JSON."""

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clients.client import AsyncCompletionClient
from clients.commands.options import (
    add_sampling_options,
    add_server_options,
    client_options,
    settings_of,
)
from clients.errors import ClientError, InvalidRequest
from clients.messages import Settings

PROMPT = "def fibonacci(n):\n"
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered stream; seconds."""

    first_text_s: float
    total_s: float
    num_tokens: int

    @property
    def inter_token_s(self) -> float | None:
        """Mean time of a token after the first."""
        if self.num_tokens < 2:
            return None
        return (self.total_s - self.first_text_s) / (self.num_tokens - 1)


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `bench`."""
    parser = commands.add_parser(
        "bench",
        help="time many streams at once",
        description="Time REQUESTS streams, CONCURRENCY at once. Each prompt begins with a comment "
        "of its own, so that no cache answers in the model's place, unless --same.",
    )
    add = parser.add_argument
    add("--requests", type=int, default=100, help="streams in all; default: %(default)s")
    add("--concurrency", type=int, default=8, help="streams at once; default: %(default)s")
    add("--prompt", default=PROMPT, help="the text to go on from; default: a function's head")
    add("--same", action="store_true", help="send the same prompt each time")
    add("--json", action="store_true", help="one JSON object instead of a table")
    add_server_options(parser)
    add_sampling_options(parser)
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    for name in ("requests", "concurrency"):
        if getattr(arguments, name) < 1:
            raise InvalidRequest(f"--{name} is {getattr(arguments, name)}: give 1 or more")
    told = asyncio.run(_measure(arguments))
    print(json.dumps(told) if arguments.json else _table(told))
    return 1 if told["errors"] else 0


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = settings_of(arguments)
    numbers = iter(range(arguments.requests))
    samples: list[Sample] = []
    errors: Counter[str] = Counter()

    async with AsyncCompletionClient(**client_options(arguments)) as client:

        async def work() -> None:
            for number in numbers:
                prompt = arguments.prompt if arguments.same else f"# {number}\n{arguments.prompt}"
                try:
                    samples.append(await _ask(client, prompt, settings))
                except ClientError as error:
                    errors[f"{type(error).__name__}: {error}"] += 1

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(arguments.concurrency)))
    return summary_of(samples, errors, time.perf_counter() - started)


async def _ask(client: AsyncCompletionClient, prompt: str, settings: Settings) -> Sample:
    started, first_text_s, num_tokens = time.perf_counter(), None, 0
    async with client.stream(prompt, **settings) as stream:
        async for chunk in stream:
            if first_text_s is None:
                first_text_s = time.perf_counter() - started
            num_tokens = chunk.completion_tokens or num_tokens
    total_s = time.perf_counter() - started
    return Sample(total_s if first_text_s is None else first_text_s, total_s, num_tokens)


def summary_of(samples: Sequence[Sample], errors: Counter[str], wall_s: float) -> dict[str, Any]:
    """What is told of all streams; times in milliseconds."""
    num_tokens = sum(one.num_tokens for one in samples)
    gaps = [one.inter_token_s for one in samples if one.inter_token_s is not None]
    return {
        "requests": len(samples) + errors.total(),
        "errors": dict(errors),
        "wall_s": round(wall_s, 3),
        "requests_per_s": round(len(samples) / wall_s, 2),
        "tokens": num_tokens,
        "tokens_per_s": round(num_tokens / wall_s, 1),
        "first_text_ms": _quantiles(one.first_text_s for one in samples),
        "inter_token_ms": _quantiles(gaps),
        "total_ms": _quantiles(one.total_s for one in samples),
    }


def _quantiles(seconds: Iterable[float]) -> dict[str, float] | None:
    values = sorted(seconds)
    if not values:
        return None
    if len(values) == 1:
        return dict.fromkeys(QUANTILES, round(values[0] * 1000, 3))
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {name: round(cuts[int(q * 100) - 1] * 1000, 3) for name, q in QUANTILES.items()}


def _table(told: dict[str, Any]) -> str:
    rows = [f"{'ms':<14}" + "".join(f"{name:>10}" for name in QUANTILES)]
    for name in ("first_text_ms", "inter_token_ms", "total_ms"):
        cells = (told[name] or {}).values()
        rows.append(f"{name.removesuffix('_ms'):<14}" + "".join(f"{one:>10.2f}" for one in cells))
    rows.append(
        f"{told['requests']} requests in {told['wall_s']} s: {told['requests_per_s']} a second, "
        f"{told['tokens']} tokens, {told['tokens_per_s']} tokens a second"
    )
    rows += [f"{count} failed: {message}" for message, count in told["errors"].items()]
    return "\n".join(rows)
