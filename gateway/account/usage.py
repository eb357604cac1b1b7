"""A month's accounts: requests, tokens and cost by key, model, version or user.

Comes in: a database and a month. Goes out: lines of exact numbers. What was accepted in part counts
by its share of the characters that were shown. Knows nothing of tables on a screen.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Integer, and_, case, cast, func, or_, select
from sqlalchemy.orm import Session, aliased

from gateway.account.budget import Month
from gateway.account.journal import SUFFIX
from gateway.account.prices import MICROS
from gateway.account.rows import from_line
from gateway.storage import Database
from gateway.storage.tables import EventRow, UsageRow

By = Literal["key", "model", "version", "user"]
_FROM_CACHE = ("cached", "typeahead")
_GROUPS: dict[By, tuple[Any, ...]] = {
    "key": (UsageRow.key_id,),
    "model": (UsageRow.model,),
    "version": (UsageRow.model, UsageRow.version, UsageRow.precision),
    "user": (UsageRow.tenant, UsageRow.user_hash),
}
_CHUNK = 500  # ids in one question


@dataclass(frozen=True, slots=True)
class Line:
    """One group's month; money in whole millionths."""

    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    wasted_tokens: int
    cached_tokens: int
    interrupted: int  # requests whose tokens aren't known
    cost_micros: int
    shown: int
    accepted: int
    accepted_tokens: Fraction

    @property
    def cost(self) -> Decimal:
        """In the currency of the price table."""
        return Decimal(self.cost_micros) / MICROS

    @property
    def acceptance(self) -> Fraction | None:
        """Share of the completions shown that were accepted."""
        return Fraction(self.accepted, self.shown) if self.shown else None

    @property
    def cost_per_accepted_token(self) -> Fraction | None:
        """All that was spent, over the tokens that somebody kept."""
        if not self.accepted_tokens:
            return None
        return Fraction(self.cost_micros, MICROS) / self.accepted_tokens


def month_lines(database: Database, month: Month, by: By) -> list[Line]:
    """The dearest group first; raises Unavailable."""
    group = _GROUPS[by]
    shown, accepted = aliased(EventRow), aliased(EventRow)
    is_cached = UsageRow.outcome.in_(_FROM_CACHE)
    sums = (
        select(
            *group,
            func.max(UsageRow.key_prefix).label("key_prefix"),
            func.count().label("requests"),
            func.sum(UsageRow.prompt_tokens).label("prompt"),
            func.sum(UsageRow.completion_tokens).label("completion"),
            func.sum(UsageRow.wasted_tokens).label("wasted"),
            func.sum(case((is_cached, UsageRow.completion_tokens), else_=0)).label("cached"),
            func.sum(case((UsageRow.finished, 0), else_=1)).label("interrupted"),
            func.sum(UsageRow.cost_micros).label("micros"),
            # What was accepted was shown, whether the editor said so or not.
            func.sum(cast(or_(shown.kind.is_not(None), accepted.kind.is_not(None)), Integer)).label(
                "shown"
            ),
            func.count(accepted.kind).label("accepted"),
        )
        .outerjoin(shown, _is_event(shown, "shown"))
        .outerjoin(accepted, _is_event(accepted, "accepted"))
        .where(UsageRow.started >= month.begin, UsageRow.started < month.end)
        .group_by(*group)
    )
    with database.session(read_only=True) as session:
        tokens = _accepted_tokens(session, month, group)
        rows = session.execute(sums).all()
    lines = [
        Line(
            _name(by, tuple(row[: len(group)]), row.key_prefix),
            row.requests,
            int(row.prompt),
            int(row.completion),
            int(row.wasted),
            int(row.cached),
            int(row.interrupted),
            int(row.micros),
            int(row.shown),
            row.accepted,
            tokens[tuple(row[: len(group)])],
        )
        for row in rows
    ]
    return sorted(lines, key=lambda line: (-line.cost_micros, line.name))


def num_undrained(database: Database, journals: Path) -> int:
    """Finished requests that stand in journals and not in the database yet."""
    rows = (from_line(line) for line in _lines(journals))
    ids = list({row.id for row in rows if row and row.is_finished})
    num_there = 0
    with database.session(read_only=True) as session:
        for begin in range(0, len(ids), _CHUNK):
            there = UsageRow.id.in_(ids[begin : begin + _CHUNK])
            num_there += session.scalar(select(func.count()).where(there)) or 0
    return len(ids) - num_there


def _accepted_tokens(
    session: Session, month: Month, group: tuple[Any, ...]
) -> defaultdict[tuple[Any, ...], Fraction]:
    """By group; a sum of fractions, which no database adds exactly."""
    shown, accepted = aliased(EventRow), aliased(EventRow)
    rows = (
        select(*group, UsageRow.completion_tokens, accepted.chars, shown.chars)
        .join(accepted, _is_event(accepted, "accepted"))
        .outerjoin(shown, _is_event(shown, "shown"))
        .where(UsageRow.started >= month.begin, UsageRow.started < month.end)
    )
    tokens: defaultdict[tuple[Any, ...], Fraction] = defaultdict(Fraction)
    for *name, written, num_accepted, num_shown in session.execute(rows):
        is_part = num_accepted is not None and num_shown and num_accepted < num_shown
        share = Fraction(num_accepted, num_shown) if is_part else Fraction(1)
        tokens[tuple(name)] += written * share
    return tokens


def _is_event(event: Any, kind: str) -> Any:
    """Of the request, and of the key that made it."""
    is_own = and_(event.request_id == UsageRow.id, event.key_id == UsageRow.key_id)
    return and_(is_own, event.kind == kind)


def _name(by: By, values: tuple[Any, ...], key_prefix: str) -> str:
    if by == "key":
        return key_prefix
    return " ".join(str(one) for one in values if one) or "-"


def _lines(journals: Path) -> Iterator[bytes]:
    for path in journals.glob(f"*{SUFFIX}"):
        try:
            yield from path.read_bytes().splitlines()
        except FileNotFoundError:
            continue  # it was drained and trimmed just now
