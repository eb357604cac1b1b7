"""Who asks real servers: so many who ask again at once, or people who come at random.

Comes in: targets, questions. Goes out: an Asked for each of them. Questions are cut out of files
anywhere: a machine that serves hundreds of developers has given a slot to others before the same
one asks again, so hardly anything is there to be reused.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence

from benchmarks.common.target import Target
from benchmarks.serving.questions import Asked, Question, ask
from benchmarks.serving.workload import poisson_arrivals


async def ask_always(
    target: Target, questions: Iterator[Question], num_askers: int, seconds: float
) -> list[Asked]:
    """So many under way until all that were asked within `seconds` have their answers.

    Only those are returned, so that every one of them had as many neighbours to its end.
    """
    all_asked: list[Asked] = []
    num_open = 0
    started = time.perf_counter()

    async def ask_again() -> None:
        nonlocal num_open
        while (is_counted := time.perf_counter() - started < seconds) or num_open:
            asked = Asked()
            if is_counted:
                all_asked.append(asked)
            num_open += is_counted
            await ask(target, next(questions), asked)
            num_open -= is_counted

    await asyncio.gather(*(ask_again() for _ in range(num_askers)))
    return all_asked


async def ask_at_random(
    targets: Sequence[Target],
    questions: Iterator[Question],
    per_s: float,
    seconds: float,
    seed: int,
) -> list[Asked]:
    """Poisson arrivals, each at any of the targets; all are waited for."""
    choice = random.Random(seed)
    asked: list[Asked] = []
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for due_s in poisson_arrivals(per_s, seconds, seed):
            await asyncio.sleep(started + due_s - time.perf_counter())
            asked.append(Asked())
            tasks.create_task(ask(choice.choice(targets), next(questions), asked[-1]))
    return asked
