"""What people notice when servers die, are replaced or take another version while all of them ask.

Comes in: a model repository, a crowd, scenarios. Goes out: for each an Outage: how many requests
were lost, how many were told to come again, and what the others waited for, before and meanwhile.
Everything is real: nginx, two gateways, two Tritons with their engines. A request is "on" the part
that was killed when the ledger says that it was begun there and its first text had come: nobody
else can go on with it.
"""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from benchmarks.resilience.fleet import Fleet, running_fleet
from benchmarks.resilience.people import Asked, Crowd, asking

SETTLING_S = 5.0  # after the deed, that its last consequences are seen
LEDGER_S = 1.0  # the ledger is drained five times a second


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done; `victim` is the server that went with all that was on it."""

    told: str
    victim: str = ""


@dataclass(frozen=True, slots=True)
class Outage:
    """One scenario. Times are of whole answers, milliseconds; the gap is between two of them.

    `num_broken` were on the victim and were told to come again, `num_told` were refused in the same
    words and on nothing, `num_lost` got anything else. `num_again` of both asked once more and had
    their answer.
    """

    scenario: str
    told: str
    seconds: float
    num_asked: int
    num_whole: int
    num_broken: int
    num_again: int
    num_told: int
    num_lost: int
    before_p50_ms: float
    before_p99_ms: float
    p50_ms: float
    p99_ms: float
    longest_gap_s: float
    errors: tuple[str, ...]

    @property
    def num_failed(self) -> int:
        """Requests that had no right to fail."""
        return self.num_told + self.num_lost

    @property
    def p99_ratio(self) -> float:
        """To the steady one of just before."""
        return self.p99_ms / self.before_p99_ms


def kill_server(fleet: Fleet) -> Deed:
    """As when a machine is lost."""
    fleet.servers[0].kill()
    return Deed("one of two servers", victim=fleet.servers[0].name)


def replace_servers(fleet: Fleet) -> Deed:
    """One after the other: SIGTERM, wait for what runs, start, wait for the first completion."""
    drained = []
    for one in fleet.servers:
        drained.append(one.stop())
        fleet.mend()
    return Deed(f"drained in {_seconds(drained)}")


def replace_gateways(fleet: Fleet) -> Deed:
    """The same of the gateways."""
    drained = []
    for one in fleet.gateways:
        drained.append(one.stop())
        fleet.mend()
    return Deed(f"drained in {_seconds(drained)}")


def swap_version(fleet: Fleet) -> Deed:
    """The newest version once more under the next number, loaded by one server after the other."""
    version = fleet.publish().name
    took = []
    for one in fleet.servers:
        began = time.monotonic()
        one.load()
        took.append(time.monotonic() - began)
    return Deed(f"version {version} loaded in {_seconds(took)}")


def do_nothing(_: Fleet) -> Deed:
    """What the others are held against."""
    return Deed("nothing")


SCENARIOS: Mapping[str, Callable[[Fleet], Deed]] = MappingProxyType(
    {
        "steady": do_nothing,
        "kill-server": kill_server,
        "replace-servers": replace_servers,
        "replace-gateways": replace_gateways,
        "swap-version": swap_version,
    }
)


def measure_failover(
    repository: Path, crowd: Crowd, names: Sequence[str], seconds: float
) -> list[Outage]:
    """Each scenario in turn, on one fleet that is mended between them."""
    with (
        tempfile.TemporaryDirectory(prefix="failover-") as folder,
        running_fleet(repository, Path(folder)) as fleet,
    ):
        outages = []
        for name in names:
            fleet.mend()
            outages.append(_live_through(fleet, crowd, name, seconds))
        return outages


def _live_through(fleet: Fleet, crowd: Crowd, name: str, seconds: float) -> Outage:
    """Some steady seconds, the deed, and some seconds after it, while all ask."""
    with asking(fleet.url, fleet.key, crowd) as tally:
        time.sleep(seconds)
        began = time.monotonic()
        deed = SCENARIOS[name](fleet)
        ended = time.monotonic()
        time.sleep(SETTLING_S)
    time.sleep(LEDGER_S)
    return judge(name, deed, tally.asked, _backends(fleet.folder), (began, ended))


def judge(
    name: str,
    deed: Deed,
    asked: Sequence[Asked],
    backends: Mapping[str, str],
    moments: tuple[float, float],
) -> Outage:
    """What a tally says; `backends` is who was asked for a request, `moments` those of the deed."""
    began, ended = moments
    broken = [one for one in asked if one.outcome == "told" and _is_on(one, deed, backends)]
    told = [one for one in asked if one.outcome == "told" and not _is_on(one, deed, backends)]
    lost = [one for one in asked if one.outcome == "lost"]
    whole = [one for one in asked if one.outcome == "whole"]
    before = [one.took_s for one in whole if one.ended < began]
    # With what went on a little longer: a breaker opens, a version warms up.
    meanwhile = [one for one in whole if began <= one.ended and one.began < ended + SETTLING_S]
    before_p50, before_p99 = _percentiles(before)
    p50, p99 = _percentiles([one.took_s for one in meanwhile])
    ends = sorted([began, *(one.ended for one in meanwhile)])
    return Outage(
        name,
        deed.told,
        ended - began,
        len(asked),
        len(whole),
        len(broken),
        sum(one.is_retry for one in whole),
        len(told),
        len(lost),
        *(before_p50, before_p99, p50, p99),
        longest_gap_s=max(np.diff(ends), default=0.0),
        errors=tuple(sorted({one.error for one in (*told, *lost)})),
    )


def _is_on(one: Asked, deed: Deed, backends: Mapping[str, str]) -> bool:
    return bool(deed.victim) and backends.get(one.id) == deed.victim


def _backends(folder: Path) -> dict[str, str]:
    """Which server each request was asked of last, as the ledger has it."""
    path = folder / "state" / "gateway.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT id, backend FROM usage").fetchall())


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Milliseconds: the median and p99."""
    if not seconds:
        return float("nan"), float("nan")
    median, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return float(median), float(p99)


def _seconds(times: Sequence[float]) -> str:
    return " and ".join(f"{one:.1f}" for one in times) + " s"
