"""`make gpu`, but for its tests, over the tiny model; and what it leaves, served or refused."""

import shlex
import sys
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from plans import HAS_TENSORRT, STAND_IN, stand_in
from running import ROOT

from benchmarks.__main__ import main as benchmarks
from export.__main__ import main as export
from nanotriton.__main__ import main
from nanotriton.doctor import examine
from nanotriton.manifest import Manifest, newest_version
from nanotriton.server import ServerOptions

COMMANDS = {"export": export, "benchmarks": benchmarks}
QUICK = {"--rounds 100": "--rounds 3", "export parity": "export parity --tokens 256"}


def recipe(**places):
    """Commands of the target `gpu`, after `python -m`."""
    text = (ROOT / "Makefile").read_text().split("\ngpu: ", 1)[1].split("\n\n", 1)[0]
    for old, new in {
        **QUICK,
        **{f"$({name})": str(place) for name, place in places.items()},
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    commands = [shlex.split(line)[2:] for line in text.splitlines()[1:]]
    return [words for words in commands if words[0] != "pytest"]


@pytest.fixture(scope="session")
def made(checkpoint_file, tmp_path_factory):
    """The folder that the commands wrote to, and what the last of them printed."""
    folder = tmp_path_factory.mktemp("gpu")
    printed = StringIO()
    with nullcontext() if HAS_TENSORRT else stand_in():
        for module, *words in recipe(CHECKPOINT=checkpoint_file, GPU_BUILD=folder):
            printed = StringIO()
            with redirect_stdout(printed):
                assert COMMANDS[module](words) == 0
    return folder, printed.getvalue()


@pytest.fixture
def repository(made) -> Path:
    return made[0] / "repository"


def test_commands_build_prove_publish_and_time_a_plan(made, repository):
    _, printed = made
    manifest = Manifest.load(newest_version(repository))
    assert (manifest.runner, manifest.precision, manifest.kv_dtype) == ("trt", "fp16", "float16")
    assert manifest.parity["mean_kl"] < 1e-4
    assert [line.split()[:2] for line in printed.splitlines()[2:]] == [
        *(["decode", str(rows)] for rows in (1, 2, 4, 8, 16, 32)),
        ["prefill", "64"],
    ]


def test_doctor_asks_tensorrt_and_the_gpu(repository):
    found = {one.subject: one for one in examine(ServerOptions(repository))}
    assert found["runtime"].is_good, found["runtime"].seen
    assert found["runtime"].seen.startswith("TensorRT ")


@pytest.mark.skipif(HAS_TENSORRT, reason="this machine has TensorRT")
def test_server_without_a_gpu_is_refused_before_it_starts(repository, monkeypatch, capfd):
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(STAND_IN)])
    assert main(["serve", "--model-repository", str(repository)]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("nanotriton: ") for line in lines)
    assert any("the runner trt needs" in line or "CUDA" in line for line in lines)
