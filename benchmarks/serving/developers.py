"""How many developers one machine serves: the most of them for whom an aim is still met.

Comes in: a question with the answer yes or no for so many, which costs seconds and may be wrong now
and then. Goes out: the most that held, the least that didn't, and every probe. Pure; knows nothing
of servers.
"""

from collections.abc import Callable
from dataclasses import dataclass

CLOSE_ENOUGH = 0.1  # of the most that held: a probe of seconds tells no finer


@dataclass(frozen=True, slots=True)
class Most:
    """`held` is 0 when nothing did, `failed` None when everything held."""

    held: int
    failed: int | None
    probes: tuple[tuple[int, bool], ...]


def find_most(holds: Callable[[int], bool], first: int, ceiling: int, max_probes: int) -> Most:
    """Twice as many each time until it fails, then the middle, until both ends are close."""
    held, failed = 0, None
    probes: list[tuple[int, bool]] = []
    while len(probes) < max_probes and held < ceiling:
        if failed is None:
            number = min(ceiling, max(first, 2 * held))
        elif failed - held <= max(1, CLOSE_ENOUGH * held):
            break
        else:
            number = (held + failed) // 2
        is_held = holds(number)
        probes.append((number, is_held))
        if is_held:
            held = number
        else:
            failed = number
    return Most(held, failed, tuple(probes))
