"""Peers as servers: real ones on the demo model, and how a measurement of them is counted."""

import asyncio
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import islice, repeat
from pathlib import Path

import pytest
from running import wait_until

from benchmarks.__main__ import main
from benchmarks.peers.catalogue import SERVICES, Service, choose
from benchmarks.peers.closed_loop import (
    NEW_TOKENS,
    PROMPT_TOKENS,
    Ask,
    Wait,
    Window,
    ask_for,
    draw_asks,
)
from benchmarks.peers.served import Match
from benchmarks.peers.served_report import describe_matches, errors_of, rate_ratio, table_lines
from benchmarks.peers.servers import Premises, RunningServer
from benchmarks.target import Piece, Target, TargetError
from benchmarks.typing_users import library_files
from nanotriton.tokenizer import load_tokenizer

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


@pytest.mark.long
def test_peers_are_measured_beside_ours_and_a_missing_one_is_told(
    premises, demo_repository, tmp_path, capsys
):
    shutil.copytree(demo_repository, tmp_path / "work" / "ours" / "repository")
    words = ["--only", "tutorial-fp32", "llama-cpp-q8_0", "--checkpoint", str(DEMO)]
    places = ["--venvs", str(premises.venvs), "--work", str(tmp_path / "work")]
    course = ["--users", "2", "--seconds", "1", "--rounds", "1", "--threads", "1"]

    status = main(
        ["peers", "--served", *words, *places, *course, "--json", str(tmp_path / "found.json")]
    )

    peers = json.loads((tmp_path / "found.json").read_text())["peers"]
    windows = peers["tutorial-fp32"]["users"]["2"]["windows"]
    assert status == 1
    assert {name: len(found) for name, found in windows.items()} == {
        "ours": 1,
        "ours-direct": 1,
        "tutorial-fp32": 1,
    }
    assert all(one["tokens_per_s"] > 0 for found in windows.values() for one in found)
    assert "peers --install llama-cpp" in peers["llama-cpp-q8_0"]["error"]
    assert "llama-cpp-q8_0            not measured" in capsys.readouterr().out


class Typewriter(Target):
    """A target that writes a token each so often, refuses some prompts, and counts the rest."""

    name = "typewriter"

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    async def complete(self, prompt: str, max_tokens: int) -> AsyncGenerator[Piece, None]:
        """Each token after a pause."""
        if prompt == "refused":
            raise TargetError("HTTP 429: full")
        for _ in range(max_tokens):
            await asyncio.sleep(self._pause_s)
            yield Piece(time.perf_counter(), "x")
        yield Piece(time.perf_counter(), "", max_tokens)

    async def close(self) -> None:
        """Nothing to close."""


def test_tokens_of_whole_answers_are_those_that_the_server_counted():
    asks = [Ask("fine", 3), Ask("fine", 3), Ask("fine", 1)]

    window = asyncio.run(ask_for(Typewriter(0.001), iter(asks), 2, 5))

    assert (window.num_whole, window.num_tokens) == (3, 7)


def test_answer_that_is_left_counts_its_pieces_and_a_wait_without_text_is_a_bound():
    asks = repeat(Ask("fine", 10**6))

    left = asyncio.run(ask_for(Typewriter(0.01), iter(asks), 1, 0.3))
    none = asyncio.run(ask_for(Typewriter(0.5), iter(asks), 3, 0.1))

    assert left.num_whole == 0
    assert left.num_tokens > 0
    assert not left.first.is_bound
    assert none.num_tokens == 0
    assert none.first.is_bound
    assert len(none.waits) == 3


def test_refusals_are_counted_and_asking_goes_on():
    asks = iter([Ask("refused", 1), *repeat(Ask("fine", 1), 50)])

    window = asyncio.run(ask_for(Typewriter(0.01), asks, 1, 0.4))

    assert window.errors == {"HTTP 429: full": 1}
    assert window.num_whole > 0


def test_prompts_are_distinct_pieces_of_code_of_the_wanted_lengths():
    tokenizer = load_tokenizer(DEMO)
    texts = [file.read_text() for file in library_files()]

    asks = list(islice(draw_asks(texts, tokenizer, seed=1), 100))

    assert asks == list(islice(draw_asks(texts, tokenizer, seed=1), 100))
    assert len({one.prompt for one in asks}) == 100
    assert all(NEW_TOKENS[0] <= one.max_tokens <= NEW_TOKENS[1] for one in asks)
    lengths = [len(tokenizer.encode(one.prompt)) for one in asks]
    assert max(lengths) <= PROMPT_TOKENS[1]
    assert sorted(lengths)[5] >= PROMPT_TOKENS[0]  # but for pieces near the end of a file


def windows(*rates: float, first_s: float = 0.1, is_bound: bool = False) -> list[Window]:
    """One of each rate."""
    return [
        Window(1.0, int(rate), 1, [Wait(first_s, is_bound)], Counter() if rate else Counter(gone=3))
        for rate in rates
    ]


def test_ratio_is_that_of_each_rounds_pair():
    found = {"ours": windows(20, 40), "ours-direct": windows(30, 60), "it": windows(10, 10)}

    ratio = rate_ratio(Match("it", {8: found}), 8, "ours")

    assert (ratio.value, ratio.low, ratio.high) == (3, 2, 4)


def test_peer_that_died_has_its_errors_and_no_ratio():
    found = {"ours": windows(20, 40), "ours-direct": windows(30, 60), "it": windows(10, 0)}
    match = Match("it", {8: found})

    lines = list(table_lines([match], [8]))

    assert rate_ratio(match, 8, "ours") is None
    assert errors_of(match) == {"it: gone": 3}
    assert any("no figure: see below" in line for line in lines)
    assert json.loads(json.dumps(describe_matches([match])))["peers"]["it"]["errors"]


def test_wait_without_a_median_is_shown_as_a_bound_and_has_no_ratio():
    late = windows(5, first_s=9.0, is_bound=True)
    match = Match("it", {8: {"ours": windows(20), "ours-direct": windows(20), "it": late}})

    lines = list(table_lines([match], [8]))

    assert any(line.startswith("  it") and ">9000" in line for line in lines)
    described = describe_matches([match])["peers"]["it"]["users"]["8"]
    assert described["ours_over_it"]["ours"]["first_text"] is None
