"""Peers on a tiny checkpoint: real workers, and what is said of one that can't be measured."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.common.random_model import Sizes, write_checkpoint
from benchmarks.peers.catalogue import (
    HERE,
    OWN,
    PEERS,
    SERVICES,
    Peer,
    PeerError,
    choose,
    choose_engines,
    install,
)
from benchmarks.peers.measure import Measured, measure_peers
from benchmarks.peers.report import describe_tracks, table_lines
from benchmarks.peers.rounds import Workload, run_rounds
from benchmarks.peers.worker import Limits, Worker

TINY = Sizes(num_layers=2, num_heads=2, width=32, context=400, num_tokens=320)
LOADS = (
    Workload("alone", "decode", 1, 16, 4),
    Workload("prompt", "prefill", 1, 32, 1),
    Workload("three", "served", 3, 16, 4),
)
OURS, MISSING, TRANSFORMERS, TUTORIAL = choose(
    ["ours-auto", "llama-cpp-q8_0", "transformers-fp32", "tutorial"], PEERS
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a few thousand parameters."""
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    write_checkpoint(folder, TINY)
    return folder


@pytest.fixture(scope="module")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Environments of two peers that this one has the packages of."""
    folder = tmp_path_factory.mktemp("venvs")
    for peer in (TUTORIAL, TRANSFORMERS):
        python = folder / peer.engine / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def start(
    checkpoint: Path, venvs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Worker]]:
    """Starts workers that end with this file."""
    with ExitStack() as stack:

        def start_worker(peer: Peer, folder: Path = checkpoint) -> Worker:
            work, python = tmp_path_factory.mktemp("work"), venvs / peer.engine / "bin" / "python"
            worker = Worker(peer, python, folder, work, Limits(1, 3, 48))
            stack.callback(worker.close)
            return worker

        yield start_worker


@pytest.fixture(scope="module")
def tutorial(start: Callable[..., Worker]) -> Worker:
    """A tutorial that nobody harms."""
    return start(TUTORIAL)


@pytest.fixture(scope="module")
def transformers(start: Callable[..., Worker]) -> Worker:
    """A transformers that nobody harms."""
    return start(TRANSFORMERS)


@pytest.fixture(scope="module")
def measured(checkpoint: Path, venvs: Path) -> Measured:
    """Two rounds of our engine, the tutorial's and one that is not installed."""
    return measure_peers(
        [OURS, TUTORIAL, MISSING],
        checkpoint,
        venvs=venvs,
        work=None,
        num_threads=1,
        num_rounds=2,
        max_s=120,
        progress=lambda _: None,
        workloads=LOADS,
    )


def test_tutorial_and_transformers_write_the_same_text_of_prompts_of_any_length(
    tutorial, transformers
):
    prompts = [[1, 2, 3, 4, 5], [7, 300, 11]]

    texts = [worker.ask(prompts, 6).tokens for worker in (tutorial, transformers)]

    assert texts[0] == texts[1]
    assert [len(one) for one in texts[0]] == [6, 6]


def test_worker_tells_the_time_to_the_first_token_and_to_the_end(tutorial):
    answer = tutorial.ask([[1, 2, 3]], 3)

    assert 0 < answer.first_s < answer.seconds


def test_peer_that_can_not_read_the_weights_is_refused_in_one_line(start, tmp_path):
    with pytest.raises(PeerError, match=r"^FileNotFoundError: .*config.json") as caught:
        start(TUTORIAL, tmp_path / "nothing")

    assert "\n" not in str(caught.value)


def test_every_peer_gets_every_workload_in_every_round(measured):
    assert [one.peer.name for one in measured.tracks] == ["ours-auto", "tutorial-fp32"]
    for track in measured.tracks:
        assert not track.error
        assert track.resident_mib > 0
        assert [len(track.rates[load.name]) for load in LOADS] == [2, 2, 2]
        assert min(min(rates) for rates in track.rates.values()) > 0


