"""What people notice when things die: judged rightly, and once for real."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.resilience.drill import DRAINED_S, faults_of
from benchmarks.resilience.failover import Deed, judge
from benchmarks.resilience.people import Asked, Fault, fault_of

EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}
AWAY = {"message": "the engine is away: try again", "type": "service_unavailable"}
BROKEN = {"message": "the gateway failed", "type": "server_error"}
WHOLE = {"choices": [{"text": "x", "finish_reason": "stop"}]}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome"),
    [
        (200, EVENTS, event(WHOLE) + b"data: [DONE]\n\n", None),
        (200, JSON, json.dumps(WHOLE).encode(), None),
        (200, EVENTS, event(WHOLE) + event({"error": AWAY}), "told"),
        (200, EVENTS, event(WHOLE) + event({"error": BROKEN}), "lost"),
        (200, EVENTS, event(WHOLE), "lost"),
        (503, {**JSON, "retry-after": "1"}, json.dumps({"error": AWAY}).encode(), "told"),
        (503, JSON, json.dumps({"error": AWAY}).encode(), "lost"),
        (502, {"content-type": "text/html"}, b"<html>Bad Gateway</html>", "lost"),
        (200, JSON, b'{"choices": [', "lost"),
    ],
    ids=[
        *("streamed", "whole", "ended with a hint", "ended with a fault", "stream without end"),
        *("refused with a hint", "refused without one", "proxy's page", "torn"),
    ],
)
def test_answer_is_judged_by_its_end(
    status: int, headers: dict[str, str], body: bytes, outcome: str | None
) -> None:
    fault = fault_of(status, headers, body)

    assert (fault.outcome if isinstance(fault, Fault) else None) == outcome


def test_only_what_was_on_the_victim_may_break() -> None:
    asked = [
        Asked(0.0, 1.0, "whole", False, "a"),
        Asked(2.0, 3.0, "told", False, "on-it"),
        Asked(2.0, 3.0, "told", False, "elsewhere"),
        Asked(2.0, 3.0, "told", False, "", "refused before its first text"),
        Asked(2.0, 3.0, "lost", False, "on-it-too", "cut"),
        Asked(4.0, 6.0, "whole", True, "b"),
    ]
    backends = {"on-it": "one", "on-it-too": "one", "elsewhere": "two", "a": "one", "b": "two"}

    found = judge("kill-server", Deed("", victim="one"), asked, backends, (2.0, 2.5))

    assert (found.num_whole, found.num_broken, found.num_told, found.num_lost) == (2, 1, 2, 1)
    assert (found.num_again, found.num_failed) == (1, 3)
    assert (found.before_p50_ms, found.p50_ms) == (1000, 2000)
    assert found.longest_gap_s == 4
    assert found.errors == ("", "cut", "refused before its first text")


def test_nothing_may_break_when_nothing_was_killed() -> None:
    asked = [Asked(2.0, 3.0, "told", False, "a")]

    assert judge("replace", Deed(""), asked, {"a": "one"}, (0.0, 5.0)).num_failed == 1


@pytest.mark.parametrize(
    ("asked", "gone", "answered_at", "told"),
    [
        ([Asked(5, 6, "lost", False), Asked(8, 9, "whole", False)], [], 9.0, []),
        ([Asked(9.5, 10, "told", False)], [], 9.0, ["1 requests failed after"]),
        ([], [Asked(1, 3 - DRAINED_S / 2, "whole", False)], 9.0, []),
        ([], [Asked(0, 2.9 - DRAINED_S, "whole", False)], 9.0, ["1 requests were booked before"]),
        ([], [], None, ["no answer within"]),
    ],
    ids=["clean", "fails later", "after the backup", "before the backup", "no answer"],
)
def test_drill_finds_what_it_must_not(
    asked: list[Asked], gone: list[Asked], answered_at: float | None, told: list[str]
) -> None:
    found = faults_of(asked, gone, 3.0, answered_at)

    assert len(found) == len(told)
    assert all(word in fault for word, fault in zip(told, found, strict=True))


@pytest.mark.long
def test_killed_server_costs_nobody_else_a_request(
    demo_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    words = ["--only", "kill-server", "--users", "8", "--seconds", "3", "--json", str(file)]

    status = main(["failover", "--model-repository", str(demo_repository), *words])

    told = capsys.readouterr()
    assert status == 0, told.err
    [row] = json.loads(file.read_text())["rows"]
    assert (row["num_told"], row["num_lost"]) == (0, 0)
    assert row["num_asked"] == row["num_whole"] + row["num_broken"]
    assert row["num_again"] == row["num_broken"]
    assert "kill-server" in told.out


@pytest.mark.long
def test_lost_place_comes_back_with_the_backup(
    demo_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    words = ["--users", "4", "--seconds", "12", "--backup-every", "1", "--json", str(file)]

    status = main(["drill", "--model-repository", str(demo_repository), *words])

    told = capsys.readouterr()
    assert status == 0, told.err
    [row] = json.loads(file.read_text())["rows"]
    assert row["steps"].keys() >= {"primary gone", "ledger restored", "first answer"}
    assert row["num_answered"] > 0
    assert row["num_lost_rows"] < row["num_answered"]
