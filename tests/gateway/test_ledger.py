"""Every request stands in the ledger once, whatever is killed, full or gone meanwhile."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres import Postgres
from running import ROOT, wait_until

from gateway.account.journal import Journal
from gateway.account.ledger import JOURNALS, Ledger
from gateway.errors import ConfigError, Unavailable
from gateway.storage import Database
from tests.gateway import booking
from tests.gateway.booking import begun, booked, finished


@pytest.fixture
def ledger(database: Database, tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(database, tmp_path)
    yield opened
    opened.close()


def files(state: Path) -> list[Path]:
    return sorted((state / JOURNALS).glob("*.jsonl"))


def test_finished_request_reaches_the_database_by_itself(
    ledger: Ledger, database: Database
) -> None:
    ledger.begin(begun("a"))
    ledger.finish(finished("a", completion_tokens=9))
    wait_until(lambda: booked(database) == {"a": ("ok", 9)}, 5)


def test_request_under_way_is_in_the_journal_alone(ledger: Ledger, database: Database) -> None:
    ledger.begin(begun("a", key_id="mine"))
    ledger.flush()
    assert booked(database) == {}
    assert ledger.is_open("a", "mine")
    assert not ledger.is_open("a", "another")
    ledger.finish(finished("a"))
    assert not ledger.is_open("a", "mine")


def test_row_that_comes_twice_counts_once(ledger: Ledger, database: Database) -> None:
    for _ in range(2):
        ledger.finish(finished("a"))
        ledger.flush()
    assert booked(database) == {"a": ("ok", 7)}


@pytest.mark.parametrize(
    "key_id", ["'; DROP TABLE usage; --", "a\0b", "a\ud800b", "a\nb", "ü🙂"],
    ids=["sql", "nul", "surrogate", "newline", "unicode"],
)  # fmt: skip
def test_any_text_can_be_booked(ledger: Ledger, database: Database, key_id: str) -> None:
    ledger.finish(finished("a", key_id=key_id))
    ledger.finish(finished("b"))
    ledger.flush()
    assert booked(database) == {"a": ("ok", 7), "b": ("ok", 7)}


def test_row_that_the_database_refuses_holds_up_no_other(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    ledger.finish(finished("a"))
    ledger.finish(finished("b", cost_micros=2**70))
    ledger.finish(finished("c"))
    ledger.flush()
    assert sorted(booked(database)) == ["a", "c"]
    assert '"id": "b"' in (tmp_path / JOURNALS / "refused.txt").read_text()


def test_journal_is_trimmed_and_keeps_what_is_under_way(tmp_path: Path) -> None:
    journal = Journal(tmp_path, trim_bytes=2000)
    journal.begin(begun("long"))
    for number in range(100):
        journal.begin(begun(str(number)))
        journal.finish(finished(str(number)))
        journal.drained(journal.unread(10**6))
    (file,) = tmp_path.glob("*.jsonl")
    assert file.stat().st_size < 4000
    assert b'"id": "long"' in file.read_bytes()
    journal.finish(finished("long"))
    journal.drained(journal.unread(10**6))
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_living_gateways_files_are_left_alone(database: Database, tmp_path: Path) -> None:
    living = Journal(tmp_path / JOURNALS)
    living.begin(begun("a"))
    Ledger(database, tmp_path).close()
    assert booked(database) == {}
    assert len(files(tmp_path)) == 1
    living.close()
    Ledger(database, tmp_path).close()
    assert booked(database) == {"a": ("interrupted", 0)}
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "damage", [b'{"id": "x", "key', b"\xff\xfe\n", b"[]\n", b"\n\n"],
    ids=["torn", "garbage", "no row", "empty"],
)  # fmt: skip
def test_damaged_lines_cost_themselves_alone(
    database: Database, tmp_path: Path, damage: bytes
) -> None:
    dead = Journal(tmp_path / JOURNALS)
    dead.finish(finished("a"))
    dead.begin(begun("b"))
    dead.close()
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes() + damage)
    Ledger(database, tmp_path).close()
    assert booked(database) == {"a": ("ok", 7), "b": ("interrupted", 0)}


def test_interrupted_row_never_takes_the_place_of_a_finished_one(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    ledger.finish(finished("a"))
    ledger.flush()
    dead = Journal(tmp_path / JOURNALS)
    dead.begin(begun("a"))
    dead.close()
    Ledger(database, tmp_path).close()
    assert booked(database) == {"a": ("ok", 7)}


def kill_in_mid_load(state: Path, url: str, seed: int, after_s: float) -> tuple[set[str], set[str]]:
    """Ids that a killed process said it had begun, and had finished."""
    words = [sys.executable, booking.__file__, str(state), url, str(seed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        said = [line.split() for line in (first + process.stdout.read()).splitlines()]
    whole = [words for words in said if len(words) == 2]
    return ({name for word, name in whole if word == kind} for kind in "bf")  # type: ignore[return-value]


def test_killed_gateways_lose_nothing_and_count_nothing_twice(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    draw = random.Random(11)
    all_begun: set[str] = set()
    all_finished: set[str] = set()
    for seed in range(6):
        one_begun, one_finished = kill_in_mid_load(
            tmp_path, database_url, seed, draw.uniform(0, 0.6)
        )
        all_begun |= one_begun
        all_finished |= one_finished
    Ledger(database, tmp_path).close()

    found = booked(database)
    assert files(tmp_path) == []
    assert all_begun <= found.keys()
    # The last word of a process may have been cut off before it was said: one begin and one finish.
    assert len(found.keys() - all_begun) <= 6
    for name in all_finished:
        assert found[name] == ("ok", int(name.split("-")[1]) % 97)
    interrupted = {name for name, (outcome, _) in found.items() if outcome == "interrupted"}
    assert not interrupted & all_finished
    assert len(found) - len(interrupted) - len(all_finished) <= 6


def test_journal_grows_while_the_database_is_gone(
    fragile_postgres: Postgres, tmp_path: Path
) -> None:
    database = Database(fragile_postgres.new_url())
    database.upgrade()
    ledger = Ledger(database, tmp_path)
    ledger.finish(finished("before"))
    ledger.flush()
    fragile_postgres.kill()
    ledger.finish(finished("meanwhile"))
    with pytest.raises(Unavailable):
        ledger.flush()
    ledger.check()
    fragile_postgres.restart()
    wait_until(lambda: ledger.num_unread_bytes == 0, 20)
    assert sorted(booked(database)) == ["before", "meanwhile"]
    ledger.close()
    database.close()


def test_gateway_starts_without_its_database_and_recovers_later(
    fragile_postgres: Postgres, tmp_path: Path
) -> None:
    database = Database(fragile_postgres.new_url())
    database.upgrade()
    dead = Journal(tmp_path / JOURNALS)
    dead.finish(finished("a"))
    dead.close()
    fragile_postgres.kill()
    ledger = Ledger(database, tmp_path)
    ledger.finish(finished("b"))
    fragile_postgres.restart()
    wait_until(lambda: ledger.num_unread_bytes == 0, 20)
    assert sorted(booked(database)) == ["a", "b"]
    ledger.close()
    database.close()


def fill(folder: Path) -> Path:
    """Take all room of a file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def test_full_disk_refuses_new_work_and_loses_no_finished_one(
    small_disk: Callable[..., Path], database: Database
) -> None:
    disk = small_disk(1)
    ledger = Ledger(database, disk)
    names = [f"{number}" for number in range(40)]
    for name in names:
        ledger.begin(begun(name))
    filler = fill(disk)
    for name in names:  # more than what is left of the last block
        ledger.finish(finished(name))
    with pytest.raises(Unavailable, match="No space left"):
        ledger.check()
    with pytest.raises(Unavailable, match="No space left"):
        ledger.begin(begun("new"))

    filler.unlink()
    ledger.check()
    ledger.begin(begun("new"))
    ledger.finish(finished("new"))
    ledger.close()
    assert booked(database) == dict.fromkeys([*names, "new"], ("ok", 7))


def test_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / JOURNALS).write_text("a file")
    with pytest.raises(ConfigError, match="--state"):
        Journal(tmp_path / JOURNALS)
