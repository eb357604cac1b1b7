"""Many streams at once, some given up at random: does anything fail, leak or grow?

Comes in: a running server, its repository, a number of streams, minutes and a share to cancel.
Goes out: counts, what the engine holds at the end, and how each process's memory grew.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.resilience.memory import Growth, MemoryWatch
from benchmarks.resilience.soak import PROMPTS
from clients import AsyncCompletionClient, ClientError, Settings

SAMPLE_S = 5.0
SETTLE_S = 5.0
MAX_ERRORS_KEPT = 5


@dataclass(frozen=True, slots=True)
class Load:
    """How many streams, for how long, what share is given up, and the longest text."""

    num_streams: int
    minutes: float
    cancel_rate: float
    max_tokens: int


@dataclass
class Streams:
    """What happened; `held` is what the engine still had when all streams had ended."""

    outcomes: Counter[str] = field(default_factory=Counter)
    num_tokens: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    growth: list[Growth] = field(default_factory=list)

    def faults(self, max_slope: float) -> list[str]:
        """All that should not be, in words; growth is judged in MB a minute."""
        grown = [one for one in self.growth if one.slope_mb_per_min > max_slope]
        return [
            *self.errors,
            *(f"{name}: {number} at the end" for name, number in self.held.items() if number),
            *(f"{one.process} grows by {one.slope_mb_per_min:.2f} MB a minute" for one in grown),
        ]

    def describe(self) -> dict[str, Any]:
        """The figures that a report shows."""
        return {
            "outcomes": dict(self.outcomes),
            "tokens_per_s": round(self.num_tokens / self.seconds, 1),
            "minutes": round(self.seconds / 60, 1),
            "held": self.held,
            "memory": [
                {key: round(value, 2) if key != "process" else value for key, value in row.items()}
                for row in map(asdict, self.growth)
            ],
        }


def run_streams(urls: tuple[str, str], repository: Path, load: Load) -> Streams:
    """Keep the streams going, over gRPC and HTTP in turn; `urls` are theirs."""
    result = Streams()
    watch = MemoryWatch(repository, SAMPLE_S)
    started = time.monotonic()
    asyncio.run(_run_all(urls, load, result))
    result.seconds = time.monotonic() - started
    time.sleep(SETTLE_S)
    stats = watch.engine.stats()
    result.held = {
        "running": stats["num_running"],
        "waiting": stats["num_waiting"],
        "slots taken": stats["num_slots"] - stats["num_free_slots"],
    }
    result.growth = watch.close()
    return result


async def _run_all(urls: tuple[str, str], load: Load, result: Streams) -> None:
    deadline = time.monotonic() + load.minutes * 60
    grpc_url, http_url = urls
    async with (
        AsyncCompletionClient(grpc_url) as grpc,
        AsyncCompletionClient(http_url, "http") as http,
        asyncio.TaskGroup() as tasks,
    ):
        for seed in range(load.num_streams):
            user = _User((grpc, http)[seed % 2], seed, load, result)
            tasks.create_task(user.run(deadline))


class _User:
    """One of the many; what it asks for, and when it gives up, follows from its seed."""

    def __init__(
        self, client: AsyncCompletionClient, seed: int, load: Load, result: Streams
    ) -> None:
        self._client = client
        self._load = load
        self._random = random.Random(seed)
        self._result = result

    async def run(self, deadline: float) -> None:
        """Stream after stream until the deadline."""
        choice = self._random
        while time.monotonic() < deadline:
            text = choice.choice(PROMPTS)
            prompt = text[: choice.randint(1, len(text))]
            settings: Settings = {
                "max_tokens": choice.randint(1, self._load.max_tokens),
                "temperature": choice.choice((0.0, 0.8)),
                "seed": choice.randint(0, 2**31),
                "ignore_eos": True,
            }
            most = choice.randint(0, 20) if choice.random() < self._load.cancel_rate else None
            try:
                outcome = await self._stream(prompt, settings, most)
            except ClientError as error:
                outcome = "error"
                if len(self._result.errors) < MAX_ERRORS_KEPT:
                    self._result.errors.append(f"{type(error).__name__}: {error}")
            self._result.outcomes[outcome] += 1

    async def _stream(self, prompt: str, settings: Settings, most: int | None) -> str:
        """Read one stream, of at most `most` chunks if it is to be given up; how it ended."""
        num_chunks = 0
        async with self._client.stream(prompt, **settings) as chunks:
            async for chunk in chunks:
                num_chunks += 1
                if chunk.finish_reason:
                    self._result.num_tokens += chunk.completion_tokens or 0
                    return chunk.finish_reason
                if most is not None and num_chunks > most:
                    return "given up"
        return "cut off"
