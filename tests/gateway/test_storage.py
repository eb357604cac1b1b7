"""Tables, migrations and what happens when the database is lost, on both databases."""

import multiprocessing
import sqlite3
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres import Postgres
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, StatementError

from gateway.errors import ConfigError, Unavailable
from gateway.storage import Database
from gateway.storage.tables import AuditRow, EventRow, RoutesRow, Table

NOW = datetime(2026, 11, 21, 18, 30, tzinfo=timezone.utc)
SPAWN = multiprocessing.get_context("spawn")


def audit(**values: object) -> AuditRow:
    return AuditRow(**{"at": NOW, "key_prefix": "nt_ab12cd34", "action": "test", **values})


def upgrade(url: str) -> None:
    Database(url).upgrade()


def test_migrations_build_exactly_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []


def test_processes_that_upgrade_at_once_all_succeed(database_url: str) -> None:
    processes = [SPAWN.Process(target=upgrade, args=(database_url,)) for _ in range(3)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(timeout=60)

    assert [one.exitcode for one in processes] == [0, 0, 0]
    database = Database(database_url)
    with database.session() as session:
        assert session.scalars(text("SELECT version_num FROM alembic_version")).all() == ["0001"]
    database.close()


def test_upgrading_again_keeps_what_is_there(database: Database) -> None:
    with database.session() as session:
        session.add(audit(before=None, after={"weight": 1}))

    database.upgrade()

    with database.session(read_only=True) as session:
        assert session.scalars(select(AuditRow.after)).all() == [{"weight": 1}]


def test_database_of_a_newer_gateway_is_refused(database: Database) -> None:
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigError, match="another gateway"):
        database.upgrade()


def test_failed_session_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.session() as session:
            session.add(audit())
            session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    with database.session() as session:
        assert session.scalars(select(AuditRow)).all() == []


def test_read_only_session_changes_nothing(database: Database) -> None:
    with database.session(read_only=True) as session:
        session.add(audit())

    with database.session() as session:
        assert session.scalars(select(AuditRow)).all() == []


def test_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.session() as writer:
        writer.add(audit())
        writer.flush()
        with database.session(read_only=True) as reader:
            assert reader.scalars(select(AuditRow)).all() == []


def test_moment_comes_back_in_utc(database: Database) -> None:
    with database.session() as session:
        session.add(audit(at=NOW.astimezone(timezone(timedelta(hours=5)))))

    with database.session(read_only=True) as session:
        at = session.scalars(select(AuditRow.at)).one()
    assert (at, at.tzinfo) == (NOW, timezone.utc)


def test_moment_without_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="no time zone"), database.session() as session:
        session.add(audit(at=NOW.replace(tzinfo=None)))


@pytest.mark.parametrize(
    "row",
    [
        lambda: EventRow(request_id="cmpl-1", kind="shown", at=NOW, key_id="a"),
        lambda: RoutesRow(version=1, document={}, changed=NOW, key_prefix="a"),
    ],
    ids=["event", "routes"],
)
def test_same_row_twice_is_refused(database: Database, row) -> None:
    with database.session() as session:
        session.add(row())

    with pytest.raises(IntegrityError), database.session() as session:
        session.add(row())


def test_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/gateway.sqlite")
    database.upgrade()
    with database.session():
        modes = {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}

    assert modes == {0o600}
    database.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////nowhere/gateway.sqlite", "can't be opened"),
        ("mysql://root:hunter2@db/gateway", "speaks sqlite and postgresql"),
        ("postgresql://me:hunter2@db:port/x", "can't be read"),
        ("hunter2", "can't be read"),
    ],
)
def test_url_that_can_not_be_used_is_refused_without_its_password(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        Database(url)
    assert "hunter2" not in raised.value.message


def test_locked_sqlite_file_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/gateway.sqlite")
    database.upgrade()
    holder = sqlite3.connect(tmp_path / "gateway.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    with pytest.raises(Unavailable, match="does not answer"), database.session():
        pass

    holder.close()
    database.close()


def test_lost_postgres_is_unavailable_until_it_is_back(fragile_postgres: Postgres) -> None:
    database = Database(fragile_postgres.new_url())
    database.upgrade()
    fragile_postgres.kill()
    with pytest.raises(Unavailable) as raised, database.session():
        pass
    assert raised.value.retry_after_s

    fragile_postgres.restart()

    with database.session() as session:
        session.add(audit())
    database.close()


def test_postgres_lost_inside_a_session_is_unavailable(fragile_postgres: Postgres) -> None:
    database = Database(fragile_postgres.new_url())
    database.upgrade()

    def lose_it() -> None:
        with database.session() as session:
            fragile_postgres.kill()
            session.add(audit())

    with pytest.raises(Unavailable):
        lose_it()
    database.close()
