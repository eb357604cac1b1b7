"""Measures a service curve: servers of the run's own, with so many questions always under way.

Comes in: a model repository and a Load. Goes out: a ServiceCurve of one replica, alone or beside
another one on the same machine. A replica is a Triton with its engine; the gateway in front is part
of what is measured.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.capacity.askers import ask_always
from benchmarks.capacity.curve import Level, ServiceCurve
from benchmarks.common.target import HttpTarget
from benchmarks.serving.own_servers import running_triton, start_gateway
from benchmarks.serving.questions import Asked, Question
from benchmarks.serving.workload import demo_tokenizer, questions

SLOTS, MAX_WAITING = 32, 256  # of an engine, and of the gateway's line: both their defaults
BACKENDS = ("stable", "second")
Round = dict[int, list[Asked]]  # by level


@dataclass(frozen=True, slots=True)
class Load:
    """Every level is measured for `seconds`, one after the other, and so again `rounds` times."""

    files: Sequence[Sequence[int]]  # their tokens
    levels: Sequence[int]
    seconds: float
    rounds: int

    def questions(self, seed: int) -> Iterator[Question]:
        """Other ones for each seed."""
        return questions(self.files, demo_tokenizer(), str(seed))


@dataclass(frozen=True, slots=True)
class Servers:
    """A gateway in front of so many replicas."""

    url: str
    num_replicas: int

    def targets(self) -> list[HttpTarget]:
        """One for each replica, which alone answers it."""
        return [
            HttpTarget(name, self.url, settings={"model": f"nanotriton:{name}", "truncate": "left"})
            for name in BACKENDS[: self.num_replicas]
        ]


@contextmanager
def running_servers(repository: Path, num_replicas: int) -> Iterator[Servers]:
    """That many Tritons and a gateway, for a while."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotriton-")))
        tritons = []
        for name in BACKENDS[:num_replicas]:
            (folder / name).mkdir()
            tritons.append(stack.enter_context(running_triton(repository, folder / name)))
        named = zip(BACKENDS, tritons, strict=False)
        backends = [f"{name}={one.grpc_url}" for name, one in named]
        words = ["--open", "--max-running", str(SLOTS * num_replicas)]
        gateway = start_gateway(backends, folder, *words)
        stack.callback(gateway.stop)
        yield Servers(gateway.url, num_replicas)


def measure_curve(servers: Servers, load: Load, progress: Callable[[str], None]) -> ServiceCurve:
    """Of one replica, all of them being asked alike; raises ValueError when one refuses."""
    rounds = []
    for number in range(load.rounds + 1):  # the first one warms up
        rounds.append(measure_round(servers, load, number))
        progress(f"curve of {servers.num_replicas}: round {number} of {load.rounds}")
    return curve_of(rounds[1:])


def measure_round(servers: Servers, load: Load, number: int) -> Round:
    """Every level once; raises ValueError when a replica refuses."""
    return asyncio.run(_measure(servers, load, number))


def curve_of(rounds: Sequence[Round]) -> ServiceCurve:
    """What several rounds say together."""
    by_level = {level: [one[level] for one in rounds] for level in rounds[0]}
    alone = np.array(_totals(one for asked in next(iter(by_level.values())) for one in asked))
    levels = tuple(_level(level, found) for level, found in by_level.items())
    return ServiceCurve(levels, tuple((alone / alone.mean()).tolist()), SLOTS, MAX_WAITING)


async def _measure(servers: Servers, load: Load, number: int) -> Round:
    targets = servers.targets()
    try:
        return {
            level: await _ask(targets, load, level, (number * 100 + index) * 10)
            for index, level in enumerate(load.levels)
        }
    finally:
        for target in targets:
            await target.close()


async def _ask(targets: Sequence[HttpTarget], load: Load, level: int, seed: int) -> list[Asked]:
    """`level` questions under way at each replica; all that were asked."""
    asking = [
        ask_always(target, load.questions(seed + index), level, load.seconds)
        for index, target in enumerate(targets)
    ]
    asked = [one for found in await asyncio.gather(*asking) for one in found]
    if failed := [one.error for one in asked if one.error]:
        raise ValueError(f"{len(failed)} of {len(asked)} questions failed: {failed[0]}")
    return asked


def _level(level: int, rounds: Sequence[list[Asked]]) -> Level:
    """As many are under way as are asked and not answered (Little): their rate is n / mean time."""
    rates = [level / float(np.mean(_totals(one))) for one in rounds]
    asked = [one for found in rounds for one in found]
    totals = _totals(asked)
    return Level(
        level,
        median(rates),
        median(rates) * float(np.mean([one.read_tokens for one in asked])),
        float(np.median([one.first_s for one in asked if one.first_s is not None])),
        float(np.median(totals)),
        float(np.percentile(totals, 95)),
        (max(rates) - min(rates)) / median(rates),
    )


def _totals(asked: Iterable[Asked]) -> list[float]:
    return [one.total_s for one in asked if one.total_s is not None]
