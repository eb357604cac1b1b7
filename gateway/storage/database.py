"""The database by its URL: sessions for threads, migrations, and one word for "it is gone".

SQLite in a file is the default, PostgreSQL serves several gateways. Calls block: async code goes
through `anyio.to_thread`. What is lost on the way, a server that died or a full disk, leaves
`session` as Unavailable; a mistake in a statement stays what it is. Knows no table.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from gateway.errors import ConfigError, Unavailable

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_S = 10
RETRY_AFTER_S = 5.0
# The lock under which PostgreSQL migrates: any number, the same in every gateway.
_MIGRATION_LOCK = 0x6E616E6F
_POSTGRES_OPTIONS = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "options": f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c timezone=UTC",
    # A server whose machine vanished doesn't answer: let TCP give up as early as we would.
    "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
}


class Database:
    """Connections to one database; usable from many threads."""

    def __init__(self, url: str) -> None:
        """`sqlite:///FILE` or `postgresql+psycopg://USER@HOST/NAME`; raises ConfigError."""
        self.engine = _connect(parse_url(url))

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back by an exception.

        `read_only` never waits for a writer, and its changes are thrown away. Raises Unavailable
        when the database is lost.
        """
        with _lost_is_unavailable(), Session(self.engine, expire_on_commit=False) as session:
            session.connection(execution_options={"read_only": read_only})
            yield session
            if not read_only:
                session.commit()

    def upgrade(self) -> None:
        """Bring the tables to this version's form; safe when several gateways start at once.

        Raises ConfigError for a database of a newer gateway, Unavailable when it is lost.
        """
        config = Config()
        config.set_main_option("script_location", "gateway.storage:migrations")
        with _lost_is_unavailable(), self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # SQLite: BEGIN IMMEDIATE is the lock
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise ConfigError(
                    f"the database is of another gateway ({error}): run the newest one of those "
                    "that share it, or give --database another"
                ) from error

    def close(self) -> None:
        """Close the connections that no session holds."""
        self.engine.dispose()


@contextmanager
def _lost_is_unavailable() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise _unavailable() from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable() from error
        raise


def _unavailable() -> Unavailable:
    return Unavailable(
        f"the gateway's database does not answer: try again in {RETRY_AFTER_S:.0f} s",
        code="database_unavailable",
        retry_after_s=RETRY_AFTER_S,
    )


def parse_url(url: str) -> URL:
    """A URL's parts; raises ConfigError, and no message repeats it, for it may hold a password."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "the database's URL can't be read: it is sqlite:///FILE or "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        ) from None
    if parts.drivername in ("postgres", "postgresql"):
        return parts.set(drivername="postgresql+psycopg")
    if parts.drivername == "postgresql+psycopg":
        return parts
    if parts.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ConfigError(
            f"the database is {parts.drivername}: the gateway speaks sqlite and postgresql+psycopg"
        )
    if parts.database in (None, "", ":memory:"):
        raise ConfigError("SQLite in memory would lose the accounts: give sqlite:///FILE")
    return parts


def _connect(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(
            url, connect_args=_POSTGRES_OPTIONS, pool_pre_ping=True, pool_timeout=CONNECT_TIMEOUT_S
        )
    _create_private(Path(str(url.database)))
    # The driver's own idea of transactions leaves migrations and reads outside of them.
    engine = create_engine(url, connect_args={"isolation_level": None, "timeout": 5})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _create_private(path: Path) -> None:
    """The file and, through it, its -wal and -shm, for the gateway's user alone."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"{path} can't be opened ({error.strerror}): see its folder") from error


def _set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a booked request survives a power loss
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    """Writers take the lock at once: one that read first could not get it any more."""
    is_reader = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if is_reader else "BEGIN IMMEDIATE")
