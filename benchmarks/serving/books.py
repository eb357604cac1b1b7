"""Whether a gateway's accounts are right: its ledger against the engine's counters and its callers.

Comes in: a Tally of what callers saw, the database before and after, the engine's counters before
and after. Goes out: Books with figures and faults. The engine's own canaries, which the gateway
knows nothing of, are requests of one token each. A killed gateway's last requests are marked
`interrupted`: what the engine wrote for them is known only within bounds.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.typists import Tally

TOKENS = 'nanotriton_tokens_total{kind="completion"'
REQUESTS = "nanotriton_requests_total{"
CACHED = ("cached", "typeahead")
CANARY_EVERY_S = 10.0  # of each of the two models that are served


@dataclass(frozen=True, slots=True)
class Row:
    """One request as the ledger has it."""

    outcome: str
    prompt_tokens: int
    completion_tokens: int
    wasted_tokens: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What the database holds: rows by id, events."""

    rows: Mapping[str, Row]
    events: frozenset[tuple[str, str]]

    @classmethod
    def read(cls, folder: Path) -> "Kept":
        """Of the gateway whose state is in the folder."""
        path = folder / "state" / "gateway.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            columns = "id, outcome, prompt_tokens, completion_tokens, wasted_tokens"
            rows = database.execute(f"SELECT {columns} FROM usage").fetchall()
            events = database.execute("SELECT request_id, kind FROM events").fetchall()
        return cls({one[0]: Row(*one[1:]) for one in rows}, frozenset(events))


@dataclass(frozen=True, slots=True)
class Books:
    """One stretch of time; `gap_tokens` the engine counted beyond rows and canaries."""

    num_rows: int
    outcomes: Mapping[str, int]
    ledger_tokens: int
    engine_tokens: int
    wasted_tokens: int
    num_canaries: int
    gap_tokens: int
    faults: tuple[str, ...]


def close_books(
    tally: Tally,
    kept: tuple[Kept, Kept],
    counters: tuple[Mapping[str, float], Mapping[str, float]],
    *,
    seconds: float,
    max_tokens: int,
) -> Books:
    """Hold a stretch's rows and events against what callers saw and what the engine counted."""
    before, after = kept
    rows = {one: row for one, row in after.rows.items() if one not in before.rows}
    of_engine = [row for row in rows.values() if row.outcome not in CACHED and row.prompt_tokens]
    outcomes = Counter(row.outcome for row in rows.values())
    num_interrupted = outcomes["interrupted"]
    ledger_tokens = sum(row.completion_tokens for row in of_engine)
    engine_tokens = _grown(counters, TOKENS)
    num_others = _grown(counters, REQUESTS) - len(of_engine)
    # The engine may have taken an interrupted request, or never have seen it.
    num_canaries = max(0, num_others - num_interrupted)
    gap = engine_tokens - ledger_tokens - num_canaries
    most_canaries = 2 * (int(seconds / CANARY_EVERY_S) + 2)
    faults = [
        *_unbooked(tally, rows),
        *_lost_events(tally, after),
        *_leaking(gap, num_interrupted * max_tokens),
    ]
    if not 0 <= num_others <= most_canaries + num_interrupted:
        faults.append(
            f"the engine had {num_others} requests beyond the ledger's rows, its canaries are at "
            f"most {most_canaries} and {num_interrupted} were interrupted"
        )
    return Books(
        len(rows),
        dict(outcomes),
        ledger_tokens,
        engine_tokens,
        sum(row.wasted_tokens for row in rows.values()),
        num_canaries,
        gap,
        tuple(faults),
    )


def _grown(counters: tuple[Mapping[str, float], Mapping[str, float]], name: str) -> int:
    before, after = counters
    return int(
        sum(value - before.get(one, 0) for one, value in after.items() if one.startswith(name))
    )


def _unbooked(tally: Tally, rows: Mapping[str, Row]) -> list[str]:
    """Requests that were answered must have their row, whole ones with the tokens told."""
    missing = [one for one in tally.asked if one.id and one.id not in rows]
    whole = [(one, rows[one.id]) for one in tally.whole if one.id and one.id in rows]
    wrong = [one for one, row in whole if row.completion_tokens != one.tokens]
    open_ = [one for one, row in whole if row.outcome == "interrupted"]
    told = {"no row": missing, "another number of tokens": wrong, "an unfinished row": open_}
    return [f"{len(found)} answered requests have {what}" for what, found in told.items() if found]


def _lost_events(tally: Tally, kept: Kept) -> list[str]:
    lost = tally.events - kept.events
    return [f"{len(lost)} acknowledged events aren't in the database"] if lost else []


def _leaking(gap: int, most: int) -> list[str]:
    if 0 <= gap <= most:
        return []
    return [f"the engine counted {gap} tokens beyond the ledger, where 0 to {most} may be missing"]
