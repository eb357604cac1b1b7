"""Inserts that may come twice, in the words of either database."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from gateway.storage.tables import Table


def insert_or(
    otherwise: Literal["update", "skip"],
    session: Session,
    table: type[Table],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Insert rows; one whose primary key is there is updated, or skipped."""
    if not rows:
        return
    is_postgres = session.get_bind().dialect.name == "postgresql"
    statement = (postgresql.insert if is_postgres else sqlite.insert)(table)
    keys = [column.name for column in table.__table__.primary_key]
    if otherwise == "skip":
        session.execute(statement.on_conflict_do_nothing(index_elements=keys), list(rows))
        return
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    session.execute(upsert, list(rows))
