"""What became of completions in an editor: shown, accepted, dismissed.

Comes in: a caller's events, each with the id of a request of its own. Goes out: rows of the table
`events`, each kind once a request, however often it is sent. Calls block; knows nothing of HTTP.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select

from gateway.account.ledger import Ledger
from gateway.account.statements import insert_or
from gateway.messages import Caller
from gateway.storage import Database
from gateway.storage.tables import EventRow, UsageRow

Kind = Literal["shown", "accepted", "dismissed"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `chars` of the text were shown, or accepted; None is all."""

    request_id: str
    kind: Kind
    at: datetime
    chars: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """How many events were taken, and the ids that are no request of this key."""

    num_taken: int
    unknown: tuple[str, ...] = ()


class Events:
    """Takes events; `on_taken` hears of each kind, for metrics."""

    def __init__(
        self, database: Database, ledger: Ledger, on_taken: Callable[[Kind], None] = lambda _: None
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._on_taken = on_taken

    def take(self, caller: Caller, events: Sequence[Event]) -> Receipt:
        """Note events of the caller's own requests; raises Unavailable."""
        wanted = {one.request_id for one in events}
        own = self._own(caller, wanted)
        if own != wanted:  # perhaps it ended just now
            self._ledger.flush()
            own |= self._own(caller, wanted - own)
        taken = [one for one in events if one.request_id in own]
        rows = [
            {
                "request_id": one.request_id,
                "kind": one.kind,
                "at": one.at,
                "key_id": caller.key_id,
                "chars": one.chars,
            }
            for one in taken
        ]
        with self._database.session() as session:
            insert_or("skip", session, EventRow, rows)
        for one in taken:
            self._on_taken(one.kind)
        return Receipt(len(taken), tuple(sorted(wanted - own)))

    def _own(self, caller: Caller, request_ids: Iterable[str]) -> set[str]:
        ids = list(request_ids)
        own = {one for one in ids if self._ledger.is_open(one, caller.key_id)}
        rows = select(UsageRow.id).where(UsageRow.id.in_(ids), UsageRow.key_id == caller.key_id)
        with self._database.session(read_only=True) as session:
            return own | set(session.scalars(rows))
