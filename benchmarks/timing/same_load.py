"""The load that perf_analyzer makes, by our own client: the same prompts, users and arrivals.

Comes in: a way to ask, a load, prompts. Goes out: the figures that perf_analyzer gives too. Knows
nothing of perf_analyzer.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from benchmarks.timing.ways import Figures, Load, Way, figures_of
from clients import AsyncCompletionClient, Settings


@dataclass(slots=True)
class _Asker:
    """A client, and the seconds that its answers took."""

    client: AsyncCompletionClient
    way: Way
    max_tokens: int
    total_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)

    async def ask(self, prompt: str) -> None:
        """One request; raises ClientError."""
        started_s = time.perf_counter()
        settings: Settings = {"max_tokens": self.max_tokens, "ignore_eos": True}
        if self.way.is_stream:
            first_s = 0.0
            async with self.client.stream(prompt, **settings) as stream:
                async for _ in stream:
                    first_s = first_s or time.perf_counter() - started_s
            self.first_s.append(first_s)
        else:
            await self.client.complete(prompt, **settings)
        self.total_s.append(time.perf_counter() - started_s)

    async def ask_often(self, prompts: Iterator[str], until_s: float) -> None:
        """One after the other, as long as there is time to begin."""
        while time.perf_counter() < until_s:
            await self.ask(next(prompts))


def measure_same(way: Way, url: str, load: Load, prompts: Sequence[str]) -> Figures:
    """Ask these prompts in turn; raises ClientError when one fails."""
    return asyncio.run(_measure(way, url, load, prompts))


async def _measure(way: Way, url: str, load: Load, prompts: Sequence[str]) -> Figures:
    async with AsyncCompletionClient(url, way.protocol, retries=0) as client:
        await _Asker(client, way, 1).ask("#")  # connects
        asker = _Asker(client, way, load.max_tokens)
        cpu_s, started_s = time.process_time(), time.perf_counter()
        if load.kind == "users":
            shared, until_s = cycle(prompts), started_s + load.seconds
            users = (asker.ask_often(shared, until_s) for _ in range(round(load.value)))
            await asyncio.gather(*users)
        else:
            await _ask_at(asker, islice(cycle(prompts), num_arrivals(load)), 1 / load.value)
        # The last of a rate's requests is followed by a pause that belongs to the load.
        seconds = max(time.perf_counter() - started_s, load.seconds)
        return figures_of(asker.total_s, asker.first_s, seconds, time.process_time() - cpu_s)


def num_arrivals(load: Load) -> int:
    """Of a rate, at least one."""
    return max(round(load.value * load.seconds), 1)


async def _ask_at(asker: _Asker, prompts: Iterable[str], interval_s: float) -> None:
    """One each `interval_s`, whether those before have their answers or not."""
    began_s = time.perf_counter()
    under_way = []
    for number, prompt in enumerate(prompts):
        await asyncio.sleep(began_s + number * interval_s - time.perf_counter())
        under_way.append(asyncio.create_task(asker.ask(prompt)))
    await asyncio.gather(*under_way)
