"""The routes in the database: read by every gateway, changed by one admin at a time, audited.

Comes in: a document that was made from version N. Goes out: version N + 1 in force and an audit
entry with both, in one transaction; Conflict when somebody else made N + 1 first. While the
database is gone the routes stay as they are. Knows nothing of who is routed where.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gateway.errors import Conflict, GatewayError
from gateway.messages import Caller
from gateway.routing.document import Document, document_json, read_document
from gateway.routing.routes import Routes
from gateway.storage import Database
from gateway.storage.tables import AuditRow, RoutesRow

RELOAD_S = 2.0
MAX_ENTRIES = 1000
CHANGED = "routes.changed"


def now_utc() -> datetime:
    """The wall clock's time."""
    return datetime.now(timezone.utc)


def next_document(current: Document, asked: Document) -> Document:
    """The document that follows `current`; Conflict unless it was made from just that version."""
    if asked.version != current.version:
        raise Conflict(
            f"the routes are version {current.version}, this change was made to {asked.version}: "
            "read them again and make it to those",
            param="version",
            code="routes_changed",
        )
    return replace(asked, version=current.version + 1)


class RoutesBook:
    """The kept document; one that was kept outranks the `routes` that a gateway starts with."""

    def __init__(
        self, database: Database, routes: Routes, now: Callable[[], datetime] = now_utc
    ) -> None:
        self._database = database
        self._start = routes.document
        self._now = now
        self.routes = routes

    def newest(self) -> Document:
        """The kept document, or the one to start with; Unavailable when the database is gone."""
        with self._database.session(read_only=True) as session:
            return self._newest(session)

    def change(self, asked: Document, by: Caller) -> Document:
        """Keep a document, as its next version, for all gateways to follow within RELOAD_S."""
        try:
            with self._database.session() as session:
                before = self._newest(session)
                after = next_document(before, asked)
                session.add(self._row(after, by))
                session.add(self._entry(before, after, by))
                session.flush()
        except IntegrityError:
            raise Conflict(
                f"somebody else changed version {asked.version} at the same moment: read the "
                "routes again and make the change to those",
                param="version",
                code="routes_changed",
            ) from None
        return after

    def audit(self, limit: int, before_id: int | None = None) -> list[dict[str, Any]]:
        """The newest entries, newest first; those older than `before_id` to read on."""
        rows = select(AuditRow).order_by(AuditRow.id.desc()).limit(min(limit, MAX_ENTRIES))
        if before_id is not None:
            rows = rows.where(AuditRow.id < before_id)
        with self._database.session(read_only=True) as session:
            return [_told(row) for row in session.scalars(rows)]

    async def reload(self) -> None:
        """Follow the kept document; raises what `newest` does."""
        self.follow(await asyncio.to_thread(self.newest))

    def follow(self, document: Document) -> None:
        """Put a document in force, unless a newer one is; in the event loop's thread."""
        if document.version > self.routes.document.version:
            self.routes.set(document)

    async def watch(self) -> None:
        """Reload every RELOAD_S, until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_S)
            try:
                await self.reload()
            except GatewayError:
                continue  # the database is gone, or another gateway's document unreadable here

    def _newest(self, session: Session) -> Document:
        row = session.scalar(select(RoutesRow).order_by(RoutesRow.version.desc()).limit(1))
        return self._start if row is None else read_document(row.document)

    def _row(self, document: Document, by: Caller) -> RoutesRow:
        return RoutesRow(
            version=document.version,
            document=document_json(document),
            changed=self._now(),
            key_prefix=by.prefix,
        )

    def _entry(self, before: Document, after: Document, by: Caller) -> AuditRow:
        return AuditRow(
            at=self._now(),
            key_prefix=by.prefix,
            action=CHANGED,
            before=document_json(before),
            after=document_json(after),
        )


def _told(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": row.at.isoformat(),
        "key_prefix": row.key_prefix,
        "action": row.action,
        "before": row.before,
        "after": row.after,
    }
