"""`export verify` against a running server: what is served is what was exported, or it is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from running import ROOT, RunningServer
from safetensors.numpy import load_file, save_file

from export.__main__ import main as export

DEMO = ROOT / "demo"


def verify(server: RunningServer, protocol: str, *words: object) -> int:
    port = server.grpc_port if protocol == "grpc" else server.http_port
    url = ("--url", f"localhost:{port}", "--protocol", protocol)
    return export(["verify", *url, "--tokens", "80", *map(str, words)])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("kind", ["checkpoint", "repository"])
def test_server_gives_what_was_exported(server, protocol, kind, capsys):
    model = DEMO if kind == "checkpoint" else server.repository
    assert verify(server, protocol, model, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["greedy"] == figures["top1"] == figures["doors_agree"] == 1
    assert figures["kl_estimate"] < 1e-6
    assert figures["max_logprob_delta"] < 1e-3
    assert figures["positions"] > 50
    assert abs(figures["perplexity_rise"]) < 1e-4


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    """The demo with a gain that is 5 % larger."""
    folder = Path(shutil.copytree(DEMO, tmp_path / "other"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("ln_f.weight"))
    weights[name] = weights[name] * np.float32(1.05)
    save_file(weights, folder / "model.safetensors")
    return folder


def test_another_model_than_the_served_one_is_told(server, other_model, capsys):
    assert verify(server, "grpc", other_model) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: the served model differs from the local one: ")
    assert "mean KL is" in told
    assert verify(server, "grpc", other_model, "--accept", "kl", "--accept", "greedy") == 0


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_server_that_is_not_there_is_one_line(protocol, capsys):
    assert export(["verify", "--url", "localhost:1", "--protocol", protocol, str(DEMO)]) == 1
    assert "localhost:1" in capsys.readouterr().err.splitlines()[-1]


def test_text_too_short_to_verify_on_is_one_line(tmp_path, capsys):
    (tmp_path / "text").write_text("x = 1")
    words = ("--url", "localhost:1", "--text", str(tmp_path / "text"))
    assert export(["verify", *words, str(DEMO)]) == 1
    assert "a check needs at least 96" in capsys.readouterr().err
