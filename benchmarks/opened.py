"""Servers under load, open for a while: our gateway, our Triton, a peer's server, one that runs.

Comes in: their names. Goes out: an Opened for each, with how it is asked and what it costs. Ours
share one engine; every one is ended with the block. Knows nothing of what is asked.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.editors import Editor, GatewayEditor, TargetEditor
from benchmarks.http_door import Door
from benchmarks.own_servers import Triton, running_triton, start_gateway
from benchmarks.target import HttpTarget, Target, TritonTarget

GATEWAY, TRITON = "gateway", "triton"
PEER, URL = "peer:", "http://"
WRITTEN = 'nanotriton_tokens_total{kind="completion"'


@dataclass(frozen=True, slots=True)
class Opened:
    """One server; `written` counts its completion tokens so far, None where it doesn't tell.

    `edit` makes the editor of a typist, by its name and the target that all share.
    """

    name: str
    connect: Callable[[], Target]
    edit: Callable[[str, Target], Editor]
    pids: tuple[int, ...] = ()
    written: Callable[[], int] | None = None


@contextmanager
def open_servers(names: Sequence[str], repository: Path) -> Iterator[list[Opened]]:
    """All of them at once, in the order of their names; raises ValueError for one that isn't."""
    with ExitStack() as stack:
        ours = _open_ours(stack, names, repository)
        yield [ours[name] if name in ours else _open_other(name) for name in names]


def _open_ours(stack: ExitStack, names: Sequence[str], repository: Path) -> dict[str, Opened]:
    if not {GATEWAY, TRITON} & set(names):
        return {}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    triton = stack.enter_context(running_triton(repository, folder))
    pids: tuple[int, ...] = (triton.process.pid,)
    ours = {
        TRITON: Opened(
            TRITON,
            lambda: TritonTarget(TRITON, triton.grpc_url),
            lambda _, target: TargetEditor(target),
            pids,
            lambda: _written(triton),
        )
    }
    if GATEWAY in names:
        gateway = start_gateway(triton, folder, "--open")
        stack.callback(gateway.stop)
        ours[GATEWAY] = Opened(
            GATEWAY,
            lambda: HttpTarget(GATEWAY, gateway.url),
            lambda name, _: GatewayEditor(name, Door(gateway.url)),
            (*pids, gateway.process.pid),
            lambda: _written(triton),
        )
    return ours


def _open_other(name: str) -> Opened:
    if name.startswith(URL):
        url = name.removeprefix(URL).rstrip("/")
        return Opened(name, lambda: HttpTarget(name, url), lambda _, target: TargetEditor(target))
    raise ValueError(
        f"there is no server {name!r}: give {GATEWAY}, {TRITON} or {URL}HOST:PORT of one that runs"
    )


def _written(triton: Triton) -> int:
    counters = triton.settled_counters()
    return int(sum(value for name, value in counters.items() if name.startswith(WRITTEN)))
