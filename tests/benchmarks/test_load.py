"""Loads of every shape on real servers; and a run of several measurements."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from running import RunningServer

from benchmarks.__main__ import build_parser, main
from benchmarks.bench import REPORT, STEPS, Done, Step, run_step, write_report
from benchmarks.common.http_door import Door
from benchmarks.common.machine import describe
from benchmarks.common.processes import cpu_s
from benchmarks.common.random_model import Sizes, write_checkpoint
from benchmarks.common.target import HttpTarget, TritonTarget
from benchmarks.common.typing_users import library_files
from benchmarks.serving.editors import GatewayEditor, TargetEditor
from benchmarks.serving.load import SHAPES, Load, Shape, run_load
from benchmarks.serving.opened import Opened
from benchmarks.serving.workload import demo_tokenizer, tokens_of, typed_functions
from nanotriton.manifest import versions_of
from tests.gateway.gateways import RunningGateway, running_gateway

FILES = library_files()[:3]
TINY = Sizes(num_layers=2, num_heads=2, width=32, context=512, num_tokens=320)


@pytest.fixture(scope="module")
def gateway(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    with running_gateway(server, tmp_path_factory.mktemp("gateway"), "--open") as running:
        yield running


@pytest.fixture
def opened(gateway: RunningGateway) -> Opened:
    url = f"127.0.0.1:{gateway.port}"
    return Opened(
        "gateway",
        lambda _: HttpTarget("gateway", url),
        lambda name, _: GatewayEditor(name, Door(url)),
        (gateway.process.pid,),
    )


@pytest.fixture
def own_venvs(tmp_path: Path) -> Path:
    """The environment of a peer that this one has the packages of."""
    python = tmp_path / "venvs" / "tutorial" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return tmp_path / "venvs"


def load(shape: Shape, level: float, seed: int = 1) -> Load:
    tokenizer = demo_tokenizer()
    files, texts = tokens_of(FILES, tokenizer), typed_functions(FILES, tokenizer, max_tokens=8)
    return Load(shape, level, 1.2, 0.4, seed, files, texts, tokenizer, max_tokens=8, debounce_s=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_answered_without_an_error(opened: Opened, shape: Shape) -> None:
    level = 4 if shape in ("closed", "typing") else 24

    found = run_load(opened, load(shape, level, seed=1 + SHAPES.index(shape)))

    assert found.errors == {}
    assert found.num_asked
    assert found.tokens_per_s > 0
    assert found.cpu_by_program["gateway"] > 0


def test_triton_itself_is_typed_at_as_well(server: RunningServer) -> None:
    opened = Opened(
        "triton",
        lambda _: TritonTarget("triton", f"localhost:{server.grpc_port}"),
        lambda _, target: TargetEditor(target),
    )

    found = run_load(opened, load("typing", 4, seed=9))

    assert found.errors == {}
    assert found.num_whole
    assert found.cpu_by_program == {}


def test_server_that_is_away_is_an_error_of_each_question(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ["--target", "http://127.0.0.1:1", "--users", "2", "--seconds", "0.3", "--warm-up", "0"]

    status = main(["load", *words, "--json", str(out)])

    assert status == 1
    (row,) = json.loads(out.read_text())["rows"]
    assert all("ConnectionRefused" in kind for kind in row["rounds"][0]["errors"])


@pytest.mark.long
def test_own_servers_are_compared_drawn_and_ended(
    demo_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--target", "gateway", "triton", "--users", "2", "--seconds", "1", "--warm-up", "0.5"]
    outputs = ["--json", str(tmp_path / "figures.json"), "--plot", str(tmp_path)]
    repository = ["--model-repository", str(demo_repository)]

    status = main(["load", *words, *repository, *outputs])

    told = capsys.readouterr()
    assert status == 0, told.out
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["target"] for row in rows] == ["gateway", "triton"]
    assert all(row["rounds"][0]["tokens_per_s"] > 0 for row in rows)
    assert "too few rounds" in told.out  # one round tells no difference
    assert (tmp_path / "load-closed.svg").is_file()


@pytest.mark.long
def test_checkpoint_is_exported_for_ours_and_served_by_a_peer_beside_it(
    own_venvs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work, out = tmp_path / "work", tmp_path / "figures.json"
    write_checkpoint(tmp_path / "tiny", TINY)
    words = ["--target", "gateway", "peer:tutorial-fp32", "peer:llama-cpp-q8_0"]
    places = ["--checkpoint", str(tmp_path / "tiny"), "--venvs", str(own_venvs)]
    course = ["--users", "2", "--seconds", "1", "--warm-up", "0.5", "--work", str(work)]

    status = main(["load", *words, *places, *course, "--json", str(out)])

    told, figures = capfd.readouterr().out, json.loads(out.read_text())
    assert status == 1
    assert [(row["target"], row["beside"]) for row in figures["rows"]] == [
        ("gateway", ["peer:tutorial-fp32"]),
        ("peer:tutorial-fp32", ["gateway"]),
    ]
    assert all(row["rounds"][0]["tokens_per_s"] > 0 for row in figures["rows"])
    assert "peers --install llama-cpp" in figures["failures"]["peer:llama-cpp-q8_0"]
    assert figures["peer_versions"]["peer:tutorial-fp32"]["torch"]
    assert "gateway brings" in told
    assert versions_of(work / "ours" / "repository") == [1]


def test_checkpoint_of_a_short_context_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "short", replace(TINY, context=64))

    assert main(["load", "--checkpoint", str(tmp_path / "short")]) == 1
    assert "reads 64 tokens, questions and answers take 512" in capsys.readouterr().err


def test_peer_that_is_not_installed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--target", "peer:llama-cpp-q8_0", "--venvs", str(tmp_path)]

    assert main(["load", *words]) == 1
    assert "peer:llama-cpp-q8_0: not installed in" in capsys.readouterr().out


def test_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "--target", "nobody"]) == 1
    assert "there is no server 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize("step", STEPS, ids=[step.name for step in STEPS])
def test_step_of_the_whole_run_is_a_command(step: Step) -> None:
    assert build_parser().parse_args(step.arguments(Path("repository"), Path("x")))


def test_step_that_fails_or_hangs_is_in_the_report(tmp_path: Path) -> None:
    fails = Step("fails", "It fails", "load --target nobody")
    hangs = Step("hangs", "It hangs", "load --target http://127.0.0.1:1", limit_s=1)
    done = [run_step(step, tmp_path, tmp_path / step.name) for step in (fails, hangs)]

    write_report(tmp_path, describe(["bench"]), done)

    report = (tmp_path / REPORT).read_text()
    assert "It ended with status 1: error: there is no server 'nobody'" in report
    assert "It took longer than 1 s and was ended" in report


def test_report_has_the_table_and_the_picture(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "load.png").touch()

    write_report(tmp_path, describe([]), [Done(Step("one", "One", "x"), 0, 3, "a  b\n1  2", "")])

    report = (tmp_path / REPORT).read_text()
    assert "    a  b\n    1  2" in report
    assert "![One](one/load.png)" in report


def test_processor_time_counts_children() -> None:
    before = cpu_s([os.getpid()])
    os.system("python3 -c 'sum(range(5_000_000))'")

    assert cpu_s([os.getpid()]) > before + 0.02
