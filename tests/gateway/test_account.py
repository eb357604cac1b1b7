"""What the account makes of requests, from the check to the row and the report."""

import argparse
import asyncio
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from gateway.account.account import Account
from gateway.account.budget import Budgets
from gateway.account.command import add_command
from gateway.account.events import Events
from gateway.account.journal import Journal
from gateway.account.ledger import JOURNALS, Ledger
from gateway.account.prices import load_prices
from gateway.account.rows import to_columns
from gateway.account.statements import insert_or
from gateway.api.events import router
from gateway.api.refusals import add_handlers
from gateway.errors import BudgetSpent
from gateway.messages import (
    Caller,
    CompletionRequest,
    Finished,
    KeyLimits,
    Outcome,
    Served,
    Times,
    Usage,
)
from gateway.storage import Database
from gateway.storage.tables import EventRow, UsageRow
from tests.gateway.booking import STARTED, begun, booked, finished

CALLER = Caller("key", "nt_ab12cd34", "tenant")
SERVED = Served("stable", "demo", "1", "int8")


@pytest.fixture
def account(database: Database, tmp_path: Path) -> Iterator[Account]:
    opened = Account(Ledger(database, tmp_path), load_prices(), Budgets(database, "USD"))
    yield opened
    opened.close()


def request(request_id: str, **settings: Any) -> CompletionRequest:
    return CompletionRequest(request_id, "def f(", settings, True, 30.0, user="ada")


def ended(
    request_id: str, outcome: Outcome = "ok", usage: Usage | None = None, **values: Any
) -> Finished:
    times = Times(10.0, 10.5, 10.1, STARTED)
    told: dict[str, Any] = {"caller": CALLER, "served": SERVED}
    told |= {"usage": usage or Usage(100, 1000), **values}
    return Finished(request(request_id), outcome, times, **told)


def test_request_is_booked_with_all_that_is_known(account: Account, database: Database) -> None:
    account.check(CALLER)
    account.begin(CALLER, request("a"), SERVED)
    account.finish(ended("a"))
    account.ledger.flush()
    with database.session(read_only=True) as session:
        row = session.scalars(select(UsageRow)).one()
    assert (row.key_id, row.tenant, row.model, row.precision) == ("key", "tenant", "demo", "int8")
    assert (row.prompt_tokens, row.completion_tokens, row.wasted_tokens) == (100, 1000, 0)
    assert row.cost_micros == 205
    assert (row.latency_s, row.finished, row.stream) == (0.5, True, True)
    assert row.ttft_s == pytest.approx(0.1)
    assert row.user_hash not in (None, "ada")


@pytest.mark.parametrize(
    ("outcome", "wasted"),
    [("ok", 0), ("timeout", 1000), ("superseded", 1000), ("disconnected", 1000), ("failed", 1000)],
)
def test_tokens_that_nobody_got_are_wasted(
    account: Account, database: Database, outcome: Outcome, wasted: int
) -> None:
    account.finish(ended("a", outcome))
    account.ledger.flush()
    with database.session(read_only=True) as session:
        assert session.scalars(select(UsageRow.wasted_tokens)).one() == wasted


def test_refusal_without_work_has_no_row(account: Account, database: Database) -> None:
    account.finish(ended("a", "refused"))
    account.finish(ended("b", "refused", served=None))
    account.finish(ended("c", "failed", caller=None))
    account.begin(CALLER, request("d"), SERVED)
    account.finish(ended("d", "refused", Usage()))
    account.ledger.flush()
    assert booked(database) == {"d": ("refused", 0)}


def test_request_that_may_cost_too_much_is_not_begun(account: Account, database: Database) -> None:
    poor = Caller("key", "nt_ab12cd34", "tenant", limits=KeyLimits(hard_budget=0.000001))
    account.begin(poor, request("a", max_tokens=500), SERVED)
    with pytest.raises(BudgetSpent, match="are under way"):
        account.begin(poor, request("b", max_tokens=500), SERVED)
    account.finish(ended("a", usage=Usage()))
    account.ledger.flush()
    assert list(booked(database)) == ["a"]


def test_metrics_hear_the_cost(account: Account) -> None:
    assert account.priced(ended("a")).cost == 0.000205


# Events


def post(account: Account, database: Database, body: Any, caller: Caller = CALLER) -> Any:
    app = FastAPI()
    app.include_router(router(lambda: caller, Events(database, account.ledger)))
    add_handlers(app)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.post("/v1/events", json=body)

    return asyncio.run(ask())


def events_of(database: Database) -> set[tuple[str, str, int | None]]:
    with database.session(read_only=True) as session:
        rows = session.execute(select(EventRow.request_id, EventRow.kind, EventRow.chars)).all()
    return {tuple(row) for row in rows}  # type: ignore[misc]


def test_events_of_own_requests_are_taken_once(account: Account, database: Database) -> None:
    account.finish(ended("a"))
    body = {"events": [{"id": "a", "kind": "shown", "chars": 40}, {"id": "a", "kind": "accepted"}]}
    for _ in range(2):
        assert post(account, database, body).json() == {"taken": 2, "unknown": []}
    assert events_of(database) == {("a", "shown", 40), ("a", "accepted", None)}


