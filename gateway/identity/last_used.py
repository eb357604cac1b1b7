"""When each key was used last: noted in memory, booked in the database once a minute.

A stopped gateway books what is left; a killed one loses at most the last minute, and a database
that is lost is asked again a minute later. Knows nothing of secrets.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import anyio.to_thread

from gateway.errors import Unavailable
from gateway.identity.keys import book_uses
from gateway.storage import Database

BOOK_EVERY_S = 60.0


class LastUsed:
    """Collects uses; as many as there are good keys, so nothing of it grows without end."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._booked_at = clock()
        self._uses: dict[str, datetime] = {}
        self._booking: asyncio.Task[None] | None = None

    def note(self, key_id: str, at: datetime) -> None:
        """A key was used; cheap, and never waits."""
        self._uses[key_id] = at
        if self._booking is None and self._clock() - self._booked_at >= BOOK_EVERY_S:
            self._booking = asyncio.create_task(self._book())

    async def close(self) -> None:
        """Book what is left."""
        if self._booking is not None:
            await self._booking
        await self._book()

    async def _book(self) -> None:
        uses, self._uses = self._uses, {}
        self._booked_at = self._clock()
        try:
            if uses:
                await anyio.to_thread.run_sync(self._write, uses)
        except Unavailable:
            self._uses = {**uses, **self._uses}
        finally:
            self._booking = None

    def _write(self, uses: dict[str, datetime]) -> None:
        with self._database.session() as session:
            book_uses(session, uses)
