"""Keys for tests of the guard, and clocks that a test sets by hand."""

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timezone
from typing import Any, TypeVar

import pytest

from gateway.errors import Unauthorized
from gateway.identity import Guard
from gateway.identity.keys import NewKey, create_key
from gateway.storage import Database

T = TypeVar("T")
NOW = datetime(2026, 11, 21, 18, 30, tzinfo=timezone.utc)


class Hands:
    """Clocks that a test sets by hand."""

    def __init__(self) -> None:
        self.passed_s = 100.0
        self.now = NOW
        self._guards: list[Guard] = []

    def guard(self, database: Database, **options: Any) -> Guard:
        """A guard that goes by them."""
        made = Guard(database, **options, clock=lambda: self.passed_s, now=lambda: self.now)
        self._guards.append(made)
        return made

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a test's own coroutine, its guards closed after it."""

        async def run_and_close() -> T:
            try:
                return await work
            finally:
                for one in self._guards:
                    await one.close()

        return asyncio.run(run_and_close())


def make(database: Database, **options: Any) -> NewKey:
    with database.session() as session:
        return create_key(session, "test", now=NOW, **options)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def refusal(guard: Guard, key: str) -> Unauthorized:
    with pytest.raises(Unauthorized) as raised:
        await guard.caller(bearer(key))
    return raised.value
