"""Loading: plain tritonserver serves the repository; a broken version never becomes ready."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import RunningServer, free_ports, start_server, wait_until
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from nanotriton.__main__ import main
from nanotriton.installation import find_installation


def test_plain_tritonserver_serves_the_repository(demo_repository: Path, tmp_path: Path) -> None:
    installation = find_installation(tmp_path)
    http_port, grpc_port, metrics_port = free_ports(3)
    flags = [
        f"--model-repository={demo_repository}",
        f"--http-port={http_port}",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics_port}",
    ]
    url = f"http://localhost:{http_port}/v2/models/completion/generate"

    def completes() -> bool:
        body = json.dumps({"text_input": "def f(", "max_tokens": 2}).encode()
        try:
            with urllib.request.urlopen(url, body, timeout=10) as response:
                return bool(json.load(response)["text_output"])
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*installation.command, *flags],
            env=dict(installation.environment),
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(completes, 60)
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def own_server(
    demo_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server with a repository that no other test sees."""
    folder = tmp_path_factory.mktemp("own")
    repository = Path(shutil.copytree(demo_repository, folder / "repository"))
    running = start_server(repository, folder / "log", "--engine=max_slots=3", "--engine=threads=1")
    yield running
    running.stop()


def test_engine_is_set_by_the_command_line(own_server: RunningServer) -> None:
    engine = own_server.engine()
    engine.wait_ready(30)

    assert engine.stats()["num_slots"] == 3
    engine.close()


def break_graph(version: Path) -> None:
    """A model that can't be loaded."""
    (version / "model.onnx").write_bytes(b"torn")


def break_tokenizer(version: Path) -> None:
    """A tokenizer with fewer tokens than the model."""
    chars = json.dumps({"kind": "char", "chars": ["a", "b"]})
    (version / "tokenizer.json").write_text(chars)


def break_weights(version: Path) -> None:
    """Weights that end too early."""
    path = version / "model.onnx.data"
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [break_graph, break_tokenizer, break_weights])
def test_broken_version_is_not_served(
    demo_repository: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    repository = Path(shutil.copytree(demo_repository, tmp_path / "repository"))
    damage(repository / "gpt/1")

    assert main(["serve", "--model-repository", str(repository)]) == 1

    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("nanotriton: ") for line in lines)
    assert "export the model again" in lines[0]


@pytest.mark.parametrize("damage", [break_graph, break_tokenizer, break_weights])
def test_broken_new_version_leaves_the_old_one_serving(
    own_server: RunningServer, damage: Callable[[Path], None]
) -> None:
    old = own_server.repository / "gpt/1"
    new = Path(shutil.copytree(old, own_server.repository / "gpt/2"))
    damage(new)
    with own_server.client() as client:
        before = client.complete("def f(", max_tokens=8)
        triton = InferenceServerClient(f"localhost:{own_server.grpc_port}")

        with pytest.raises(InferenceServerException, match="the engine did not start"):
            triton.load_model("gpt")

        triton.close()
        shutil.rmtree(new)
        assert client.complete("def f(", max_tokens=8) == before


def test_metrics_count_completions(server: RunningServer) -> None:
    def count() -> float:
        url = f"http://localhost:{server.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            lines = response.read().decode().splitlines()
        name = 'nv_inference_request_success{model="completion"'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = count()
    with server.client() as client:
        client.complete("def f(", max_tokens=2)

    assert count() == before + 1
