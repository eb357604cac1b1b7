"""Measures a service curve: servers of the run's own, with so many questions always under way.

Comes in: a model repository and a Load. Goes out: a ServiceCurve of one replica, alone or beside
another one on the same machine. A replica is a Triton with its engine; the gateway in front is part
of what is measured.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.capacity.curve import Level, ServiceCurve
from benchmarks.capacity.questions import Questions, Timed, ask_always
from benchmarks.http_door import Door
from benchmarks.own_servers import running_triton, start_gateway

LEVELS = (1, 2, 4, 8, 16, 32)
SLOTS, MAX_WAITING = 32, 256  # of an engine, and of the gateway's line: both their defaults
BACKENDS = ("stable", "second")
WARM_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """Every level is measured for `seconds`, one after the other, and so again `rounds` times."""

    questions: Questions
    seconds: float = 6.0
    rounds: int = 3
    levels: tuple[int, ...] = LEVELS


@dataclass(frozen=True, slots=True)
class Servers:
    """A gateway in front of so many replicas."""

    url: str
    num_replicas: int

    def doors(self) -> list[tuple[Door, str]]:
        """One for each replica, and the model name that is answered by it alone."""
        names = BACKENDS[: self.num_replicas]
        return [(Door(self.url), f"nanotriton:{name}") for name in names]


@contextmanager
def running_servers(repository: Path, num_replicas: int) -> Iterator[Servers]:
    """That many Tritons and a gateway, for a while."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotriton-")))
        tritons = []
        for name in BACKENDS[:num_replicas]:
            (folder / name).mkdir()
            tritons.append(stack.enter_context(running_triton(repository, folder / name)))
        others = zip(BACKENDS[1:], tritons[1:], strict=False)
        words = [word for name, one in others for word in ("--backend", f"{name}={one.grpc_url}")]
        words += ["--max-running", str(SLOTS * num_replicas)]
        gateway = start_gateway(tritons[0], folder, "--open", *words)
        stack.callback(gateway.stop)
        yield Servers(gateway.url, num_replicas)


def measure_curve(servers: Servers, load: Load, progress: Callable[[str], None]) -> ServiceCurve:
    """Of one replica, all of them being asked alike; raises ValueError when one refuses."""
    return asyncio.run(_measure(servers, load, progress))


async def _measure(servers: Servers, load: Load, progress: Callable[[str], None]) -> ServiceCurve:
    rounds: dict[int, list[list[Timed]]] = {level: [] for level in load.levels}
    doors = servers.doors()
    await _ask(doors, replace(load, seconds=WARM_UP_S), load.levels[-1], 0)
    for number in range(1, load.rounds + 1):
        for level in load.levels:
            rounds[level].append(await _ask(doors, load, level, number))
        progress(f"curve of {servers.num_replicas}: round {number} of {load.rounds}")
    for door, _ in doors:
        door.close()
    alone = np.array([one.total_s for answers in rounds[load.levels[0]] for one in answers])
    levels = [_level(level, rounds[level], load, servers) for level in load.levels]
    sizes = (alone / alone.mean()).tolist()
    return ServiceCurve(tuple(levels), tuple(sizes), SLOTS, MAX_WAITING)


async def _ask(
    doors: Sequence[tuple[Door, str]], load: Load, level: int, number: int
) -> list[Timed]:
    """`level` questions under way at each replica; the answers of all."""
    asking = [
        ask_always(
            door,
            load.questions.bodies(seed=(number, level, index), model=model),
            level,
            load.seconds,
        )
        for index, (door, model) in enumerate(doors)
    ]
    answers = [one for found in await asyncio.gather(*asking) for one in found]
    if failed := [one for one in answers if one.status != 200]:
        raise ValueError(f"{len(failed)} questions failed, one with status {failed[0].status}")
    if not answers:
        raise ValueError(
            f"no answer of {level} came within {load.seconds:g} s: give more --level-seconds"
        )
    return answers


def _level(level: int, rounds: Sequence[list[Timed]], load: Load, servers: Servers) -> Level:
    seconds = load.seconds * servers.num_replicas
    rates = [len(one) / seconds for one in rounds]
    tokens = [sum(answer.num_tokens for answer in one) / seconds for one in rounds]
    answers = [answer for one in rounds for answer in one]
    totals = np.array([one.total_s for one in answers])
    return Level(
        level,
        median(rates),
        median(tokens),
        float(np.median([one.first_s for one in answers])),
        float(np.median(totals)),
        float(np.percentile(totals, 95)),
        sum(one.is_cached for one in answers) / len(answers),
        (max(rates) - min(rates)) / median(rates),
    )
