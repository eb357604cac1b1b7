"""Many people type real code through a gateway: what they wait for, and whether all is booked.

Comes in: a model repository, or a gateway that runs already. Goes out: Figures of each stretch of
typing, with Books where the servers are the run's own. With `is_killed` the gateway is killed in
the middle of the typing and started again: a stretch before and one after.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.http_door import Door
from benchmarks.serving.books import Books, Kept, close_books
from benchmarks.serving.editors import GatewayEditor
from benchmarks.serving.own_servers import (
    Gateway,
    Triton,
    create_key,
    running_triton,
    start_gateway,
)
from benchmarks.serving.performance import Spread
from benchmarks.serving.questions import ENGINE
from benchmarks.serving.typists import Tally, Typing, Typist

NUM_KEYS = 8  # teams; their typists share caches
LEAVING_S = 40.0  # for the last answers


@dataclass(frozen=True, slots=True)
class Figures:
    """One stretch of typing, as the typists saw it."""

    stretch: str
    num_asked: int
    sources: Mapping[str, int]  # of whole answers: the engine, or which cache
    num_left: int
    num_superseded: int
    num_events: int  # acknowledged
    errors: Mapping[str, int]
    first: Spread  # from the engine
    total: Spread
    cached: Spread
    books: Books | None = None


def type_at(url: str, key: str | None, typing: Typing) -> Figures:
    """Type at a gateway that runs already; its books are its own."""
    tally = Tally()
    asyncio.run(_type(url, [key], typing, tally))
    return _figures("typing", tally)


def type_at_own(repository: Path, typing: Typing, *, is_killed: bool) -> list[Figures]:
    """Type at servers of the run's own; a stretch before a kill and one after it, or one alone."""
    with tempfile.TemporaryDirectory() as name, running_triton(repository, Path(name)) as triton:
        run = _Run(Path(name), triton, typing)
        try:
            if not is_killed:
                return [run.stretch("typing", end=run.stop)]
            return [
                run.stretch("until the kill", end=run.kill, is_cut=True),
                run.stretch("after it", end=run.stop),
            ]
        finally:
            run.gateway.kill()


class _Run:
    """One gateway's life, with its books closed after each stretch."""

    def __init__(self, folder: Path, triton: Triton, typing: Typing) -> None:
        self._folder = folder
        self._triton = triton
        self._typing = typing
        self._keys = [create_key(folder, f"team {number}") for number in range(NUM_KEYS)]
        self.gateway: Gateway = start_gateway([triton.grpc_url], folder)
        self._counters = triton.settled_counters()
        self._kept = Kept.read(folder)

    def stretch(self, name: str, *, end: Callable[[], None], is_cut: bool = False) -> Figures:
        """Type, and end the gateway: in the middle of it, or once all have their answers."""
        tally, started = Tally(), time.monotonic()
        cut = self.gateway.kill if is_cut else None
        asyncio.run(_type(self.gateway.url, self._keys, self._typing, tally, cut))
        end()
        counters, kept = self._triton.settled_counters(), Kept.read(self._folder)
        books = close_books(
            tally,
            (self._kept, kept),
            (self._counters, counters),
            seconds=time.monotonic() - started,
            max_tokens=self._typing.max_tokens,
        )
        self._counters, self._kept = counters, kept
        return _figures(name, tally, books)

    def stop(self) -> None:
        """In good order."""
        self.gateway.stop()

    def kill(self) -> None:
        """It was killed; the next one books what it left while the counters settle."""
        self.gateway = start_gateway([self._triton.grpc_url], self._folder)


async def _type(
    url: str,
    keys: Sequence[str | None],
    typing: Typing,
    tally: Tally,
    cut: Callable[[], None] | None = None,
) -> None:
    """Let all type; `cut` ends their gateway before they stop."""
    typists = [
        Typist(number, GatewayEditor(f"typist-{number}", Door(url, key)), typing, tally)
        for number, key in zip(range(typing.num_users), itertools.cycle(keys), strict=False)
    ]
    tasks = [asyncio.create_task(typist.type()) for typist in typists]
    done, _ = await asyncio.wait(tasks, timeout=typing.seconds, return_when="FIRST_COMPLETED")
    if cut:
        tally.is_cut = True
        cut()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=LEAVING_S)
    for task in done:  # typing never ends by itself
        with suppress(asyncio.CancelledError):
            task.result()


def _figures(name: str, tally: Tally, books: Books | None = None) -> Figures:
    whole = tally.whole
    sources = {one.source for one in whole}
    of_engine = [one for one in whole if one.source == ENGINE]
    return Figures(
        name,
        len(tally.asked),
        {source: sum(one.source == source for one in whole) for source in sorted(sources)},
        tally.num_left,
        tally.num_superseded,
        len(tally.events),
        dict(tally.errors),
        Spread.of(one.first_s for one in of_engine),
        Spread.of(one.total_s for one in of_engine),
        Spread.of(one.total_s for one in whole if one.source != ENGINE),
        books,
    )
