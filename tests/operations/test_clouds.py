"""What managed clouds are given: the archive on a real Triton with SageMaker's front."""

import json
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT, RunningServer, free_ports, wait_until

from export.archive import write_archive
from nanotriton.installation import find_installation

CLOUDS = ROOT / "docs" / "clouds"
MODEL = json.loads((CLOUDS / "sagemaker/model.json").read_text())
DEPLOYMENT = yaml.safe_load((CLOUDS / "azureml/deployment.yaml").read_text())


def ask(url: str, body: bytes | None = None) -> dict[str, Any]:
    """The answer's JSON, or nothing for an empty answer."""
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
        return dict(json.loads(answer.read() or b"{}"))


def is_up(url: str) -> bool:
    try:
        ask(url)
    except OSError:
        return False
    return True


@pytest.fixture
def sagemaker(demo_repository: Path, tmp_path: Path) -> Iterator[str]:
    """Triton on the unpacked archive, told what the `serve` of NVIDIA's image tells it."""
    write_archive(demo_repository, tmp_path / "model.tar.gz")
    folder = tmp_path / "opt/ml/model"
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    environment = MODEL["PrimaryContainer"]["Environment"]
    [port] = free_ports(1)
    words = [
        *("--allow-sagemaker=true", "--allow-grpc=false", "--allow-http=false"),
        *("--allow-metrics=false", "--model-control-mode=explicit", "--model-namespacing=true"),
        f"--model-repository={folder}/",
        f"--sagemaker-port={port}",
        f"--load-model={environment['SAGEMAKER_TRITON_DEFAULT_MODEL_NAME']}",
        "--backend-config=python,shm-default-byte-size="
        + environment["SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE"],
    ]
    installation = find_installation(tmp_path)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*installation.command, *words],
            env={**installation.environment, **environment},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_up(f"{url}/ping") or process.poll() is not None, 60)
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_archive_completes_behind_sagemakers_front(sagemaker: str) -> None:
    body = (CLOUDS / "sagemaker/request.json").read_bytes()

    told = ask(f"{sagemaker}/invocations", body)

    outputs = {one["name"]: one["data"] for one in told["outputs"]}
    assert outputs["text_output"][0]
    assert outputs["finish_reason"] == ["length"]


def test_sagemakers_files_name_each_other() -> None:
    config = json.loads((CLOUDS / "sagemaker/endpoint-config.json").read_text())
    endpoint = json.loads((CLOUDS / "sagemaker/endpoint.json").read_text())

    assert [one["ModelName"] for one in config["ProductionVariants"]] == [MODEL["ModelName"]]
    assert endpoint["EndpointConfigName"] == config["EndpointConfigName"]
    assert (ROOT / "model_repository" / "completion").is_dir()


def test_azures_routes_answer(server: RunningServer) -> None:
    routes = DEPLOYMENT["environment"]["inference_config"]
    url = f"http://127.0.0.1:{server.http_port}"

    for name in ("liveness_route", "readiness_route"):
        assert ask(url + routes[name]["path"]) == {}
    body = (CLOUDS / "sagemaker/request.json").read_bytes()
    assert ask(url + routes["scoring_route"]["path"], body)["outputs"]


def test_azures_folder_is_where_the_model_is_mounted() -> None:
    model = DEPLOYMENT["model"]
    mounted = Path(DEPLOYMENT["model_mount_path"], model["name"], model["version"])
    folder = mounted / Path(model["path"]).name

    assert DEPLOYMENT["environment_variables"] == {"MODEL_REPOSITORY": str(folder)}
    assert (CLOUDS / "azureml" / model["path"]).resolve() == ROOT / "model_repository"
