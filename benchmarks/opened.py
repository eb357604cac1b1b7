"""Servers under load, open for a while: our gateway, our Triton, a peer's server, one that runs.

Comes in: their names. Goes out: an Opened for each, with how it is asked and what it costs; a peer
that can't be started is an Opened with its error. Ours share one engine; every one is ended with
the block. Knows nothing of what is asked.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.editors import Editor, GatewayEditor, TargetEditor
from benchmarks.http_door import Door
from benchmarks.own_servers import Triton, running_triton, start_gateway
from benchmarks.peers.catalogue import SERVICES, PeerError, choose
from benchmarks.peers.servers import Premises, RunningServer
from benchmarks.target import HttpTarget, Target, TritonTarget
from benchmarks.workload import CONTEXT, DEMO

GATEWAY, TRITON = "gateway", "triton"
PEER, URL = "peer:", "http://"
WRITTEN = 'nanotriton_tokens_total{kind="completion"'
IGNORE_EOS = {"ignore_eos": True}  # so that all write as much


@dataclass(frozen=True, slots=True)
class Opened:
    """One server.

    `connect` makes the target that all users share, told whether a text goes on after its end;
    `edit` the editor of a typist, by its name and that target. `written` counts the server's
    completion tokens so far, None where it doesn't tell.
    """

    name: str
    connect: Callable[[bool], Target]
    edit: Callable[[str, Target], Editor]
    pids: tuple[int, ...] = ()
    written: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which servers, ours on which repository; whole answers for our typists, or streamed ones."""

    names: Sequence[str]
    repository: Path
    venvs: Path
    is_streamed: bool


@dataclass(frozen=True, slots=True)
class Servers:
    """Those that answer, in the order of their names, and what the others said."""

    opened: list[Opened]
    errors: dict[str, str]


@contextmanager
def open_servers(wanted: Wanted) -> Iterator[Servers]:
    """All of them at once; raises ValueError for a name that is none."""
    with ExitStack() as stack:
        ours = _open_ours(stack, wanted)
        servers = Servers([], {})
        for name in wanted.names:
            if name in ours:
                servers.opened.append(ours[name])
            elif name.startswith(URL):
                servers.opened.append(_open_url(name))
            elif name.startswith(PEER):
                try:
                    servers.opened.append(_open_peer(stack, name, wanted.venvs))
                except PeerError as error:
                    servers.errors[name] = str(error)
            else:
                raise ValueError(
                    f"there is no server {name!r}: give {GATEWAY}, {TRITON}, {PEER}NAME or "
                    f"{URL}HOST:PORT of one that runs"
                )
        yield servers


def _open_ours(stack: ExitStack, wanted: Wanted) -> dict[str, Opened]:
    if not {GATEWAY, TRITON} & set(wanted.names):
        return {}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    triton = stack.enter_context(running_triton(wanted.repository, folder))
    ours = {
        TRITON: Opened(
            TRITON,
            lambda is_endless: TritonTarget(TRITON, triton.grpc_url, ignore_eos=is_endless),
            lambda _, target: TargetEditor(target),
            (triton.process.pid,),
            lambda: _written(triton),
        )
    }
    if GATEWAY in wanted.names:
        gateway = start_gateway([triton.grpc_url], folder, "--open")
        stack.callback(gateway.stop)
        ours[GATEWAY] = Opened(
            GATEWAY,
            lambda is_endless: HttpTarget(
                GATEWAY, gateway.url, settings=IGNORE_EOS if is_endless else {}
            ),
            lambda name, _: GatewayEditor(name, Door(gateway.url), is_streamed=wanted.is_streamed),
            (triton.process.pid, gateway.process.pid),
            lambda: _written(triton),
        )
    return ours


def _open_url(name: str) -> Opened:
    url = name.removeprefix(URL).rstrip("/")
    return Opened(name, lambda _: HttpTarget(name, url), lambda _, target: TargetEditor(target))


def _open_peer(stack: ExitStack, name: str, venvs: Path) -> Opened:
    """On the demo model, with as many threads as ours has; raises PeerError."""
    (service,) = choose([name.removeprefix(PEER)], SERVICES)[:1]
    work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    num_threads = len(os.sched_getaffinity(0))
    server = RunningServer(service, Premises(DEMO, DEMO, venvs, work, num_threads, CONTEXT))
    stack.callback(server.stop)
    return Opened(
        name,
        lambda is_endless: server.open_target(ignore_eos=is_endless),
        lambda _, target: TargetEditor(target),
        (server.pid,),
    )


def _written(triton: Triton) -> int:
    counters = triton.settled_counters()
    return int(sum(value for name, value in counters.items() if name.startswith(WRITTEN)))
