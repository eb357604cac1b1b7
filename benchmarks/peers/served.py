"""The measurement of servers: each peer against ours, window by window, one peer at a time.

Comes in: services, a checkpoint, how many users for how long. Goes out: what each gave in every
round. Ours stay open beside the peer, idle in its windows, so that each round has the gateway,
Triton and the peer within a minute, in an order that turns.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.catalogue import PeerError, Service
from benchmarks.peers.closed_loop import MAX_TOKENS, Ask, Window, ask_for, draw_asks
from benchmarks.peers.own_service import OwnService, prepare, running_service
from benchmarks.peers.servers import Premises, RunningServer
from benchmarks.random_model import write_checkpoint
from nanotriton.manifest import newest_version
from nanotriton.tokenizer import load_tokenizer

WARM_UP_S = 3.0


@dataclass(frozen=True, slots=True)
class Course:
    """How it is measured; no further round begins that would end after `max_s` of a peer."""

    users: Sequence[int]
    window_s: float
    num_rounds: int
    max_s: float


@dataclass(slots=True)
class Match:
    """One peer against ours: windows by number of users and target, round by round."""

    name: str
    windows: dict[int, dict[str, list[Window]]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    error: str = ""


def measure_served(
    services: Sequence[Service],
    checkpoint: Path | None,
    texts: Sequence[str],
    course: Course,
    *,
    venvs: Path,
    work: Path | None,
    num_threads: int,
    progress: Callable[[str], None],
) -> list[Match]:
    """Measure these on a Hugging Face GPT-2 folder, or on random weights in GPT-2's size.

    A peer that can't be started or asked has its error. Raises PeerError when ours can't be.
    """
    with ExitStack() as stack:
        if work is None:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotriton-peers-"))
            work = Path(name)
        settings = {"threads": str(num_threads)}
        if checkpoint is None:
            checkpoint = work / "checkpoint"
            if not checkpoint.is_dir():
                write_checkpoint(checkpoint)
            settings["speculation"] = "off"  # random weights repeat themselves: it would flatter
        repository = prepare(checkpoint, work / "ours", settings)
        premises = Premises(
            checkpoint, newest_version(repository), venvs, work, num_threads, MAX_TOKENS
        )
        ours = stack.enter_context(running_service(repository, work / "ours"))
        progress("ours: ready")
        asks = draw_asks(texts, load_tokenizer(premises.tokenizer), seed=0)
        matches = []
        for service in services:
            matches.append(_match(service, premises, ours, asks, course))
            progress(f"{service.name}: {matches[-1].error or 'measured'}")
    return matches


def _match(
    service: Service, premises: Premises, ours: OwnService, asks: Iterator[Ask], course: Course
) -> Match:
    try:
        peer = RunningServer(service, premises)
    except PeerError as error:
        return Match(service.name, error=str(error))
    match = Match(service.name, versions=peer.versions)
    try:
        asyncio.run(_play(match, ours, peer, asks, course))
    finally:
        peer.stop()
    return match


async def _play(
    match: Match, ours: OwnService, peer: RunningServer, asks: Iterator[Ask], course: Course
) -> None:
    targets = [*ours.open_targets(), peer.open_target(ignore_eos=True)]
    try:
        for target in targets:
            await ask_for(target, asks, min(course.users), WARM_UP_S)
        match.windows = {num: {one.name: [] for one in targets} for num in course.users}
        started_s, longest_s = time.monotonic(), 0.0
        for number in range(course.num_rounds):
            began_s = time.monotonic()
            if number and began_s - started_s + longest_s > course.max_s:
                break
            turn = number % len(targets)
            for num_users, found in match.windows.items():
                for target in targets[turn:] + targets[:turn]:
                    window = await ask_for(target, asks, num_users, course.window_s)
                    found[target.name].append(window)
            longest_s = max(longest_s, time.monotonic() - began_s)
    finally:
        for target in targets:
            await target.close()
