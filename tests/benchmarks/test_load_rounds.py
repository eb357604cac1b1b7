"""How a load counts what a server gives, whom it has beside whom, and what is drawn of it."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

import pytest

from benchmarks.common.plots import Panel
from benchmarks.common.target import Piece, Target, TargetError
from benchmarks.peers.catalogue import SERVICES, PeerError
from benchmarks.serving.editors import TargetEditor
from benchmarks.serving.load import Load, run_load
from benchmarks.serving.load_report import panels_of, row_lines
from benchmarks.serving.load_rounds import Row, measure_load
from benchmarks.serving.opened import Opened, heats, spelled_out
from benchmarks.serving.questions import Asked
from benchmarks.serving.workload import demo_tokenizer

LOAD = Load("closed", 2, 0.3, 0.1, 1, [list(range(256)) * 4], [], demo_tokenizer())


@dataclass
class Typewriter(Target):
    """A target that writes a piece of two tokens each so often, once it has refused so many."""

    pause_s: float
    num_refused: int = 0
    answered: list[tuple[str, int]] = field(default_factory=list)
    name: str = "typewriter"

    async def complete(self, prompt: str, max_tokens: int) -> AsyncGenerator[Piece, None]:
        """Each token after a pause."""
        if self.num_refused:
            self.num_refused -= 1
            raise TargetError("HTTP 429: full")
        for _ in range(max_tokens):
            await asyncio.sleep(self.pause_s)
            yield Piece(time.perf_counter(), "x")
        self.answered.append((prompt, max_tokens))
        yield Piece(time.perf_counter(), "", 2 * max_tokens)

    async def close(self) -> None:
        """Nothing to close."""


def opened(target: Target) -> Opened:
    return Opened(target.name, lambda _: target, lambda _, one: TargetEditor(one))


def test_tokens_of_whole_answers_are_those_that_the_server_counted() -> None:
    found = run_load(opened(Typewriter(0)), LOAD)

    assert found.num_whole
    assert found.tokens_per_s * found.seconds >= found.num_whole * 2 * 32


def test_answer_that_takes_longer_than_the_stretch_counts_as_it_comes() -> None:
    found = run_load(opened(Typewriter(0.02)), LOAD)

    assert found.num_whole == 0
    assert 5 < found.tokens_per_s < 1.2 * 2 / 0.02
    assert found.num_late == 2
    assert found.first.p50_ms < 200
    assert found.total.p50_ms >= 300


def test_editor_without_a_session_gives_up_the_question_before() -> None:
    typewriter = Typewriter(0.05)

    async def ask_twice() -> tuple[Asked, Asked]:
        editor, asked = TargetEditor(typewriter), (Asked(), Asked())
        first = asyncio.create_task(editor.ask(asked[0], "a", 4))
        await asyncio.sleep(0.07)
        await editor.ask(asked[1], "ab", 4)
        assert first.cancelled()
        return asked

    older, newer = asyncio.run(ask_twice())

    assert (older.left_s is not None, older.tokens) == (True, None)
    assert newer.tokens == 8
    assert typewriter.answered == [("ab", 4)]


def test_wait_without_a_first_text_counts_as_long_as_it_was() -> None:
    found = run_load(opened(Typewriter(0.7)), LOAD)

    assert found.tokens_per_s == 0
    assert found.first.num == 2
    assert found.first.p50_ms >= 300


def test_stretch_ends_with_the_server_idle_again() -> None:
    target = Typewriter(0.5)

    run_load(opened(target), LOAD)

    assert target.answered == [("def", 1)]


def test_refusals_are_counted_and_asking_goes_on() -> None:
    found = run_load(opened(Typewriter(0, num_refused=4)), replace(LOAD, warm_s=0.05))

    assert found.errors == {"HTTP 429: full": 2}  # both users' second question
    assert found.num_whole


def test_rows_have_the_ratio_to_the_first_and_whom_they_were_beside() -> None:
    servers = [
        opened(Typewriter(0.002, name="ours")),
        opened(Typewriter(0.02, name="slow")),
        opened(Typewriter(0, 10**6, name="dead")),
    ]
    seeds = itertools.count()

    rows = measure_load(servers, LOAD, [1], num_rounds=2, seeds=seeds, progress=str)

    ours, slow, dead = rows
    assert ours.speed is dead.speed is None
    assert slow.speed is not None
    assert slow.speed.value > 2
    assert slow.beside == ("ours", "dead")
    assert next(seeds) == 6  # a new one for every stretch
    lines = list(row_lines(rows, 0.1))
    assert any("times HTTP 429: full" in line for line in lines)
    assert sum("ours brings" in line for line in lines) == 1
    assert "dead brought no token in a round at 1: there is no ratio" in lines


def test_ours_are_one_line_of_a_picture_whomever_they_were_beside() -> None:
    found = run_load(opened(Typewriter(0.002)), LOAD)
    rows = [
        Row("ours", "closed", 8, (found,), beside=("one",)),
        Row("ours", "closed", 8, (found,), beside=("other",)),
        Row("other", "closed", 8, (found,), beside=("ours",)),
    ]

    for panel in panels_of(rows):
        assert isinstance(panel, Panel)
        assert [(line.name, list(line.xs)) for line in panel.lines] == [
            ("ours", [8]),
            ("other", [8]),
        ]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["gateway", "triton"], [["gateway", "triton"]]),
        (
            ["gateway", "peer:a", "triton", "peer:b"],
            [["gateway", "peer:a", "triton"], ["gateway", "triton", "peer:b"]],
        ),
        (["peer:a", "peer:b"], [["peer:a"], ["peer:b"]]),
    ],
    ids=["no peer", "ours beside each", "peers alone"],
)
def test_one_peer_at_a_time(names: list[str], found: list[list[str]]) -> None:
    assert heats(names) == found


def test_names_of_peers_are_spelled_out() -> None:
    every = [f"peer:{one.name}" for one in SERVICES]

    assert spelled_out(["gateway", "peer:all"]) == ["gateway", *every]
    assert spelled_out(["peer:llama-cpp", "peer:llama-cpp-q4_0"]) == [
        "peer:llama-cpp-q8_0",
        "peer:llama-cpp-q4_0",
    ]
    with pytest.raises(PeerError, match="there is no peer 'nobody'"):
        spelled_out(["peer:nobody"])
