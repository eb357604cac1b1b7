"""A hundred people type at once: every token is counted once, after a killed gateway too."""

import asyncio
import json
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from metrics_page import settled_page
from running import RunningServer, wait_until
from sqlalchemy import select

from gateway.storage import Database
from gateway.storage.tables import UsageRow
from tests.gateway.gateways import RunningGateway, running_gateway

NUM_PEOPLE = 100
MAX_TOKENS = 24
LONGEST = 400
TEXT = "def area(width, height):\n    return width * height\n"
TOKENS = 'nanotriton_tokens_total{kind="completion",version="1"}'
REQUESTS = "nanotriton_requests_total"


@dataclass
class Heard:
    """What people got: completion tokens of whole answers by id, and how many were refused."""

    whole: dict[str, int] = field(default_factory=dict)
    num_failed: int = 0


async def type_on(http: httpx.AsyncClient, number: int, num_keys: int, heard: Heard) -> None:
    """One person: a request at every few keys, in one session, some left before their end."""
    draw = random.Random(number)
    typed = f"# {number}\n"
    asked: list[asyncio.Task[None]] = []
    for key in TEXT[:num_keys]:
        typed += key
        if draw.random() < 0.4:
            asked.append(asyncio.create_task(ask(http, number, typed, heard)))
            if draw.random() < 0.2:
                asyncio.get_running_loop().call_later(draw.uniform(0, 0.3), asked[-1].cancel)
        await asyncio.sleep(draw.uniform(0.02, 0.2))
    await asyncio.gather(*asked, return_exceptions=True)


async def ask(
    http: httpx.AsyncClient, number: int, prompt: str, heard: Heard, **options: object
) -> None:
    body = {
        **{"prompt": prompt, "session": str(number), "user": str(number), "stream": True},
        **{"max_tokens": MAX_TOKENS, "temperature": 0, "stream_options": {"include_usage": True}},
        **options,
    }
    try:
        async with http.stream("POST", "/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                told = json.loads(line[6:]) if line.startswith("data: {") else {}
                if usage := told.get("usage"):
                    heard.whole[told["id"]] = usage["completion_tokens"]
    except httpx.HTTPError:
        heard.num_failed += 1


async def ask_long(http: httpx.AsyncClient, number: int, heard: Heard) -> None:
    """Again and again, until nobody answers."""
    prompt = f"# {number} writes at length\n"
    while not heard.num_failed:
        await ask(http, NUM_PEOPLE, prompt, heard, max_tokens=LONGEST, session=None)


async def kill_at_work(http: httpx.AsyncClient, gateway: RunningGateway, after_s: float) -> None:
    """Kill it when it has work that nobody has had the answer of."""
    await asyncio.sleep(after_s)
    while (await http.get("/stats")).json()["queue"]["running"] < 2:
        await asyncio.sleep(0.01)
    gateway.process.send_signal(signal.SIGKILL)


def type_all(gateway: RunningGateway, num_keys: int, kill_after_s: float | None = None) -> Heard:
    heard = Heard()

    async def everybody() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60, limits=limits) as http:
            people = [type_on(http, number, num_keys, heard) for number in range(NUM_PEOPLE)]
            if kill_after_s is not None:  # whoever types is answered at once, perhaps all just then
                people += [ask_long(http, number, heard) for number in range(4)]
                people.append(kill_at_work(http, gateway, kill_after_s))
            await asyncio.gather(*people)

    asyncio.run(everybody())
    return heard


def rows_of(folder: Path) -> dict[str, UsageRow]:
    database = Database(f"sqlite:///{folder}/state/gateway.sqlite")
    with database.session(read_only=True) as session:
        rows = {row.id: row for row in session.scalars(select(UsageRow))}
    database.close()
    return rows


def interrupted(folder: Path) -> list[UsageRow]:
    return [row for row in rows_of(folder).values() if row.outcome == "interrupted"]


def engine_growth(before: dict[str, float], after: dict[str, float]) -> tuple[float, float]:
    """Requests and completion tokens that the engine counted in between."""
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    requests = sum(value for name, value in grown.items() if name.startswith(REQUESTS))
    return requests, grown[TOKENS]


def test_every_token_of_a_hundred_people_is_counted_once(
    server: RunningServer, tmp_path: Path
) -> None:
    before = settled_page(server)
    with running_gateway(server, tmp_path, "--open") as gateway:
        heard = type_all(gateway, num_keys=15)
    requests, tokens = engine_growth(before, settled_page(server))
    rows = rows_of(tmp_path)

    assert heard.whole
    for name, count in heard.whole.items():
        assert rows[name].completion_tokens == count
    engine = [row for row in rows.values() if row.outcome not in ("cached", "typeahead")]
    # 0 prompt tokens: it was superseded before it was sent.
    num_sent = sum(row.prompt_tokens > 0 for row in engine)
    num_canaries = requests - num_sent  # of the watchdog and of /health: one token each
    assert num_canaries >= 0
    assert tokens == sum(row.completion_tokens for row in engine) + num_canaries
    assert {row.finished for row in engine} == {True}


# httpx leaves what it was connecting to a killed server to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_killed_gateway_marks_what_was_under_way_and_loses_nothing_else(
    server: RunningServer, tmp_path: Path
) -> None:
    before = settled_page(server)
    with running_gateway(server, tmp_path, "--open") as gateway:
        heard = type_all(gateway, num_keys=30, kill_after_s=2.0)
        gateway.process.wait(10)
    with running_gateway(server, tmp_path, "--open"):  # books what the dead one left
        wait_until(lambda: bool(interrupted(tmp_path)), 20)
    requests, tokens = engine_growth(before, settled_page(server))
    rows = rows_of(tmp_path)

    assert heard.num_failed
    for name, count in heard.whole.items():
        assert (rows[name].finished, rows[name].completion_tokens) == (True, count)
    engine = [row for row in rows.values() if row.outcome not in ("cached", "typeahead")]
    num_known = sum(row.prompt_tokens > 0 for row in engine)
    num_other = requests - num_known  # canaries, and those whose tokens aren't known
    missing = tokens - sum(row.completion_tokens for row in engine)
    assert 0 <= missing <= num_other + len(interrupted(tmp_path)) * LONGEST
