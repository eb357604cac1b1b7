"""The README's commands do what it says."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, RunningServer

import benchmarks.__main__ as benchmarks
import clients.__main__ as clients
import export.__main__ as export
import gateway.__main__ as gateway
import nanotriton.__main__ as nanotriton
import training.__main__ as training
from tests.gateway.gateways import running_gateway

README = (ROOT / "README.md").read_text()
CODE = re.findall(r"(?:^    .*\n|^\n(?=    ))+", README, re.MULTILINE)
COMMANDS = [
    line.strip() for block in CODE for line in block.replace("\\\n", " ").splitlines() if line
]
PARSERS = {
    "benchmarks": benchmarks.build_parser(),
    "clients": clients.build_parser(),
    "export": export.build_parser(),
    "gateway": gateway.build_parser(),
    "training": training.build_parser(),
}


def on(server: RunningServer, text: str) -> str:
    """A command for the server of the test instead of the one on the usual ports."""
    text = text.replace("localhost:8000", f"localhost:{server.http_port}")
    return text.replace("localhost:8001", f"localhost:{server.grpc_port}")


def curl(line: str) -> str:
    """What a curl line prints."""
    words = [*shlex.split(line), "--silent", "--fail"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


CURLS = [one for one in COMMANDS if one.startswith("curl")]


@pytest.mark.parametrize("line", [one for one in CURLS if "8080" not in one])
def test_curl_line_answers_text_output(server: RunningServer, line: str) -> None:
    answers = [json.loads(one) for one in curl(on(server, line)).split("\n") if one]

    assert answers
    assert all("text_output" in one for one in answers)


@pytest.mark.parametrize("line", [one for one in CURLS if "8080" in one])
def test_curl_line_to_the_gateway_answers_text(
    server: RunningServer, tmp_path: Path, line: str
) -> None:
    with running_gateway(server, tmp_path, "--open") as gateway:
        answer = json.loads(curl(line.replace("localhost:8080", f"localhost:{gateway.port}")))

    assert answer["choices"][0]["text"].strip()


def test_python_block_runs(server: RunningServer) -> None:
    block = next(one for one in CODE if "CompletionClient" in one)
    source = on(server, "".join(line[4:] or "\n" for line in block.splitlines(keepends=True)))

    done = subprocess.run(
        [sys.executable, "-c", source],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("line", [one for one in COMMANDS if re.match(r"\S*python -m ", one)])
def test_python_command_line_is_accepted(line: str) -> None:
    _, name, *words = shlex.split(line.split("python", 1)[1], comments=True)

    assert PARSERS[name].parse_args(words)


@pytest.mark.parametrize("line", [one for one in COMMANDS if one.startswith("nanotriton ")])
def test_nanotriton_command_line_is_accepted(line: str) -> None:
    assert nanotriton.build_parser().parse_args(shlex.split(line)[1:])


def test_readme_names_folders_that_exist_and_stays_short() -> None:
    tree = README.split("## The tree")[1].split("## ")[0]
    names = re.findall(r"^    (\S+)", tree, re.MULTILINE)

    assert len(names) >= 8
    assert not [name for name in names if not (ROOT / name).exists()]
    assert README.count("\n") < 200
    assert "@" not in re.sub(r"`[^`]*`", "", README)
