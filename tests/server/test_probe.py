"""`python -m nanotriton.probe`, as containers ask it."""

import subprocess
import sys

import pytest
from running import ROOT, RunningServer, free_ports

from nanotriton.probe import main


def test_probe_of_a_server_that_completes_is_silent(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model-repository", str(server.repository), "--http-port", str(server.http_port)]

    assert main(words) == 0
    assert capsys.readouterr() == ("", "")


def test_probe_of_nothing_fails_in_one_line(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    [port] = free_ports(1)

    assert main(["--model-repository", str(server.repository), "--http-port", str(port)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_probe_of_a_missing_repository_fails_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--model-repository", "/nowhere"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_probe_is_light_to_start() -> None:
    source = "import sys, nanotriton.probe; sys.exit(bool({'onnxruntime', 'zmq'} & {*sys.modules}))"

    assert subprocess.run([sys.executable, "-c", source], check=False, cwd=ROOT).returncode == 0
