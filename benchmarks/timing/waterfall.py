"""Where a completion's time goes, from the client to the engine and back, for few and many users.

Comes in: a model repository and numbers of users. Goes out: for each way to a completion and each
stage on it the milliseconds that it took. Triton, the gateway and a collector of traces are the
run's own, and every request is traced. Each user goes both ways in turn, so that both meet the same
noise. Knows nothing of spans; `benchmarks.timing.stages` reads them.
"""

import asyncio
import random
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.http_door import Door
from benchmarks.serving.own_servers import running_triton, start_gateway
from benchmarks.timing.collector import Collector
from benchmarks.timing.prompts import code_prompts
from benchmarks.timing.stages import MARKS, UNARY, Stage, Stages, Traced, stages_of, summarize
from clients import AsyncCompletionClient

WARM_UP = 2  # requests of each user and way
SPANS_TIMEOUT_S = 20.0  # exporters send in batches, after 5 s at the latest
LEAST_SHARE = 0.5  # of the requests; the spans of others may be lost, for who traces never waits
# Triton's own exporter holds 2,048 spans, and each request makes up to ten.
QUEUE = ("--", "--trace-config=opentelemetry,bsp_max_queue_size=65536")


@dataclass(frozen=True, slots=True)
class Users:
    """So many users at once, each with so many requests of either way, one after the other."""

    num_users: int
    rounds: int
    max_tokens: int


def measure_waterfall(repository: Path, loads: Sequence[Users]) -> list[Stage]:
    """Both ways in turn under each load; raises ValueError when a request fails or has no trace."""
    with (
        tempfile.TemporaryDirectory() as name,
        Collector() as collector,
        running_triton(repository, Path(name), "--trace-url", collector.url, *QUEUE) as triton,
    ):
        words = ("--open", "--cache-bytes", "0", "--trace-url", collector.url)
        gateway = start_gateway([triton.grpc_url], Path(name), *words)
        try:
            asked = [asyncio.run(ask_all(triton.grpc_url, gateway.url, load)) for load in loads]
            return [
                stage
                for load, some in zip(loads, asked, strict=True)
                for stage in summarize(load.num_users, wait_for_stages(collector, some))
            ]
        finally:
            gateway.stop()


async def ask_all(grpc_url: str, gateway_url: str, load: Users) -> list[Traced]:
    """What they ask."""
    async with AsyncCompletionClient(grpc_url, retries=0) as client:
        prompts = code_prompts(
            load.num_users * 2 * (WARM_UP + load.rounds), 0, secrets.token_hex(4)
        )
        users = (
            _ask_often(client, Door(gateway_url), load, prompts[number :: load.num_users])
            for number in range(load.num_users)
        )
        return [one for some in await asyncio.gather(*users) for one in some]


async def _ask_often(
    client: AsyncCompletionClient, door: Door, load: Users, prompts: Sequence[str]
) -> list[Traced]:
    """One user's requests; what warmed up is left out."""
    order = random.Random(prompts[0])
    asked = []
    for index in range(0, len(prompts), 2):
        for prompt, way in zip(prompts[index : index + 2], order.sample([*MARKS], 2), strict=True):
            trace_id = secrets.token_hex(16)
            headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
            start_ns = time.time_ns()
            if way == UNARY:
                await client.complete(
                    prompt, max_tokens=load.max_tokens, ignore_eos=True, headers=headers
                )
            else:
                await _ask_gateway(door, prompt, load.max_tokens, headers)
            asked.append(Traced(way, trace_id, start_ns, time.time_ns()))
    door.close()
    return asked[2 * WARM_UP :]


async def _ask_gateway(door: Door, prompt: str, max_tokens: int, headers: dict[str, str]) -> None:
    told = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
    async with door.post("/v1/completions", told | {"temperature": 0}, headers) as answer:
        text = await answer.body()
        if answer.status != 200:
            raise ValueError(f"the gateway answered {answer.status}: {text.decode()[:300]}")


def wait_for_stages(collector: Collector, asked: Sequence[Traced]) -> list[Stages]:
    """The stages of each request whose spans have all come; raises ValueError for too few."""
    deadline = time.monotonic() + SPANS_TIMEOUT_S
    while True:
        found, missing = [], ""
        for one in asked:
            try:
                found.append(stages_of(one, collector.spans_of(one.trace_id)))
            except LookupError as error:
                missing = str(error)
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    if len(found) < LEAST_SHARE * len(asked):
        raise ValueError(
            f"of {len(asked)} requests {len(found)} left a whole trace, the span {missing} is "
            "missing: ask for fewer rounds"
        )
    return found
