"""A drill for the loss of a place: how long until the standby answers, and which accounts are gone.

    people ─▶ nginx ─▶ primary: gateway, its database, server     killed, its files removed
                  └──▶ standby: a server that runs; its gateway starts on the restored database

Comes in: a model repository, a crowd, how often the primary's database is backed up. Goes out: a
Lost. Backups lie elsewhere, as they should, and are what `python -m gateway backup` makes; the
drill acts at once, so the time until somebody notices comes on top. A database that was given by
its URL is not killed: after the loss nobody asks it again.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from benchmarks.resilience.fleet import Door, Server, start_all
from benchmarks.resilience.front import running_front
from benchmarks.resilience.people import Asked, Crowd, Tally, asking
from benchmarks.serving.own_servers import create_key, run

DRAINED_S = 2.0  # the ledger is drained five times a second; a busy machine takes its time
AFTER_S = 5.0
ANSWER_TIMEOUT_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """When the primary goes, how often it is backed up, and both databases unless SQLite's."""

    seconds: float
    backup_every_s: float
    databases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """What the loss cost; `steps` are seconds, `faults` what a drill must not find."""

    database: str
    steps: Mapping[str, float]
    rto_s: float
    rpo_s: float
    num_answered: int
    num_lost_rows: int
    num_failed: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backup:
    """A file, and when its making began."""

    began: float
    file: Path


class Place:
    """A server and a gateway with a database of its own."""

    def __init__(self, name: str, repository: Path, folder: Path, database: str | None) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.url = database or f"sqlite:///{self.folder}/state/gateway.sqlite"
        self.where = ["--database", database] if database else []
        self.server = Server(name, repository, self.folder)
        self.gateway = Door(name, [self.server.backend], self.folder, *self.where)

    def gateway_command(self, *words: str) -> str:
        """What a command on this place's database prints."""
        return run("-m", "gateway", *words, "--state", str(self.folder / "state"), *self.where)

    def lose(self) -> None:
        """Everything at once, the files too."""
        self.server.kill()
        self.gateway.kill()
        shutil.rmtree(self.folder / "state")

    def booked(self) -> set[str]:
        """Ids of the requests in its ledger."""
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                return set(connection.scalars(text("SELECT id FROM usage")))
        finally:
            engine.dispose()

    def stop(self) -> None:
        """What still runs."""
        self.gateway.stop()
        self.server.stop()


def measure_drill(repository: Path, crowd: Crowd, plan: Plan) -> Lost:
    """Raises ValueError when a place can't be started or no backup was made in time."""
    databases = plan.databases or (None, None)
    with tempfile.TemporaryDirectory(prefix="drill-") as name, ExitStack() as stack:
        folder = Path(name)
        places = [
            Place(name, repository, folder, database)
            for name, database in zip(("primary", "standby"), databases, strict=True)
        ]
        primary, standby = places
        for one in places:
            stack.callback(one.stop)
        key = create_key(primary.folder, "people", *primary.where)
        start_all(primary.server, primary.gateway, standby.server)
        ports = (primary.gateway.port,)
        url = stack.enter_context(running_front(ports, folder / "nginx", standby.gateway.port))
        with asking(url, key, crowd) as tally, _backing_up(primary, plan, folder) as backups:
            time.sleep(plan.seconds)
            return _lose_and_recover(primary, standby, tally, backups)


def _lose_and_recover(
    primary: Place, standby: Place, tally: Tally, backups: Sequence[Backup]
) -> Lost:
    if not backups:
        raise ValueError("no backup was whole when the primary went")
    lost_at = time.monotonic()
    primary.lose()
    moments = {"primary gone": time.monotonic()}
    newest = backups[-1]
    standby.gateway_command("restore", str(newest.file))
    moments["ledger restored"] = time.monotonic()
    standby.gateway.start()
    moments["gateway listens"] = time.monotonic()
    answered_at = _first_answer(tally, lost_at)
    moments["first answer"] = answered_at or time.monotonic()
    time.sleep(AFTER_S)
    asked = [*tally.asked]
    answered = [one for one in asked if one.outcome == "whole" and one.ended < lost_at]
    booked = standby.booked()
    gone = [one for one in answered if one.id not in booked]
    return Lost(
        primary.url.partition(":")[0],
        _lengths(lost_at, moments),
        moments["first answer"] - lost_at,
        lost_at - newest.began,
        len(answered),
        len(gone),
        sum(one.outcome != "whole" for one in asked if one.ended >= lost_at),
        tuple(faults_of(asked, gone, newest.began, answered_at)),
    )


def faults_of(
    asked: Sequence[Asked], gone: Sequence[Asked], backed_up: float, answered_at: float | None
) -> list[str]:
    """What a drill must not find."""
    faults = []
    if old := [one for one in gone if one.ended < backed_up - DRAINED_S]:
        faults.append(f"{len(old)} requests were booked before the backup and aren't in it")
    if answered_at is None:
        return [*faults, f"the standby gave no answer within {ANSWER_TIMEOUT_S:g} s"]
    # Those that were turned away just then come back a second later.
    late = [one for one in asked if one.began > answered_at and one.outcome != "whole"]
    if late:
        faults.append(f"{len(late)} requests failed after the standby's first answer: {late[0]}")
    return faults


def _first_answer(tally: Tally, after: float) -> float | None:
    """When somebody first had a whole answer to what was asked after that moment."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < deadline:
        asked = [one for one in [*tally.asked] if one.began > after]
        if whole := [one.ended for one in asked if one.outcome == "whole"]:
            return min(whole)
        time.sleep(POLL_S)
    return None


def _lengths(since: float, moments: Mapping[str, float]) -> dict[str, float]:
    lengths = {}
    for name, moment in moments.items():
        lengths[name] = max(0.0, moment - since)
        since = moment
    return lengths


@contextmanager
def _backing_up(place: Place, plan: Plan, folder: Path) -> Iterator[list[Backup]]:
    """Backups one after the other, as a schedule makes them; the list holds the whole ones."""
    backups: list[Backup] = []
    failures: list[str] = []
    stopping = threading.Event()

    def make() -> None:
        while not stopping.wait(plan.backup_every_s):
            one = Backup(time.monotonic(), folder / f"{len(backups)}.backup")
            try:
                place.gateway_command("backup", str(one.file))
            except ValueError as error:
                failures.append(str(error))  # the last one may: the place is lost meanwhile
            else:
                backups.append(one)

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield backups
    finally:
        stopping.set()
        thread.join()
        if not backups:
            raise ValueError(f"no backup was whole in {plan.seconds:g} s: {failures or 'too slow'}")
