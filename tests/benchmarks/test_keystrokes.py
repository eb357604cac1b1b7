"""People type through a real gateway that is killed meanwhile; and faults in books are found."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.serving.books import REQUESTS, TOKENS, Kept, Row, close_books
from benchmarks.serving.typists import Asked, Tally

BEFORE = (Kept({}, frozenset()), {})


def test_all_that_was_typed_is_booked_even_when_the_gateway_is_killed(
    demo_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--users", "8", "--seconds", "4", "--kill", "--json"]

    status = main(["keystrokes", "--model-repository", str(demo_repository), *words])

    told = capsys.readouterr()
    assert status == 0, told.err
    cut, whole = json.loads(told.out)["rows"]
    assert cut["sources"]["engine"]
    assert cut["num_events"]
    assert cut["books"]["outcomes"]["ok"]
    assert whole["books"]["gap_tokens"] == 0
    assert "interrupted" not in whole["books"]["outcomes"]


@pytest.mark.parametrize(
    ("rows", "events", "engine_tokens", "fault"),
    [
        ({}, {("a", "shown")}, 0, "1 answered requests have no row"),
        ({"a": Row("ok", 3, 4, 0)}, {("a", "shown")}, 4, "have another number of tokens"),
        ({"a": Row("interrupted", 0, 0, 0)}, {("a", "shown")}, 5, "have an unfinished row"),
        ({"a": Row("ok", 3, 5, 0)}, set(), 5, "1 acknowledged events aren't in the database"),
        ({"a": Row("ok", 3, 5, 0)}, {("a", "shown")}, 6, "counted 1 tokens beyond the ledger"),
        ({"a": Row("ok", 3, 5, 0)}, {("a", "shown")}, 4, "counted -1 tokens beyond the ledger"),
    ],
    ids=["no row", "miscounted", "unfinished", "lost event", "unbooked token", "booked twice"],
)
def test_fault_in_the_books_is_found(
    rows: dict[str, Row], events: set[tuple[str, str]], engine_tokens: int, fault: str
) -> None:
    tally = Tally(asked=[Asked("a", tokens=5)], events={("a", "shown")})
    kept, counters = Kept(rows, frozenset(events)), {f"{TOKENS}}}": engine_tokens}

    books = close_books(
        tally,
        (BEFORE[0], kept),
        (BEFORE[1], counters | {f"{REQUESTS}}}": len(rows)}),
        seconds=1,
        max_tokens=24,
    )

    assert any(fault in one for one in books.faults), books.faults


def test_right_books_have_no_fault() -> None:
    tally = Tally(asked=[Asked("a", tokens=5), Asked("b", "typeahead", tokens=2), Asked()])
    kept = Kept({"a": Row("ok", 3, 5, 0), "b": Row("typeahead", 3, 2, 0)}, frozenset())
    counters = {f"{TOKENS}}}": 7.0, f"{REQUESTS}}}": 3.0}  # two of them canaries

    books = close_books(tally, (BEFORE[0], kept), ({}, counters), seconds=1, max_tokens=24)

    assert books.faults == ()
    assert books.num_canaries == 2
