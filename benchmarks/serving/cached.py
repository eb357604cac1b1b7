"""How many completions a second one core serves from the gateway's cache.

Comes in: a model repository and a load. Goes out: a second's answers by the clock, with the gateway
on one core and whoever asks on the others; and by the gateway's own processor time, which says the
same of a machine that has other things to do. Every answer is looked at: one that the engine gave
is an error.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.http_door import Door
from benchmarks.common.processes import cpu_s
from benchmarks.serving.own_servers import create_key, running_triton, start_gateway

NUM_PROMPTS = 64
WARM_UP = 200  # requests of each connection


@dataclass(frozen=True, slots=True)
class CachedLoad:
    """How much is asked: so many connections, each so many requests after its warm-up."""

    num_streams: int
    rounds: int
    max_tokens: int
    prompt: str


@dataclass(frozen=True, slots=True)
class Served:
    """`per_s` by the clock, `per_core_s` by the gateway's processor time."""

    form: str
    num_streams: int
    num_answers: int
    per_s: float
    per_core_s: float
    cpu_us: float


def measure_cached(repository: Path, load: CachedLoad) -> list[Served]:
    """Whole answers and streamed ones; raises ValueError for an answer that no cache gave."""
    with tempfile.TemporaryDirectory() as name, running_triton(repository, Path(name)) as triton:
        folder = Path(name)
        key = create_key(folder, "cached")
        gateway = start_gateway([triton.grpc_url], folder)
        try:
            with pinned(gateway.process.pid):
                return [
                    asyncio.run(_serve(gateway.url, gateway.process.pid, key, load, stream=stream))
                    for stream in (False, True)
                ]
        finally:
            gateway.stop()


@contextmanager
def pinned(pid: int) -> Iterator[None]:
    """That process on the first usable core, this one on the others, if there are others."""
    usable = os.sched_getaffinity(0)
    core = min(usable)
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core})
    os.sched_setaffinity(0, usable - {core} or usable)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


async def _serve(url: str, pid: int, key: str, load: CachedLoad, *, stream: bool) -> Served:
    doors = [Door(url, key) for _ in range(load.num_streams)]
    bodies = [
        {"prompt": f"{load.prompt}  # {number}", "max_tokens": load.max_tokens, "temperature": 0}
        | {"stream": stream}
        for number in range(NUM_PROMPTS)
    ]
    for body in bodies:  # the engine answers, and the caches keep it
        async with doors[0].post("/v1/completions", body) as answer:
            await answer.body()
    await asyncio.gather(*(_ask(door, bodies, WARM_UP) for door in doors))
    cpu_before, started = cpu_s([pid]), time.perf_counter()
    await asyncio.gather(*(_ask(door, bodies, load.rounds) for door in doors))
    seconds, cpu = time.perf_counter() - started, cpu_s([pid]) - cpu_before
    for door in doors:
        door.close()
    num = load.num_streams * load.rounds
    form = "streamed" if stream else "whole"
    return Served(form, load.num_streams, num, num / seconds, num / cpu, cpu / num * 1e6)


async def _ask(door: Door, bodies: list[dict[str, object]], count: int) -> None:
    for number in range(count):
        async with door.post("/v1/completions", bodies[number % len(bodies)]) as answer:
            await answer.body()
            if answer.headers.get("x-nanotriton-cache") != "cached":
                raise ValueError(f"no cache answered: status {answer.status}, {answer.headers}")
