"""The ledger: every request once, in the journal at once and in the database soon after.

Comes in: rows from the thread that serves, which waits for no database. Goes out: rows of the table
`usage`, by a thread of the ledger's own. A row's key is its request's id, so what is written twice
counts once. While the database is away the journal grows; it is drained when it is back. Knows
nothing of prices.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from gateway.account.journal import TRIM_BYTES, Journal
from gateway.account.recovery import recover
from gateway.account.rows import Row, to_columns, to_line
from gateway.account.statements import insert_or
from gateway.errors import Unavailable
from gateway.storage import Database
from gateway.storage.tables import UsageRow

DRAIN_EVERY_S = 1.0  # a transaction takes 3 ms of processor time, whatever it holds
LONGEST_PAUSE_S = 5.0
BATCH_BYTES = 512 * 1024
JOURNALS = "journal"  # the folder in the state folder
_REFUSED = "refused.txt"  # rows that the database won't have, for a person to see
_LOG = logging.getLogger("gateway")


class Ledger:
    """One process's; `begin` and `finish` cost tens of microseconds."""

    def __init__(self, database: Database, state: Path, trim_bytes: int = TRIM_BYTES) -> None:
        self._database = database
        self._folder = state / JOURNALS
        self._journal = Journal(self._folder, trim_bytes)
        self._is_recovered = False
        self._drain_lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._drain_on, name="ledger", daemon=True)
        self._thread.start()

    @property
    def num_unread_bytes(self) -> int:
        """How much of the journal isn't in the database yet."""
        return self._journal.num_unread_bytes

    def check(self) -> None:
        """Raise Unavailable while nothing can be noted, so that nothing is begun."""
        self._journal.check()

    def begin(self, row: Row) -> None:
        """Before the work begins; raises Unavailable."""
        self._journal.begin(row)

    def finish(self, row: Row) -> None:
        """Before the answer's last byte; alone it is enough for what took no work."""
        self._journal.finish(row)

    def is_open(self, request_id: str, key_id: str) -> bool:
        """Whether this key's request is under way here."""
        return self._journal.is_open(request_id, key_id)

    def flush(self) -> None:
        """Bring all that is finished into the database now; raises Unavailable."""
        with self._drain_lock:
            if not self._is_recovered:
                if num_rows := recover(self._folder, self._book):
                    _LOG.warning("%d rows of a gateway that died were booked", num_rows)
                self._is_recovered = True
            while self._journal.num_unread_bytes:
                unread = self._journal.unread(BATCH_BYTES)
                self._book(unread.rows)
                self._journal.drained(unread)

    def close(self) -> None:
        """Flush if the database is there, and end; what is left is booked at the next start."""
        self._closing.set()
        self._thread.join()
        try:
            self.flush()
        except Unavailable as error:
            _LOG.warning("the ledger ends with rows in its journal: %s", error)
        self._journal.close()

    def _drain_on(self) -> None:
        pause_s = DRAIN_EVERY_S
        while not self._closing.wait(pause_s):
            try:
                self.flush()
                pause_s = DRAIN_EVERY_S
            except Unavailable as error:
                _LOG.warning("the ledger waits for its database: %s", error)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except Exception:  # the thread's loop: the journal has the rows still
                _LOG.exception("the ledger could not be drained")
                pause_s = LONGEST_PAUSE_S

    def _book(self, rows: Sequence[Row]) -> None:
        """Write rows, all or none; those that the database won't have, one by one to a file."""
        newest = list({row.id: row for row in rows}.values())
        try:
            self._write(newest)
        except (SQLAlchemyError, ValueError, OverflowError):
            for row in newest:
                try:
                    self._write([row])
                except (SQLAlchemyError, ValueError, OverflowError) as error:
                    _LOG.error("the database refused request %r: %s", row.id, type(error).__name__)
                    with (self._folder / _REFUSED).open("ab") as file:
                        file.write(to_line(row))

    def _write(self, rows: Sequence[Row]) -> None:
        finished = [to_columns(row) for row in rows if row.is_finished]
        interrupted = [to_columns(row) for row in rows if not row.is_finished]
        with self._database.session() as session:
            insert_or("update", session, UsageRow, finished)
            insert_or("skip", session, UsageRow, interrupted)  # it may have been finished elsewhere
