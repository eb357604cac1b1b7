"""Peers as servers: real ones on the demo model."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from running import wait_until

from benchmarks.common.target import Piece
from benchmarks.peers.catalogue import SERVICES, Service, choose
from benchmarks.peers.servers import Premises, RunningServer

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "demo"
PARROT = Service("parrot", "parrot", "fp32")
PROMPT = "def add(a, b):\n    return"


@pytest.fixture(scope="module")
def premises(tmp_path_factory: pytest.TempPathFactory) -> Premises:
    """Environments of three peers that this one has the packages of, on the demo model."""
    folder = tmp_path_factory.mktemp("served")
    parrot = f'shift 2\nPYTHONPATH=. exec "{sys.executable}" tests/benchmarks/parrot.py "$@"\n'
    own = f'exec "{sys.executable}" "$@"\n'
    for engine, line in {"parrot": parrot, "tutorial": own, "triton-python": own}.items():
        python = folder / "venvs" / engine / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{line}")
        python.chmod(0o755)
    return Premises(DEMO, DEMO, folder / "venvs", folder / "work", 1, 320)


@pytest.fixture(scope="module")
def parrot(premises: Premises) -> Iterator[RunningServer]:
    """A server that says the prompt over and over."""
    server = RunningServer(PARROT, premises)
    yield server
    server.stop()


async def complete(server: RunningServer, prompt: str, num_tokens: int) -> list[Piece]:
    """All pieces of one answer."""
    target = server.open_target(ignore_eos=True)
    try:
        return [piece async for piece in target.complete(prompt, num_tokens)]
    finally:
        await target.close()


def text_of(pieces: list[Piece]) -> str:
    """The whole answer."""
    return "".join(one.text for one in pieces)


def test_text_comes_piece_by_piece_and_its_count_last(parrot):
    pieces = asyncio.run(complete(parrot, PROMPT, 6))

    assert len(pieces) > 6
    assert pieces[-1].num_tokens == 6
    assert PROMPT.startswith(text_of(pieces))
    assert [one.at_s for one in pieces] == sorted(one.at_s for one in pieces)


def test_answers_of_two_connections_are_written_at_once(parrot):
    async def ask_twice() -> list[list[Piece]]:
        return await asyncio.gather(*(complete(parrot, PROMPT, 40) for _ in range(2)))

    one, other = asyncio.run(ask_twice())

    assert max(one[0].at_s, other[0].at_s) < min(one[-1].at_s, other[-1].at_s)


def test_closed_connection_gives_the_request_up(parrot, premises):
    async def leave() -> None:
        target = parrot.open_target()
        async with aclosing(target.complete(PROMPT, 300)) as pieces:
            await anext(pieces)
        await target.close()

    asyncio.run(leave())

    log = premises.work / "parrot" / "parrot.log"
    wait_until(lambda: "gave up" in log.read_text(), 10)


@pytest.mark.long
def test_plain_triton_writes_what_the_tutorial_writes_and_both_end(premises):
    texts, pids = [], []
    for service in choose(["tutorial-fp32", "triton-python-fp32"], SERVICES):
        server = RunningServer(service, premises)
        pids.append(server.pid)
        pieces = asyncio.run(complete(server, PROMPT, 12))
        server.stop()
        assert pieces[-1].num_tokens == 12
        texts.append(text_of(pieces))

    assert texts[0] == texts[1] != ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
