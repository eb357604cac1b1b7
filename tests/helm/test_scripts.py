"""The chart's own scripts, run against a real server and a real gateway."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import ROOT, RunningServer, free_ports

from tests.gateway.gateways import RunningGateway, running_gateway
from tests.helm.charts import CHART, named, rendered, workloads

FILES = CHART / "files"
SECRET = "of the release, made at its installation"


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script as a container starts it."""
    return subprocess.run(
        [str(word) for word in words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def gateway(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """The chart's gateway of two pods, of which one is not there: the server is the other."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "secret").write_text(SECRET)
    [one] = [
        one for one in workloads(rendered("gpu-plan-init")) if "gateway" in one["metadata"]["name"]
    ]
    words = one["spec"]["template"]["spec"]["containers"][0]["args"]
    # Where this machine is not a pod: the address, the folder, the secret's file and who is up.
    elsewhere = ("--host=", "--port=", "--state=", "--drain-delay-s=", "--backend=stable-0=")
    mine = [word for word in words if not word.startswith(elsewhere)]
    mine = [word.replace("/secrets/jwt/secret", str(folder / "secret")) for word in mine]
    mine += ["--backend", f"stable-0=127.0.0.1:{server.grpc_port}"]
    with running_gateway(server, folder, *mine) as running:
        yield running


def caller(gateway: RunningGateway, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A job of the release."""
    secret = gateway.log_path.parent / "secret"
    variables = {"JWT_SECRET_FILE": str(secret), "JWT_AUDIENCE": "nanotriton", "MAX_WAIT_S": "5"}
    return run(sys.executable, FILES / "caller.py", words[0], gateway.url, *words[1:], **variables)


def routes_file(server: RunningServer, folder: Path) -> Path:
    """The chart's routes, with the addresses that there are here."""
    text = named(rendered("gpu-plan-init"), "ConfigMap")["rel-nanotriton-routes"]["data"][
        "routes.json"
    ]
    host = "rel-nanotriton-stable-0.rel-nanotriton-stable.prod.svc.cluster.local"
    text = text.replace(f"{host}:8001", f"127.0.0.1:{server.grpc_port}")
    path = folder / "routes.json"
    path.write_text(text.replace(f"{host}:8002", f"127.0.0.1:{server.metrics_port}"))
    return path


def test_routes_are_put_in_force_once(
    server: RunningServer, gateway: RunningGateway, tmp_path: Path
) -> None:
    file = routes_file(server, tmp_path)

    first, second = (caller(gateway, "routes", file) for _ in range(2))

    assert "version 1 are in force\n" in first.stdout, first.stderr
    assert "in force already" in second.stdout, second.stderr


def test_completion_of_helm_test_comes(gateway: RunningGateway) -> None:
    done = caller(gateway, "completion", "def f(")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_everybody_is_answered_though_a_pod_is_missing(gateway: RunningGateway) -> None:
    secret = gateway.log_path.parent / "secret"
    words = ("-m", "gateway", "token", "--subject", "people", "--secret-file", secret)
    token = run(sys.executable, *words).stdout.strip()
    with gateway.http(headers={"Authorization": f"Bearer {token}"}) as http:
        seen = http.get("/health/ready").json()["backends"]
        # Half of them belong to the missing pod: that none of 16 does has the odds 1 to 65,536.
        asked = [{"prompt": "def f(", "max_tokens": 1, "user": f"{number}"} for number in range(16)]
        statuses = [http.post("/v1/completions", json=one).status_code for one in asked]

    assert {name: what == "ready" for name, what in seen.items()} == {
        "stable-0": True,
        "stable-1": False,
    }
    assert statuses == [200] * 16


def test_caller_of_another_release_is_told_in_one_line(gateway: RunningGateway) -> None:
    (other := gateway.log_path.parent / "other").write_text("another secret of 32 bytes or more")
    words = (FILES / "caller.py", "completion", gateway.url, "def f(")
    done = run(sys.executable, *words, JWT_SECRET_FILE=str(other), JWT_AUDIENCE="nanotriton")

    assert done.returncode == 1
    assert done.stderr.startswith("completion at http://")
    assert done.stderr.count("\n") == 1
    assert "401" in done.stderr


def test_caller_waits_for_a_gateway_that_is_not_there_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    done = run(
        *(sys.executable, FILES / "caller.py", "completion", url, "def f("),
        JWT_SECRET_FILE=str(tmp_path / "secret"),
        JWT_AUDIENCE="nanotriton",
        MAX_WAIT_S="0",
    )

    assert done.returncode == 1
    assert "refused" in done.stderr


@pytest.fixture
def claims(tmp_path: Path) -> tuple[Path, Path]:
    """A claim with a model, and the folder of archives."""
    claims, archives = tmp_path / "claims", tmp_path / "archives"
    version = claims / "models" / "gpt" / "1"
    version.mkdir(parents=True)
    archives.mkdir()
    (version / "manifest.json").write_text("{}")
    (version / "model.onnx").write_bytes(b"weights")
    return claims, archives


def models(action: str, claims: Path, archives: Path) -> subprocess.CompletedProcess[str]:
    return run("sh", FILES / "models.sh", action, CLAIMS=str(claims), ARCHIVES=str(archives))


def test_models_are_kept_once_and_come_back(claims: tuple[Path, Path]) -> None:
    source, archives = claims
    first, second = (models("backup", source, archives) for _ in range(2))
    (source / "models").rename(source.parent / "lost")
    (source / "models").mkdir()

    restored = models("restore", source, archives)

    assert first.stdout.count("models-models-") == 1, first.stderr
    assert second.stdout == ""
    assert restored.returncode == 0, restored.stderr
    assert (source / "models" / "gpt" / "1" / "model.onnx").read_bytes() == b"weights"


def test_a_claim_that_holds_files_is_left_alone(claims: tuple[Path, Path]) -> None:
    source, archives = claims
    models("backup", source, archives)
    (source / "models" / "gpt" / "1" / "model.onnx").write_bytes(b"newer")

    done = models("restore", source, archives)

    assert "left alone" in done.stdout
    assert (source / "models" / "gpt" / "1" / "model.onnx").read_bytes() == b"newer"


def test_nothing_to_restore_from_is_said(claims: tuple[Path, Path]) -> None:
    source, archives = claims
    (source / "empty").mkdir()

    done = models("restore", source, archives)

    assert done.returncode == 1
    assert "holds no models-empty-" in done.stderr


def test_where_no_models_lie_in_claims_nothing_is_done(tmp_path: Path) -> None:
    done = models("backup", tmp_path, tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
