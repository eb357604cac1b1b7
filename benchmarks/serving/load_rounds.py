"""Loads on several servers in turn, round after round, so that all meet the same noise.

Comes in: opened servers and what to put on them. Goes out: a Row for each server and level, with
its rounds, their medians and its ratio to the first server's. Prints nothing.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.common.ratios import Ratio, paired_ratio
from benchmarks.serving.developers import Most, find_most
from benchmarks.serving.load import Load, run_load
from benchmarks.serving.opened import Opened
from benchmarks.serving.performance import LIMIT_S, Performance

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One server at one level, `beside` those that had the same rounds.

    `speed` is the tokens a second of the first of them over its own.
    """

    target: str
    shape: str
    level: float
    rounds: tuple[Performance, ...]
    speed: Ratio | None = None
    beside: tuple[str, ...] = ()

    def median(self, figure: Callable[[Performance], float]) -> float:
        """Over the rounds; NaN where a round has none."""
        return median(figure(one) for one in self.rounds)

    @property
    def errors(self) -> dict[str, int]:
        """Of all rounds."""
        kinds = {kind for one in self.rounds for kind in one.errors}
        return {kind: sum(one.errors.get(kind, 0) for one in self.rounds) for kind in kinds}


def measure_load(
    servers: Sequence[Opened],
    load: Load,
    levels: Sequence[float],
    *,
    num_rounds: int,
    seeds: Iterator[int],
    progress: Progress,
) -> list[Row]:
    """Every server gets every level in each round, in an order that turns.

    No two seeds may be the same, here or elsewhere: a cache knows what was asked.
    """
    names = [one.name for one in servers]
    rows = []
    for level in levels:
        found: dict[str, list[Performance]] = {name: [] for name in names}
        for number in range(num_rounds):
            turn = number % len(servers)
            for server in [*servers[turn:], *servers[:turn]]:
                progress(f"{load.shape} {level:g}: {server.name}, round {number + 1}")
                own = dataclasses.replace(load, level=level, seed=next(seeds))
                found[server.name].append(run_load(server, own))
        first = [one.tokens_per_s for one in found[names[0]]]
        for name, rounds in found.items():
            rates = [one.tokens_per_s for one in rounds]
            speed = paired_ratio(first, rates) if name != names[0] and all(rates) else None
            beside = tuple(one for one in names if one != name)
            rows.append(Row(name, load.shape, level, tuple(rounds), speed, beside))
    return rows


def find_developers(
    server: Opened, load: Load, ceiling: int, max_probes: int, progress: Progress
) -> tuple[Most, list[Row]]:
    """The most people who may type at once; every probe is a Row."""
    rows: list[Row] = []

    def holds(number: int) -> bool:
        own = dataclasses.replace(load, level=number, seed=load.seed + len(rows))
        found = run_load(server, own)
        rows.append(Row(server.name, load.shape, number, (found,)))
        is_held = found.is_held(LIMIT_S)
        told = f"p95 {found.total.p95_ms:.0f} ms, goodput {found.goodput:.0%}, {found.errors or ''}"
        progress(f"{server.name}, {number} people: {told}: {'held' if is_held else 'not held'}")
        return is_held

    return find_most(holds, max(1, round(load.level)), ceiling, max_probes), rows
