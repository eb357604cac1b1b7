"""What real servers are asked, and how long each answer took.

Comes in: Python files, a gateway's address. Goes out: Timed answers, of so many askers who ask
again at once, or of askers who come at random and don't wait for each other. Every question is
about another document, cut at a random place of a function: a machine that serves hundreds of
developers has given their slots to others before they ask again, so nothing is reused.
"""

import asyncio
import json
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.http_door import Door

ABOVE_CHARS = (100, 900)  # of the document above what is typed


@dataclass(frozen=True, slots=True)
class Questions:
    """How a gateway is asked; `texts` are (what stands above, the function)."""

    texts: Sequence[tuple[str, str]]
    max_tokens: int = 24

    def bodies(self, seed: object, model: str = "nanotriton") -> Iterator[dict[str, object]]:
        """One document after another, never the same twice, by the whole run."""
        choice, run = random.Random(repr(seed)), secrets.token_hex(4)
        number = 0
        while True:
            above, function = choice.choice(self.texts)
            cut = choice.randint(1, len(function))
            shown = above[-choice.randint(*ABOVE_CHARS) :]
            yield {
                "model": model,
                "prompt": f"# {run}.{number}\n{shown}{function[:cut]}",
                "max_tokens": self.max_tokens,
                "temperature": 0,
                "truncate": "left",
                "stream": True,
                "stream_options": {"include_usage": True},
                "user": f"{run}.{number}",  # spreads them over the replicas
            }
            number += 1


@dataclass(frozen=True, slots=True)
class Timed:
    """One whole answer; `status` is not 200 where it was refused, or 0 where it broke off."""

    status: int
    first_s: float
    total_s: float
    num_tokens: int
    is_cached: bool


async def ask(door: Door, body: dict[str, object]) -> Timed:
    """One question; what goes wrong is in its status."""
    started, first_s, num_tokens = time.perf_counter(), 0.0, 0
    try:
        async with door.post("/v1/completions", body) as answer:
            status, cached = answer.status, "x-nanotriton-cache" in answer.headers
            async for piece in answer.pieces():
                first_s = first_s or time.perf_counter() - started
                for line in piece.splitlines():
                    if line.startswith(b"data: {"):
                        told = json.loads(line[6:])
                        status = 0 if "error" in told else status
                        num_tokens = (told.get("usage") or {}).get("completion_tokens", num_tokens)
    except (OSError, EOFError, ValueError):
        return Timed(0, first_s, time.perf_counter() - started, num_tokens, False)
    return Timed(status, first_s, time.perf_counter() - started, num_tokens, cached)


async def ask_always(
    door: Door, bodies: Iterator[dict[str, object]], num_askers: int, seconds: float
) -> list[Timed]:
    """So many questions always under way; the answers that came within `seconds`."""
    answers: list[Timed] = []
    started = time.perf_counter()

    async def asker() -> None:
        while time.perf_counter() - started < seconds:
            timed = await ask(door, next(bodies))
            if time.perf_counter() - started < seconds:
                answers.append(timed)

    await asyncio.gather(*(asker() for _ in range(num_askers)))
    return answers


async def ask_at_random(
    door: Door, bodies: Iterator[dict[str, object]], per_s: float, seconds: float, seed: int
) -> list[Timed]:
    """Poisson arrivals; all their answers."""
    choice = random.Random(seed)
    asked: list[asyncio.Task[Timed]] = []
    started, due_s = time.perf_counter(), choice.expovariate(per_s)
    while due_s < seconds:
        await asyncio.sleep(started + due_s - time.perf_counter())
        asked.append(asyncio.create_task(ask(door, next(bodies))))
        due_s += choice.expovariate(per_s)
    return list(await asyncio.gather(*asked))
