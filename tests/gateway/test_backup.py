"""Backups of both databases: taken while gateways write, restored whole."""

import sqlite3
import stat
import threading
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.__main__ import main
from gateway.errors import ConfigError
from gateway.storage import Database
from gateway.storage.backup import back_up, restore
from gateway.storage.tables import AuditRow, Table

NOW = datetime(2026, 11, 21, 18, 30, tzinfo=timezone.utc)


@pytest.fixture
def other_url(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Another empty database of the same kind."""
    if database_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path}/other.sqlite"
    return request.getfixturevalue("postgres").new_url()  # type: ignore[no-any-return]


def note(database: Database, prefix: str) -> None:
    with database.session() as session:
        session.add(AuditRow(at=NOW, key_prefix=prefix, action="test", before=None, after={"a": 1}))


def prefixes(url: str) -> list[str]:
    database = Database(url)
    with database.session(read_only=True) as session:
        found = list(session.scalars(select(AuditRow.key_prefix).order_by(AuditRow.id)))
    database.close()
    return found


def test_restored_database_is_the_one_of_the_backup(
    database: Database, database_url: str, other_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.backup"
    note(database, "before")
    back_up(database_url, file)
    note(database, "after")

    restore(other_url, file)

    assert prefixes(database_url) == ["before", "after"]
    assert prefixes(other_url) == ["before"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".*"))  # nothing is left of the making


def test_restored_database_goes_on(
    database: Database, database_url: str, other_url: str, tmp_path: Path
) -> None:
    note(database, "first")
    back_up(database_url, tmp_path / "gateway.backup")
    restore(other_url, tmp_path / "gateway.backup")
    restored = Database(other_url)

    note(restored, "second")  # the number that the next row gets came along

    restored.close()
    assert prefixes(other_url) == ["first", "second"]


def test_backup_under_writers_is_whole_and_fails_none(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/gateway.sqlite", tmp_path / "gateway.backup"
    database = Database(url)
    database.upgrade()
    stopping, written = threading.Event(), []

    def write() -> None:
        while not stopping.is_set():
            note(database, f"{len(written)}")
            written.append(len(written))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            back_up(url, file)
    finally:
        stopping.set()
        writer.join()
        database.close()

    with closing(sqlite3.connect(file)) as copy:
        found = [int(one) for (one,) in copy.execute("SELECT key_prefix FROM audit ORDER BY id")]
    assert found == written[: len(found)]
    assert prefixes(url) == [f"{one}" for one in written]


def test_restore_into_a_database_with_tables_is_refused(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    note(database, "mine")
    back_up(database_url, tmp_path / "gateway.backup")

    with pytest.raises(ConfigError, match=f"has {len(Table.metadata.tables) + 1} tables"):
        restore(database_url, tmp_path / "gateway.backup")

    assert prefixes(database_url) == ["mine"]


@pytest.mark.parametrize("content", [b"", b"PGDMP of another kind"], ids=["empty", "another kind"])
def test_file_that_is_no_backup_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "gateway.backup"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match="is no backup of sqlite"):
        restore(f"sqlite:///{tmp_path}/new.sqlite", file)


def test_damaged_backup_leaves_the_database_empty(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/gateway.sqlite", tmp_path / "gateway.backup"
    database = Database(url)
    database.upgrade()
    database.close()
    back_up(url, file)
    file.write_bytes(file.read_bytes()[:-6000])

    with pytest.raises(ConfigError, match=r"damaged|malformed"):
        restore(f"sqlite:///{tmp_path}/new.sqlite", file)

    with closing(sqlite3.connect(tmp_path / "new.sqlite")) as new:
        assert new.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_password_is_told_to_nobody_but_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$# arguments: $*; password $PGPASSWORD" >&2\nexit 3\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("GATEWAY_DATABASE", "postgresql://ada:hidden@127.0.0.1:1/gateway")

    assert main(["backup", str(tmp_path / "gateway.backup")]) == 1

    told = capsys.readouterr().err
    assert "pg_dump ended with 3" in told
    assert "hidden" not in told.partition("password")[0]


def test_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="pg_dump is not installed: install PostgreSQL's client"):
        back_up("postgresql://ada@127.0.0.1:1/gateway", tmp_path / "gateway.backup")


def test_folder_keeps_the_newest_backups_and_gives_the_newest_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, state, new = tmp_path / "backups", tmp_path / "state", tmp_path / "new"
    folder.mkdir()
    main(["keys", "create", "--name", "Ada", "--state", str(state)])
    for _ in range(3):
        assert main(["backup", str(folder), "--keep", "2", "--state", str(state)]) == 0
    capsys.readouterr()

    assert main(["restore", str(folder), "--state", str(new)]) == 0

    assert "0 requests" in capsys.readouterr().out
    assert len(list(folder.iterdir())) == 2
    assert prefixes(f"sqlite:///{new}/gateway.sqlite") == prefixes(
        f"sqlite:///{state}/gateway.sqlite"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["backup", "{}/a.backup", "--keep", "2"], "--keep is for a folder"),
        (["backup", "{}", "--keep", "0"], "--keep is 0"),
        (["backup", "{}/no/folder/a.backup"], "can't be used"),
        (["restore", "{}"], "gateway-*.backup can't be used"),
    ],
    ids=["keep of a file", "keep none", "no folder", "nothing to restore"],
)
def test_mistake_is_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [word.format(tmp_path) for word in words]

    assert main([*asked, "--state", str(tmp_path / "state")]) == 1

    assert told in capsys.readouterr().err
