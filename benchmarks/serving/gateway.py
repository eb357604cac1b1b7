"""What the gateway adds to a direct gRPC stream: pairs of the same request, under the same load.

Comes in: a running Triton and an open gateway in front of it. Goes out: milliseconds to the first
text and to the end, of both ways. So many workers ask at once, each the one way and then the other
in a random order, so that both ways meet the same noise and the same neighbours. The client of the
gateway reads a bare socket: what a richer one costs is its own.
"""

import asyncio
import json
import random
import secrets
import time
from dataclasses import dataclass

import numpy as np

from clients import AsyncCompletionClient

DIRECT, THROUGH = "direct gRPC stream", "through the gateway"
WARM_UP = 2  # rounds
END = b"0\r\n\r\n"
LONGEST_PAUSE_S = 5.0  # the gateway ends connections that say nothing for 10


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer's seconds."""

    first_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Added:
    """Milliseconds of one figure; `added_ms` is the median of the pairs' differences.

    `added_p99_ms` is the difference of the 99th percentiles: a pair's own difference is as noisy as
    both of its requests.
    """

    figure: str
    num_streams: int
    direct_ms: float
    gateway_ms: float
    added_ms: float
    direct_p99_ms: float
    gateway_p99_ms: float
    added_p99_ms: float
    num_pairs: int


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked: so many workers, each so many pairs; `key` is a bearer token.

    A worker waits `pause_s` before each request, on average (exponential). Without a pause many
    workers ask for more than the machine can do, and who comes last waits for all of it.
    """

    num_streams: int
    rounds: int
    max_tokens: int
    prompt: str
    key: str | None = None
    pause_s: float = 0.0


def measure_gateway(grpc_url: str, gateway_url: str, load: Load) -> list[Added]:
    """Raises ValueError when the gateway refuses."""
    pairs = asyncio.run(_run(grpc_url, gateway_url, load))
    first = _added("first text", load, [(one.first_s, two.first_s) for one, two in pairs])
    total = _added("whole answer", load, [(one.total_s, two.total_s) for one, two in pairs])
    return [first, total]


async def _run(grpc_url: str, gateway_url: str, load: Load) -> list[tuple[Timed, Timed]]:
    async with AsyncCompletionClient(grpc_url) as client:
        workers = [_work(client, gateway_url, load, number) for number in range(load.num_streams)]
        return [pair for pairs in await asyncio.gather(*workers) for pair in pairs]


async def _work(
    client: AsyncCompletionClient, gateway_url: str, load: Load, number: int
) -> list[tuple[Timed, Timed]]:
    host, port = gateway_url.rsplit(":", 1)
    run = secrets.token_hex(4)  # what an earlier run asked is in the gateway's cache
    reader, writer = await asyncio.open_connection(host, int(port))
    key = f"Authorization: Bearer {load.key}\r\n" if load.key else ""
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {gateway_url}\r\n{key}"
    order = random.Random(number)
    pairs = []
    for index in range(WARM_UP + load.rounds):
        prompt = f"{load.prompt}  # {run}.{number}.{index}"
        timed = {}
        for way in order.sample((DIRECT, THROUGH), 2):
            if load.pause_s:
                await asyncio.sleep(min(order.expovariate(1 / load.pause_s), LONGEST_PAUSE_S))
            if way == DIRECT:
                timed[way] = await _ask_directly(client, load, prompt)
            else:
                timed[way] = await _ask_through(reader, writer, head, _body(load, prompt))
        if index >= WARM_UP:
            pairs.append((timed[DIRECT], timed[THROUGH]))
    writer.close()
    return pairs


async def _ask_directly(client: AsyncCompletionClient, load: Load, prompt: str) -> Timed:
    started = time.perf_counter()
    first = None
    async with client.stream(prompt, max_tokens=load.max_tokens, ignore_eos=True) as stream:
        async for _ in stream:
            first = first or time.perf_counter()
    assert first is not None
    return Timed(first - started, time.perf_counter() - started)


async def _ask_through(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes
) -> Timed:
    head = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    started = time.perf_counter()
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"the gateway answered {answer.splitlines()[0].decode()}")
    await reader.readuntil(b"\n\n\r\n")
    first = time.perf_counter()
    await reader.readuntil(END)
    return Timed(first - started, time.perf_counter() - started)


def _body(load: Load, prompt: str) -> bytes:
    told = {"prompt": prompt, "max_tokens": load.max_tokens, "ignore_eos": True}
    return json.dumps({**told, "temperature": 0, "stream": True}).encode()


def _added(figure: str, load: Load, pairs: list[tuple[float, float]]) -> Added:
    values = np.array(pairs) * 1e3  # (pairs, 2)
    direct, gateway = np.median(values, axis=0)
    direct_p99, gateway_p99 = np.percentile(values, 99, axis=0)
    return Added(
        figure,
        load.num_streams,
        float(direct),
        float(gateway),
        float(np.median(values[:, 1] - values[:, 0])),
        float(direct_p99),
        float(gateway_p99),
        float(gateway_p99 - direct_p99),
        len(pairs),
    )
