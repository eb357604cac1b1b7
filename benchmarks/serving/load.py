"""A load on a server for a while: what is asked, by whom and when; a Performance comes out.

Shapes: `closed`, so many users who each ask anew as soon as they are answered; `open`, so many
questions a second whatever becomes of them, and `burst`, the same in handfuls: their time counts
from when they should have been asked; `typing`, so many people who type. Knows nothing of which
server it is.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, get_args

from benchmarks.common.processes import cpu_by_program
from benchmarks.common.target import Target, TargetError
from benchmarks.serving.opened import Opened
from benchmarks.serving.performance import Performance, Stretch, judge
from benchmarks.serving.questions import Asked, Question, ask
from benchmarks.serving.typists import Tally, Typing, Typist
from benchmarks.serving.workload import (
    Typed,
    burst_arrivals,
    poisson_arrivals,
    questions,
)
from nanotriton.tokenizer import Tokenizer

Shape = Literal["closed", "open", "burst", "typing"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
AGAIN_S = 0.1  # after a failure; a client that asks at once would be a load of its own
ENDING_S, SETTLING_S = 30.0, 300.0


@dataclass(frozen=True, slots=True)
class Load:
    """`level` is a number of users, or of questions a second where the shape is open or burst.

    No two seeds ask the same, so no cache of a run knows what the next one asks.
    """

    shape: Shape
    level: float
    seconds: float
    warm_s: float
    seed: int
    files: Sequence[Sequence[int]]  # tokens that questions are cut out of
    texts: Sequence[Typed]
    tokenizer: Tokenizer  # of those tokens
    max_tokens: int = 24  # of typing
    debounce_s: float = 0.2


def run_load(opened: Opened, load: Load) -> Performance:
    """Put one server under the load."""
    before = opened.written() if opened.written else None
    stretch = asyncio.run(_run(opened, load))
    if opened.written and before is not None:
        stretch.written_tokens = opened.written() - before
    return judge(stretch)


async def _run(opened: Opened, load: Load) -> Stretch:
    """The load's stretch; afterwards the server is idle."""
    target = opened.connect(load.shape != "typing")
    try:
        stretch = await _ask_for_a_while(opened, target, load)
        if not opened.written:
            await _settle(target)
    finally:
        await target.close()
    return stretch


async def _ask_for_a_while(opened: Opened, target: Target, load: Load) -> Stretch:
    stretch = Stretch()
    tasks = [asyncio.create_task(one) for one in _people(opened, target, load, stretch.asked)]
    try:
        await _wait(tasks, load.warm_s)
        stretch.begin()
        cpu_before, own_before = cpu_by_program(opened.pids), time.process_time()
        await _wait(tasks, load.seconds)
        stretch.close()
        stretch.cpu_by_program = {
            name: seconds - cpu_before.get(name, 0.0)
            for name, seconds in cpu_by_program(opened.pids).items()
        }
        stretch.asking_cpu_s = time.process_time() - own_before
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=ENDING_S)
    return stretch


async def _settle(target: Target) -> None:
    """Until what was left is out of the server's way: some can't give up what they began."""
    try:
        async with asyncio.timeout(SETTLING_S):
            async with aclosing(target.complete("def", 1)) as pieces:
                async for _ in pieces:
                    pass
    except (TimeoutError, TargetError):
        return  # the next stretch tells


async def _wait(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Let them work; raises what one of them raised."""
    until = time.perf_counter() + seconds
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
    await asyncio.sleep(until - time.perf_counter())


def _people(
    opened: Opened, target: Target, load: Load, asked: list[Asked]
) -> Iterator[Coroutine[None, None, None]]:
    if load.shape == "typing":
        tally = Tally(asked)
        typing = Typing(
            round(load.level), load.seconds, load.max_tokens, load.debounce_s, load.texts, load.seed
        )
        starts = random.Random(load.seed)
        for number in range(typing.num_users):
            name = f"typist-{load.seed}.{number}"
            typist = Typist(number, opened.edit(name, target), typing, tally)
            yield typist.type(starts.uniform(0, load.warm_s))
    elif load.shape == "closed":
        for number in range(round(load.level)):
            yield _ask_on(target, _own_questions(load, number), asked)
    else:
        yield _ask_as_they_come(target, load, asked)


def _own_questions(load: Load, number: int) -> Iterator[Question]:
    return questions(load.files, load.tokenizer, f"{load.seed}.{number}")


async def _ask_on(target: Target, own: Iterator[Question], asked: list[Asked]) -> None:
    """One question after the other."""
    for question in own:
        one = Asked()
        asked.append(one)
        await ask(target, question, one)
        if one.error:
            await asyncio.sleep(AGAIN_S)


async def _ask_as_they_come(target: Target, load: Load, asked: list[Asked]) -> None:
    """A question at each arrival, whatever became of those before."""
    arrivals: Callable[[float, float, int], Iterator[float]] = (
        burst_arrivals if load.shape == "burst" else poisson_arrivals
    )
    started = time.perf_counter()
    come = arrivals(load.level, load.warm_s + load.seconds, load.seed)
    async with asyncio.TaskGroup() as group:
        for at_s, question in zip(come, _own_questions(load, 0), strict=False):
            await asyncio.sleep(started + at_s - time.perf_counter())
            one = Asked(asked_s=started + at_s)
            asked.append(one)
            group.create_task(ask(target, question, one))
