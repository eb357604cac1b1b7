"""What `make run` runs: a completion is shown, and Ctrl-C ends everything."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, free_ports, wait_until

from nanotriton.manifest import Manifest, newest_version


@pytest.mark.parametrize("infill", [False, True], ids=["no infill", "infill"])
def test_run_shows_a_completion_and_ends_with_ctrl_c(
    demo_repository: Path, tmp_path: Path, infill: bool
) -> None:
    repository = Path(shutil.copytree(demo_repository, tmp_path / "repository"))
    version = newest_version(repository)
    dataclasses.replace(Manifest.load(version), infill=infill).save(version)
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "GATEWAY_PORT")
    ports = dict(zip(names, map(str, free_ports(4)), strict=True))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    log_path = tmp_path / "log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            ["sh", str(ROOT / "demo/run.sh")],
            env={
                **{**os.environ, **ports, "PATH": path, "REPOSITORY": str(repository)},
                **{"STATE": str(tmp_path / "state"), "GATEWAY_LOG": str(tmp_path / "gateway")},
            },
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    wait_until(lambda: "Serving until Ctrl-C" in log_path.read_text(), 60)

    os.killpg(process.pid, signal.SIGINT)

    process.wait(60)
    text = log_path.read_text()
    completion = text.split("with open(path", 1)[1].split("The next one", 1)[0]
    assert completion.strip()
    assert (">>>" in text and "<<<\n\n    def norm" in text) is infill
    assert "suffix is given" not in text
    assert f"localhost:{ports['HTTP_PORT']}/v2/models/completion/generate" in text
    assert f"http://localhost:{ports['GATEWAY_PORT']}/" in text
    assert "stopping: requests under way may finish" in text
    assert "0 requests may end" in (tmp_path / "gateway").read_text()


def test_run_tells_why_the_gateway_cannot_start(demo_repository: Path, tmp_path: Path) -> None:
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")
    ports = dict(zip(names, map(str, free_ports(3)), strict=True))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            ["sh", str(ROOT / "demo/run.sh")],
            env={
                **{**os.environ, **ports, "PATH": path, "REPOSITORY": str(demo_repository)},
                **{"GATEWAY_PORT": port, "STATE": str(tmp_path / "state")},
                "GATEWAY_LOG": str(tmp_path / "gateway"),
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    assert done.returncode != 0
    assert f"127.0.0.1:{port} can't be listened on (Address already in use)" in done.stderr


def test_run_ends_when_the_server_cannot_start(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = subprocess.run(
        ["sh", str(ROOT / "demo/run.sh")],
        env={**os.environ, "PATH": path, "REPOSITORY": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "python -m export all CHECKPOINT" in done.stderr
