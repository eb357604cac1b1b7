"""The ledger's total is the engine's counter, whoever leaves and whatever is superseded."""

import asyncio
import random
import socket
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from metrics_page import settled_page
from running import RunningServer
from sqlalchemy import func, select

from clients import AsyncCompletionClient, Chunk
from gateway.account.account import Account
from gateway.account.budget import Budgets
from gateway.account.ledger import Ledger
from gateway.account.prices import load_prices
from gateway.config import BackendAddress, Config
from gateway.errors import Disconnected, GatewayError, Superseded
from gateway.flights import Flight
from gateway.messages import Caller, CompletionRequest
from gateway.reading import read
from gateway.service import Service
from gateway.stages import Stages
from gateway.storage import Database
from gateway.storage.tables import UsageRow
from gateway.upstream import Upstream
from gateway.wiring import FirstBackend

# Hot, so that speculation shortens nothing.
LONG = {"max_tokens": 160, "ignore_eos": True, "temperature": 2.0}
KINDS: tuple[dict[str, Any], ...] = (LONG, {**LONG, "n": 2}, {**LONG, "max_tokens": 10})
TOKENS = 'nanotriton_tokens_total{kind="completion",version="1"}'
REQUESTS = "nanotriton_requests_total"
CALLER = Caller("key", "nt_ab12cd34", "tenant")


@pytest.fixture
def account(database: Database, tmp_path: Path) -> Iterator[Account]:
    opened = Account(Ledger(database, tmp_path), load_prices(), Budgets(database, "USD"))
    yield opened
    opened.close()


def request(number: int, **values: Any) -> CompletionRequest:
    told = {"settings": KINDS[number % len(KINDS)], "stream": number % 4 > 0, "timeout_s": 30.0}
    return CompletionRequest(f"cmpl-{time.time_ns()}-{number}", f"def f{number}(", **told | values)


def routes(server: RunningServer) -> FirstBackend:
    address = BackendAddress("stable", f"127.0.0.1:{server.grpc_port}")
    return FirstBackend(Config(backends=(address,), is_open=True))


async def fly(service: Service, number: int, draw: random.Random) -> None:
    """One request that is superseded, left, closed half read, or left alone."""
    flight = Flight(CALLER, request(number))
    loop = asyncio.get_running_loop()
    reason = draw.choice([Superseded("newer"), Disconnected("left"), None, None])
    if reason:
        loop.call_later(draw.choice([0, 0.002, 0.02, 0.1, 0.2]), flight.stop, reason)
    num_read = draw.choice([1, 3, 500, 500])
    with suppress(GatewayError):
        async with aclosing(service.answer(flight)) as chunks:
            async for _ in chunks:
                num_read -= 1
                if not num_read:
                    break


def test_ledger_counts_what_the_engine_counted(
    server: RunningServer, account: Account, database: Database
) -> None:
    before = settled_page(server)
    draw = random.Random(3)

    async def fly_all() -> None:
        upstream = Upstream()
        service = Service(Stages(routes=routes(server), observers=[account]), upstream)
        gate = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            async with gate:
                await fly(service, number, draw)

        await asyncio.gather(*(one(number) for number in range(60)))
        await upstream.close()

    asyncio.run(fly_all())
    after = settled_page(server)
    account.ledger.flush()
    with database.session(read_only=True) as session:
        totals = select(func.count(), func.sum(UsageRow.completion_tokens)).where(
            UsageRow.prompt_tokens > 0
        )
        num_booked, tokens = session.execute(totals).one()
        outcomes = set(session.scalars(select(UsageRow.outcome)))

    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    num_requests = sum(value for name, value in grown.items() if name.startswith(REQUESTS))
    num_canaries = num_requests - num_booked  # the watchdog's, each of exactly one token
    assert num_canaries <= 2 * 6  # a minute's
    assert grown[TOKENS] == tokens + num_canaries
    assert outcomes == {"ok", "superseded", "disconnected"}


def test_cancelled_reader_leaves_the_count(server: RunningServer) -> None:
    noted: list[Chunk] = []

    async def leave() -> None:
        async with AsyncCompletionClient(f"localhost:{server.grpc_port}") as client:
            stream = client.stream("def f(", **LONG)

            async def read_all() -> None:
                async with aclosing(read(stream, noted.append)) as chunks:
                    async for _ in chunks:
                        pass

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(read_all(), 0.2)

    asyncio.run(leave())
    (last,) = noted
    assert last.finish_reason == "cancelled"
    assert last.completion_tokens in range(1, 160)


def test_answer_that_is_read_to_its_end_is_noted_by_nobody_else(server: RunningServer) -> None:
    noted: list[Chunk] = []

    async def ask() -> list[Chunk]:
        async with AsyncCompletionClient(f"localhost:{server.grpc_port}") as client:
            stream = client.stream("def f(", max_tokens=5, ignore_eos=True)
            return [chunk async for chunk in read(stream, noted.append)]

    assert asyncio.run(ask())[-1].completion_tokens == 5
    assert noted == []


def test_server_that_never_answers_is_not_waited_for(dead_end: str) -> None:
    async def leave() -> float:
        async with AsyncCompletionClient(dead_end, timeout_s=30) as client:
            chunks = read(client.stream("def f("), lambda _: None, settle_s=0.2)
            reading = asyncio.create_task(anext(chunks))
            await asyncio.sleep(0.1)
            reading.cancel()
            started = time.monotonic()
            with suppress(asyncio.CancelledError):
                await reading
            return time.monotonic() - started

    assert asyncio.run(leave()) < 1.5


@pytest.fixture
def dead_end() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
