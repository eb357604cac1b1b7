"""Rows for tests, and a process of its own that books them until it is killed.

python booking.py STATE DATABASE_URL SEED
"""

import random
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gateway.account.ledger import Ledger
from gateway.account.rows import Row
from gateway.storage import Database
from gateway.storage.tables import UsageRow

STARTED = 1_795_260_000.0  # 2026-11-21


def begun(request_id: str, **values: Any) -> Row:
    """A row of a request under way."""
    told: dict[str, Any] = {
        **{"key_id": "key", "key_prefix": "nt_ab12cd34", "tenant": "tenant", "model": "demo"},
        **{"version": "1", "precision": "int8", "backend": "stable"},
        **{"started": STARTED, "stream": True},
    }
    return Row(request_id, **told | values)


def finished(request_id: str, **values: Any) -> Row:
    """A row of a request that has ended."""
    told = {"outcome": "ok", "prompt_tokens": 5, "completion_tokens": 7, "latency_s": 0.25}
    return begun(request_id, **told | values)


def booked(database: Database) -> dict[str, tuple[str, int]]:
    """Outcome and completion tokens of every request in the database."""
    with database.session(read_only=True) as session:
        rows = session.execute(
            select(UsageRow.id, UsageRow.outcome, UsageRow.completion_tokens)
        ).all()
    return {row.id: (row.outcome, row.completion_tokens) for row in rows}


def book_for_ever(state: Path, url: str, seed: int) -> None:
    """Say what was promised, after the promise: `b ID` for begun, `f ID` for finished."""
    draw = random.Random(seed)
    ledger = Ledger(Database(url), state, trim_bytes=4096)
    under_way: list[str] = []
    for number in range(10**9):
        name = f"{seed}-{number}"
        ledger.begin(begun(name))
        print("b", name, flush=True)
        under_way.append(name)
        if len(under_way) > draw.randrange(8):
            name = under_way.pop(draw.randrange(len(under_way)))
            ledger.finish(finished(name, completion_tokens=int(name.split("-")[1]) % 97))
            print("f", name, flush=True)


if __name__ == "__main__":
    book_for_ever(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
