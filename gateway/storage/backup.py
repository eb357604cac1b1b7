"""A copy of the database in one file, taken while gateways write; and a database made of one again.

Comes in: the database's URL and a file. Goes out: the file, whole or not at all; or an empty
database filled with what it holds. SQLite is copied by its own online backup, PostgreSQL by pg_dump
and pg_restore, programs of its client package: both of one moment, and neither keeps a writer
waiting. Raises ConfigError, and Unavailable for a database that doesn't answer. Rows of a journal
that were not drained yet are not in it. Knows no table.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, inspect

from gateway.errors import ConfigError
from gateway.storage.database import CONNECT_TIMEOUT_S, Database, parse_url

# How a file begins, by the database that it is a copy of.
_MARKS = {"sqlite": b"SQLite format 3\0", "postgresql": b"PGDMP"}
_CLIENT = "PostgreSQL's client programs (Debian: postgresql-client), as new as the server or newer"


def back_up(url: str, target: Path) -> None:
    """Write a copy of the database to `target`, for this user alone; what was there is replaced."""
    parts = parse_url(url)
    copy = _copy_of_sqlite if parts.get_backend_name() == "sqlite" else _dump_of_postgres
    with _file_errors(target):
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            copy(parts, fresh)
            os.fsync(file)
            fresh.replace(target)
        finally:
            os.close(file)
            fresh.unlink(missing_ok=True)


def restore(url: str, source: Path) -> None:
    """Fill the empty database at `url` with a copy, and bring its tables to this version's form."""
    parts = parse_url(url)
    kind = parts.get_backend_name()
    with _file_errors(source), source.open("rb") as file:
        beginning = file.read(16)
    if not beginning.startswith(_MARKS[kind]):
        raise ConfigError(f"{source} is no backup of {kind}: give one that `backup` made of it")
    database = Database(url)
    try:
        with database.session(read_only=True) as session:
            names = inspect(session.connection()).get_table_names()
        if names:
            raise ConfigError(
                f"the database has {len(names)} tables: a backup is restored into an empty one, "
                "give --database another"
            )
        (_fill_sqlite if kind == "sqlite" else _fill_postgres)(parts, source)
        database.upgrade()
    finally:
        database.close()


def _copy_of_sqlite(parts: URL, target: Path) -> None:
    _copy_sqlite(Path(str(parts.database)), target)
    with closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it


def _fill_sqlite(parts: URL, source: Path) -> None:
    _copy_sqlite(source, Path(str(parts.database)))


def _copy_sqlite(source: Path, target: Path) -> None:
    """All pages of one moment; those of a torn file are refused before any is written."""
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as pages,
            closing(sqlite3.connect(target)) as copy,
        ):
            [found] = pages.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise ConfigError(f"{source} is damaged ({found:.80}): take another backup")
            pages.backup(copy)
    except sqlite3.Error as error:
        raise ConfigError(f"{source} can't be copied ({error}): see the file") from error


def _dump_of_postgres(parts: URL, target: Path) -> None:
    _run("pg_dump", ["--format=custom", f"--file={target}", "--lock-wait-timeout=10s"], parts)


def _fill_postgres(parts: URL, source: Path) -> None:
    words = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    _run("pg_restore", [*words, f"--dbname={parts.database}", str(source)], parts)


def _run(program: str, words: list[str], parts: URL) -> None:
    """A program of PostgreSQL's; it is told the password where no list of processes shows it."""
    found = shutil.which(program)
    if found is None:
        raise ConfigError(f"{program} is not installed: install {_CLIENT}")
    done = subprocess.run(
        [found, *words],
        env={**os.environ, **_environment(parts)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it did not say why"])[0]
        raise ConfigError(f"{program} ended with {done.returncode}: {said}")


def _environment(parts: URL) -> dict[str, str]:
    """The URL as libpq's environment variables; of its query, sslmode becomes PGSSLMODE."""
    named = {
        "host": parts.host,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "database": parts.database,
        "connect_timeout": CONNECT_TIMEOUT_S,
        **parts.query,
    }
    return {f"PG{name.upper()}": str(value) for name, value in named.items() if value is not None}


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} can't be used ({error.strerror}): see its folder") from error
