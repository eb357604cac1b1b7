"""A gateway that asks who is there, and keys for it, made as its operator makes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
from running import RunningServer
from sqlalchemy import select

from gateway.identity.keys import create_key
from gateway.messages import KeyLimits, Role
from gateway.storage import Database
from gateway.storage.options import upgraded_database
from gateway.storage.tables import UsageRow
from tests.gateway.gateways import RunningGateway, running_gateway

SECRET = "a secret of tests, long enough for HS256"
# Hot and long, so that it runs until somebody ends it, and no cache keeps it.
LONG = {"max_tokens": 480, "ignore_eos": True, "temperature": 2, "top_k": 50}


@dataclass
class KeyedGateway:
    """A running gateway and its database."""

    running: RunningGateway
    database: Database

    def key(self, role: Role = "user", tenant: str | None = None, **limits: Any) -> str:
        """A new key's text."""
        return new_key(self.database, role, tenant, **limits)

    def http(self, key: str) -> httpx.Client:
        """A client that sends the key."""
        return self.running.http(headers=bearer(key))

    def complete(self, key: str, **body: Any) -> httpx.Response:
        """One unary request."""
        with self.http(key) as http:
            return http.post("/v1/completions", json={"prompt": "def f(", "max_tokens": 4, **body})

    def stats(self) -> dict[str, Any]:
        """What /stats says."""
        with self.running.http() as http:
            told: dict[str, Any] = http.get("/stats").json()
            return told

    def rows(self, **columns: Any) -> list[UsageRow]:
        """The ledger's rows in the database, those with these values."""
        with self.database.session(read_only=True) as session:
            return list(session.scalars(select(UsageRow).filter_by(**columns)))


def bearer(key: str) -> Mapping[str, str]:
    """The header that shows a key or token."""
    return {"authorization": f"Bearer {key}"}


def new_key(
    database: Database, role: Role = "user", tenant: str | None = None, **limits: Any
) -> str:
    """A new key's text."""
    now = datetime.now(timezone.utc)
    with database.session() as session:
        made = create_key(
            session, "test", now=now, role=role, tenant=tenant, limits=KeyLimits(**limits)
        )
    return made.text


@contextmanager
def keyed_gateway(
    server: RunningServer, folder: Path, *words: str, database: str | None = None
) -> Iterator[KeyedGateway]:
    """One with its database, for a while; it takes tokens that SECRET signed too."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    tokens = ("--jwt-audience", "nanotriton", "--jwt-secret-file", str(secret))
    place = ("--database", database) if database else ()
    opened = upgraded_database(database, folder / "state")
    try:
        with running_gateway(server, folder, *tokens, *place, *words) as running:
            yield KeyedGateway(running, opened)
    finally:
        opened.close()
