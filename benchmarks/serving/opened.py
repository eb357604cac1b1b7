"""Servers under load, open for a while: our gateway, our Triton, a peer's server, one that runs.

Comes in: their names. Goes out: an Opened for each, with how it is asked and what it costs. Ours
share one engine, and stay open while one peer after another is opened beside them; every one is
ended with its block. Knows nothing of what is asked.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common.http_door import Door
from benchmarks.common.target import HttpTarget, Target, TritonTarget
from benchmarks.peers.catalogue import SERVICES, choose
from benchmarks.peers.servers import Premises, RunningServer
from benchmarks.serving.editors import Editor, GatewayEditor, TargetEditor
from benchmarks.serving.own_servers import Triton, running_triton, start_gateway
from benchmarks.serving.served_model import ServedModel
from benchmarks.serving.workload import CONTEXT

GATEWAY, TRITON = "gateway", "triton"
PEER, URL = "peer:", "http://"
EVERY_PEER = f"{PEER}all"
WRITTEN = 'nanotriton_tokens_total{kind="completion"'
IGNORE_EOS = {"ignore_eos": True}  # so that all write as much


@dataclass(frozen=True, slots=True)
class Opened:
    """One server.

    `connect` makes the target that all users share, told whether a text goes on after its end;
    `edit` the editor of a typist, by its name and that target. `written` counts the server's
    completion tokens once it is idle, None where it doesn't tell.
    """

    name: str
    connect: Callable[[bool], Target]
    edit: Callable[[str, Target], Editor]
    pids: tuple[int, ...] = ()
    written: Callable[[], int] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What servers are opened on; our typists get whole answers, or streamed ones."""

    model: ServedModel
    venvs: Path
    is_streamed: bool


def spelled_out(names: Sequence[str]) -> list[str]:
    """These servers, each once, with every peer that a name stands for.

    Raises ValueError for a name that is none, PeerError for a peer that is none.
    """
    found: list[str] = []
    for name in names:
        if name.startswith(PEER):
            words = [] if name == EVERY_PEER else [name.removeprefix(PEER)]
            found += [f"{PEER}{one.name}" for one in choose(words, SERVICES)]
        elif name in (GATEWAY, TRITON) or name.startswith(URL):
            found.append(name)
        else:
            raise ValueError(
                f"there is no server {name!r}: give {GATEWAY}, {TRITON}, {PEER}NAME or "
                f"{URL}HOST:PORT of one that runs"
            )
    return list(dict.fromkeys(found))


def heats(names: Sequence[str]) -> list[list[str]]:
    """Who is measured in the same rounds: one peer at a time, the others beside each of them."""
    peers = [name for name in names if name.startswith(PEER)]
    if not peers:
        return [list(names)]
    return [[one for one in names if one == peer or one not in peers] for peer in peers]


@contextmanager
def open_standing(names: Sequence[str], grounds: Grounds) -> Iterator[dict[str, Opened]]:
    """Those of the names that are no peers, by name."""
    opened = {name: _open_url(name) for name in names if name.startswith(URL)}
    with ExitStack() as stack:
        if {GATEWAY, TRITON} & set(names):
            opened |= _open_ours(stack, names, grounds)
        yield opened


@contextmanager
def open_peer(name: str, grounds: Grounds) -> Iterator[Opened]:
    """One with as many threads as ours has; raises PeerError when it can't be started."""
    (service,) = [one for one in SERVICES if one.name == name.removeprefix(PEER)]
    model, num_threads = grounds.model, len(os.sched_getaffinity(0))
    server = RunningServer(
        service,
        Premises(
            model.checkpoint, model.tokenizer, grounds.venvs, model.work, num_threads, CONTEXT
        ),
    )
    try:
        yield Opened(
            name,
            lambda is_endless: server.open_target(ignore_eos=is_endless),
            lambda _, target: TargetEditor(target),
            (server.pid,),
            versions=server.versions,
        )
    finally:
        server.stop()


def _open_ours(stack: ExitStack, names: Sequence[str], grounds: Grounds) -> dict[str, Opened]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    triton = stack.enter_context(running_triton(grounds.model.repository, folder))
    ours = {
        TRITON: Opened(
            TRITON,
            lambda is_endless: TritonTarget(TRITON, triton.grpc_url, ignore_eos=is_endless),
            lambda _, target: TargetEditor(target),
            (triton.process.pid,),
            lambda: _written(triton),
        )
    }
    if GATEWAY in names:
        gateway = start_gateway([triton.grpc_url], folder, "--open")
        stack.callback(gateway.stop)
        ours[GATEWAY] = Opened(
            GATEWAY,
            lambda is_endless: HttpTarget(
                GATEWAY, gateway.url, settings=IGNORE_EOS if is_endless else {}
            ),
            lambda name, _: GatewayEditor(name, Door(gateway.url), is_streamed=grounds.is_streamed),
            (triton.process.pid, gateway.process.pid),
            lambda: _written(triton),
        )
    return ours


def _open_url(name: str) -> Opened:
    url = name.removeprefix(URL).rstrip("/")
    return Opened(name, lambda _: HttpTarget(name, url), lambda _, target: TargetEditor(target))


def _written(triton: Triton) -> int:
    counters = triton.settled_counters()
    return int(sum(value for name, value in counters.items() if name.startswith(WRITTEN)))