def test_missing_peer_stands_in_the_table_with_what_to_do(measured):
    lines = list(table_lines(measured.tracks, LOADS, measured.errors))

    wanted = r"  llama-cpp-q8_0 +not measured: not installed .*peers --install llama-cpp$"
    assert any(re.match(wanted, line) for line in lines)


def test_table_gives_our_ratio_to_a_peer_for_each_workload(measured):
    lines = list(table_lines(measured.tracks, LOADS, measured.errors))

    ratio = r"  tutorial-fp32 .* \d+\.\d\d  \d+\.\d\d to \d+\.\d\d, too few rounds$"
    assert sum(bool(re.match(ratio, line)) for line in lines) == len(LOADS)


def test_json_holds_every_round_ratio_and_error(measured):
    found = json.loads(json.dumps(describe_tracks(measured.tracks, LOADS, measured.errors)))

    peers = found["peers"]
    assert set(peers) == {"ours-auto", "tutorial-fp32", "llama-cpp-q8_0"}
    assert set(peers["tutorial-fp32"]["ours_over_it"]) == {load.name for load in LOADS}
    assert peers["tutorial-fp32"]["as_fp32"] == 1.0
    assert "not installed" in peers["llama-cpp-q8_0"]["error"]


def test_peer_that_dies_between_rounds_keeps_what_it_did(start, transformers):
    dying = start(TUTORIAL)

    def kill_once(line: str) -> None:
        if "round 1" in line:
            os.kill(dying.pid, signal.SIGKILL)

    died, went_on = run_rounds(
        [dying, transformers],
        LOADS[:1],
        TINY.num_tokens,
        num_rounds=2,
        max_s=60,
        progress=kill_once,
    )

    assert died.error == "ended with status -9: it said nothing"
    assert [len(one.rates["alone"]) for one in (died, went_on)] == [1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "vllm"], "there is no peer 'vllm': there are ours-auto, "),
        (["--checkpoint", "nowhere"], "nowhere is no Hugging Face GPT-2 folder"),
        (["--only", "llama-cpp", "--venvs", "nowhere"], "peers --install llama-cpp"),
    ],
    ids=["unknown name", "no checkpoint", "nothing installed"],
)
def test_command_line_refuses_in_one_line(words, message, checkpoint, capsys):
    weights = [] if "--checkpoint" in words else ["--checkpoint", str(checkpoint)]

    assert main(["peers", *words, *weights]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_model_of_a_short_context_is_refused_with_both_numbers(tmp_path, capsys):
    write_checkpoint(tmp_path / "short", replace(TINY, context=64))

    assert main(["peers", "--checkpoint", str(tmp_path / "short")]) == 1
    assert "reads 64 tokens, the workloads take 317" in capsys.readouterr().err


@pytest.mark.parametrize("peer", [*PEERS, *SERVICES], ids=lambda one: one.name)
def test_every_peer_has_a_worker_and_pinned_requirements(peer):
    assert (HERE / f"{peer.module.rpartition('.')[2]}.py").is_file()
    if peer.engine != OWN:
        lines = (HERE / f"requirements-{peer.engine}.txt").read_text().splitlines()
        assert all(re.match(r"#|[a-z0-9-]+==[0-9.]+$", line) for line in lines)


def test_environment_that_fails_to_install_is_told_and_removed(tmp_path, venvs):
    shutil.copytree(venvs / TUTORIAL.engine, tmp_path / "nonesuch")

    assert install(["nonesuch"], tmp_path, {}) == ["nonesuch: pip ended with 1"]
    assert not list(tmp_path.iterdir())


def test_engines_are_installed_once_and_by_their_own_names():
    assert choose_engines(["tutorial", "tutorial"]) == ["tutorial"]
    assert (
        {"llama-cpp", "triton-python"}
        < set(choose_engines([]))
        == ({one.engine for one in (*PEERS, *SERVICES)} - {OWN})
    )
    with pytest.raises(PeerError, match=r"no engine 'vllm': there are ctranslate2, "):
        choose_engines(["vllm"])
