"""References into a model registry: what they lead to, and how wrong ones are refused."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main
from export.registry import fetched
from nanotriton.errors import ArtifactError, CheckpointError
from training.registry import Target, connect

EXPERIMENT, TOKENIZER = "test", "tokenizer.tiktoken"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local registry of model `m`: 1 and 2 are checkpoints, 3 is a text, 4 isn't what it says."""
    folder = tmp_path_factory.mktemp("store") / "registry"
    target = Target(str(folder), "m", Path())
    client = connect(target)
    client.create_experiment(EXPERIMENT, target.artifacts)
    client.create_registered_model("none")
    for content in (b"one", b"two"):
        put(client, folder.parent, "m", {"ckpt.pt": content, TOKENIZER: b""})
    put(client, folder.parent, "m", {"notes.txt": b""})
    put(client, folder.parent, "m", {"ckpt.pt": b"four"}, sha256="0" * 64)
    client.set_registered_model_alias("m", "live", 1)
    return folder


def put(
    client: Any,
    folder: Path,
    name: str,
    files: dict[str, bytes],
    sha256: str | None = None,
) -> None:
    """Register a version of these files."""
    if name not in [one.name for one in client.search_registered_models()]:
        client.create_registered_model(name)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    run_id = client.create_run(experiment.experiment_id).info.run_id
    for file, content in files.items():
        (folder / file).write_bytes(content)
        client.log_artifact(run_id, str(folder / file), "files")
    sha256 = sha256 or hashlib.sha256(files.get("ckpt.pt", b"")).hexdigest()
    client.create_model_version(name, f"runs:/{run_id}/files", run_id, tags={"sha256": sha256})


@pytest.fixture
def registered(store: Path, nanogpt: Callable[..., Path]) -> Iterator[str]:
    """A reference to a tiny model."""
    client = connect(Target(str(store), "tiny", Path()))
    path = nanogpt()
    files = {name: (path.parent / name).read_bytes() for name in ("ckpt.pt", TOKENIZER)}
    put(client, path.parent, "tiny", files)
    yield "mlflow:models/tiny/latest"
    client.delete_registered_model("tiny")


@pytest.mark.parametrize(("version", "content"), [("1", b"one"), ("2", b"two"), ("live", b"one")])
def test_reference_leads_to_a_checkpoint_and_its_tokenizer(
    store: Path, version: str, content: bytes
) -> None:
    with fetched(f"mlflow:models/m/{version}", str(store)) as path:
        assert path.read_bytes() == content
        assert (path.parent / TOKENIZER).is_file()
    assert not path.parent.exists()


def test_every_stage_takes_a_reference(
    store: Path, registered: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, work = ["--registry", str(store)], str(tmp_path / "work")
    assert main(["checkpoint", registered, *place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vocab_size"] == 283
    assert main(["graph", registered, *place, "--out", work]) == 0
    short = ["--tokens", "300", "--threads", "1"]
    assert main(["parity", work, registered, *place, *short]) == 0


def test_registry_is_named_by_the_environment(
    store: Path, registered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
    assert main(["checkpoint", registered]) == 0


@pytest.mark.parametrize(
    ("reference", "refusal"),
    [
        ("mlflow:m/1", "mlflow:m/1 is no reference to a registered model: write it as"),
        ("mlflow:models/m", "no reference"),
        ("mlflow:models/m/1/ckpt.pt", "no reference"),
        ("mlflow:models/a'b/1", "no reference"),
        ("mlflow:models/other/1", "no model 'other', it has m, none: check"),
        ("mlflow:models/none/latest", "none has no version"),
        ("mlflow:models/m/9", "m has no version '9', its newest version is 4 .* live"),
        ("mlflow:models/m/dead", "m has no alias 'dead', its newest version is 4 .* live"),
        ("mlflow:models/m/3", "version 3 of m has no ckpt.pt, it has notes.txt"),
        ("mlflow:models/m/latest", "version 4 of m has SHA-256 .* registered with 000000000000"),
    ],
)
def test_wrong_reference_is_refused(store: Path, reference: str, refusal: str) -> None:
    with (
        pytest.raises(CheckpointError, match=refusal) as raised,
        fetched(reference, str(store)),
    ):
        pass
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "refusal"),
    [
        ("absent", "registry absent has no mlflow.db"),
        ("http://127.0.0.1:9", "registry http://127.0.0.1:9 cannot be reached"),
        ("http://me:pw@host", "set MLFLOW_TRACKING_USERNAME"),
    ],
    ids=["no folder", "nobody there", "password"],
)
def test_registry_that_cannot_be_used_is_refused(
    place: str, refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=refusal), fetched("mlflow:models/m/1", place):
        pass
    assert not list(tmp_path.iterdir())


def test_missing_mlflow_names_the_extra(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with (
        pytest.raises(ArtifactError, match=r"pip install '\.\[registry\]'"),
        fetched("mlflow:models/m/1", str(store)),
    ):
        pass


def test_error_of_a_stage_is_one_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "mlflow:models/m/9", "--registry", str(store)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