def test_event_may_come_while_its_completion_is_written(
    account: Account, database: Database
) -> None:
    account.begin(CALLER, request("a"), SERVED)
    answer = post(account, database, {"events": [{"id": "a", "kind": "shown"}]})
    assert answer.json()["taken"] == 1


def test_events_of_others_requests_are_unknown(account: Account, database: Database) -> None:
    account.finish(ended("a"))
    account.begin(CALLER, request("b"), SERVED)
    other = Caller("other", "nt_00000000", "tenant")
    body = {"events": [{"id": one, "kind": "accepted"} for one in ("a", "b", "'OR/**/1=1--")]}
    answer = post(account, database, body, other)
    assert answer.json()["taken"] == 0
    assert events_of(database) == set()


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "shown"},
        {"id": "a", "kind": "seen"},
        {"id": "a b", "kind": "shown"},
        {"id": "", "kind": "shown"},
        {"id": "x" * 129, "kind": "shown"},
        {"id": "a", "kind": "shown", "chars": -1},
        {"id": "a", "kind": "shown", "chars": "3"},
        {"id": "a", "kind": "shown", "chars": 10**30},
        {"id": "a", "kind": "shown", "extra": 1},
        {"id": "a", "kind": "shown", "at": "2026-11-21T18:00:00"},
        {"id": "a", "kind": "shown", "at": "0001-01-01T00:00:00+14:00"},
        {"id": "a", "kind": "shown", "at": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_event_that_makes_no_sense_is_refused(
    account: Account, database: Database, event: dict[str, Any]
) -> None:
    answer = post(account, database, {"events": [event]})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


# The report


@pytest.fixture
def month(account: Account, database: Database) -> Database:
    """Two keys; what the first accepted it accepted in part."""
    for number in range(4):
        account.ledger.finish(
            finished(f"a{number}", completion_tokens=10, cost_micros=25, version=str(number % 2))
        )
    account.ledger.finish(finished("b", key_id="b", key_prefix="=cmd()", cost_micros=1))
    account.ledger.finish(finished("c", outcome="cached", completion_tokens=9))
    account.ledger.finish(finished("d", started=STARTED + 40 * 86400))
    account.ledger.flush()
    shown = [{"id": f"a{number}", "kind": "shown", "chars": 30} for number in range(3)]
    accepted = [
        {"id": "a0", "kind": "accepted", "chars": 10},
        {"id": "a1", "kind": "accepted"},
        {"id": "a2", "kind": "dismissed"},
    ]
    assert post(account, database, {"events": [*shown, *accepted]}).json()["taken"] == 6
    return database


def usage(
    capsys: pytest.CaptureFixture[str], url: str, state: Path, *words: str
) -> tuple[str, str]:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    where = ["--database", url, "--state", str(state), "--month", "2026-11"]
    arguments = parser.parse_args(["usage", *where, *words])
    assert arguments.run(arguments) == 0
    told = capsys.readouterr()
    return told.out, told.err


@pytest.mark.usefixtures("month")
def test_month_is_told_exactly(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = usage(capsys, database_url, tmp_path, "--format", "json")
    told = json.loads(out)
    first, second = told["lines"]
    assert (told["month"], told["not_drained"]) == ("2026-11", 0)
    assert first == {
        **{"name": "nt_ab12cd34", "requests": 5, "prompt_tokens": 25, "completion_tokens": 49},
        **{"wasted_tokens": 0, "cached_tokens": 9, "interrupted": 0, "cost": "0.0001"},
        **{"shown": 3, "accepted": 2, "accepted_tokens": "13.3333333"},
        **{"acceptance": "0.666666667", "cost_per_accepted_token": "0.0000075"},
    }
    assert (second["name"], second["cost"], second["acceptance"]) == ("=cmd()", "0.000001", None)


@pytest.mark.usefixtures("month")
def test_csv_is_safe_to_open_in_a_spreadsheet(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = usage(capsys, database_url, tmp_path, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["name"] for row in rows] == ["nt_ab12cd34", "'=cmd()"]
    assert rows[0]["cost"] == "0.0001"


@pytest.mark.usefixtures("month")
@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", ["demo"]),
        ("version", ["demo 1 int8", "demo 0 int8"]),
        ("user", ["tenant"]),
    ],
)
def test_table_has_a_line_for_each(
    database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    by: str,
    names: Sequence[str],
) -> None:
    out, _ = usage(capsys, database_url, tmp_path, "--by", by)
    found = [line for line in out.splitlines()[1:] if line.strip()]
    assert [line.split("  ")[0].strip() for line in found] == names


def test_report_says_what_is_not_drained(
    database: Database, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    insert = to_columns(finished("there"))
    with database.session() as session:
        insert_or("update", session, UsageRow, [insert])
    dead = Journal(tmp_path / JOURNALS)
    dead.finish(finished("there"))
    dead.begin(begun("under way"))
    dead.finish(finished("missing"))
    dead.close()
    _, err = usage(capsys, database_url, tmp_path)
    assert err.startswith("1 finished requests")


@pytest.mark.parametrize("month", ["2026-13", "2026", "11-2026", "2026-11-01", "; DROP"])
def test_month_that_is_none_is_refused(month: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["usage", "--month", month])
    assert "give one such as 2026-11" in capsys.readouterr().err
