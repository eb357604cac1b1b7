"""The model registry: real runs into a real MLflow server and a local store, and out by export."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from registries import RegistryServer, Wire

from export.__main__ import main as export
from nanotriton.manifest import Manifest
from training.__main__ import main
from training.config import load_config
from training.errors import RegistryError
from training.recording import METRICS, Recording, read_state
from training.registry import Target, connect
from training.runlog import RunLog
from training.subject import file_sha256
from training.train import BEST, LAST, LOG, Trainer

SETTINGS = (
    *("n_layer=1", "n_head=2", "n_embd=32", "block_size=64", "batch_size=2", "max_steps=2"),
    *("eval_every=1", "eval_batches=1", "log_every=1"),
)
QUICK = ("--tokens", "300", "--threads", "1", "--min-top1", "0", "--min-greedy", "0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Shared by the tests here; each takes a model's name of its own."""
    running = RegistryServer(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


def train(data_dir: Path, out_dir: Path, *words: str, settings: tuple[str, ...] = ()) -> int:
    sets = [word for one in (*SETTINGS, *settings) for word in ("--set", one)]
    return main(["train", "--data", str(data_dir), "--out", str(out_dir), *sets, *words, "--json"])


def client_of(place: str) -> Any:
    return connect(Target(place, "any", Path()))


def points(client: Any, run_dir: Path) -> list[tuple[str, int, float]]:
    """Everything that MLflow knows of the run's metrics, by name and step."""
    run_id = read_state(run_dir).run_id  # type: ignore[union-attr]
    return sorted(
        (one.key, one.step, one.value)
        for name in METRICS
        for one in client.get_metric_history(run_id, name)
    )


def logged(run_dir: Path) -> list[tuple[str, int, float]]:
    """The same from the run's own log."""
    records = RunLog(run_dir / LOG).records()
    return sorted(
        (name, one["step"], one[name]) for one in records for name in METRICS if name in one
    )


def test_run_goes_to_the_server_and_out_by_export(
    server: RegistryServer,
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir, repository = tmp_path / "run", tmp_path / "repository"
    assert train(data_dir, run_dir, "--registry", server.uri, "--register", "whole") == 0
    assert json.loads(capsys.readouterr().out)["registered"] == "mlflow:models/whole/1"
    client = client_of(server.uri)
    run = client.get_run(read_state(run_dir).run_id)  # type: ignore[union-attr]
    assert run.info.status == "FINISHED"
    assert run.data.params == {k: str(v) for k, v in asdict(load_config(None, SETTINGS)).items()}
    assert points(client, run_dir) == logged(run_dir)
    assert {one.path for one in client.list_artifacts(run.info.run_id)} >= {LOG, "curve.png"}

    words = ["all", "mlflow:models/whole/latest", "--registry", server.uri]
    assert export([*words, "--repository", str(repository), *QUICK]) == 0
    manifest = Manifest.load(repository / "gpt" / "1")
    assert manifest.checkpoint_sha256 == file_sha256(run_dir / BEST)


def test_run_outlives_its_registry_and_is_logged_later(
    server: RegistryServer,
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wire = Wire(server.port)
    trainer = Trainer(load_config(None, SETTINGS), data_dir, tmp_path)
    target = Target(wire.uri, "late", data_dir)
    recording = Recording(target, tmp_path, asdict(trainer.config), resume=False)

    def cut_then_follow() -> None:
        wire.cut()
        recording.follow()

    with recording:
        assert trainer.run(cut_then_follow).step == 2
    assert recording.reference is None
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("registry:")]
    assert "cannot be reached" in told[0]
    assert "training goes on" in told[0]
    assert f"python -m training register {tmp_path}" in told[1]
    assert len(told) == 2

    wire.mend()
    assert main(told[1].split("python -m training ")[1].split()) == 0
    wire.cut()
    client = client_of(server.uri)
    assert read_state(tmp_path).run_id == recording.state.run_id  # type: ignore[union-attr]
    assert points(client, tmp_path) == logged(tmp_path)
    assert client.get_model_version("late", "1").tags["sha256"] == file_sha256(tmp_path / BEST)


def test_resumed_run_goes_on_in_the_same_mlflow_run(
    server: RegistryServer, data_dir: Path, tmp_path: Path
) -> None:
    assert train(data_dir, tmp_path, "--registry", server.uri, "--register", "on") == 0
    before, first = read_state(tmp_path), file_sha256(tmp_path / BEST)
    more = ("max_steps=4", "learning_rate=0.01")
    assert train(data_dir, tmp_path, "--registry", "--resume", settings=more) == 0

    after, client = read_state(tmp_path), client_of(server.uri)
    assert before is not None
    assert after is not None
    assert (after.run_id, after.name, after.sent_step) == (before.run_id, "on", 4)
    assert points(client, tmp_path) == logged(tmp_path)
    tags = client.get_run(after.run_id).data.tags
    assert {name: tags[f"resumed.{name}"] for name in ("max_steps", "learning_rate")} == {
        "max_steps": "4",
        "learning_rate": "0.01",
    }
    sums = {one.version: one.tags["sha256"] for one in client.search_model_versions("name = 'on'")}
    assert sums == {"1": first, "2": file_sha256(tmp_path / BEST)}


def test_failed_run_is_marked_as_failed(
    server: RegistryServer, data_dir: Path, tmp_path: Path
) -> None:
    target = Target(server.uri, "failed", data_dir)
    with pytest.raises(ZeroDivisionError), Recording(target, tmp_path, {}, False) as recording:
        _ = 1 / 0

    assert client_of(server.uri).get_run(recording.state.run_id).info.status == "FAILED"


def test_folder_is_a_registry_too_and_a_version_is_there_once(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert train(data_dir, Path("run")) == 0
    capsys.readouterr()
    assert main(["register", "run"]) == 1
    assert "give the folder of the data with --data" in capsys.readouterr().err

    for _ in range(2):
        assert main(["register", "run", "--data", str(data_dir)]) == 0
        assert capsys.readouterr().out == "registered: mlflow:models/nanotriton/1\n"
    (found,) = client_of("registry").search_model_versions()
    assert {one.path for one in client_of("registry").list_artifacts(found.run_id)} >= {LOG}


def test_unreachable_registry_is_refused_before_training(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started_s = time.monotonic()
    assert train(data_dir, tmp_path, "--registry", "http://127.0.0.1:9") == 1

    assert time.monotonic() - started_s < 20
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the registry http://127.0.0.1:9 cannot be reached: start it")
    assert not list(tmp_path.iterdir())


def test_silent_registry_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(RegistryError, match="cannot be reached"):
            client_of(uri)


def test_missing_mlflow_names_the_extra(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    assert train(data_dir, tmp_path, "--registry") == 1

    assert "pip install '.[registry]'" in capsys.readouterr().err
    assert not (tmp_path / LAST).exists()


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--register", "x"), "--register x needs --registry"),
        (("--registry", "--register", "a/b"), "the model's name is 'a/b'"),
        (("--registry", "http://me:pw@host"), "set MLFLOW_TRACKING_USERNAME"),
        (("--registry", "file:///tmp/none"), "maintenance mode"),
    ],
    ids=["name alone", "slash in name", "password in URI", "plain files"],
)
def test_wrong_registry_is_refused(
    data_dir: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    refusal: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(data_dir, tmp_path, *words) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert refusal in line
    assert "pw" not in line
