"""Doctor and serve on repositories and machines that will not do: one line each, with the mend."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from nanotriton.__main__ import main
from nanotriton.doctor import examine


@pytest.fixture
def repository(demo_repository: Path, tmp_path: Path) -> Path:
    """A copy of the demo's repository, to be broken."""
    return Path(shutil.copytree(demo_repository, tmp_path / "repository"))


def edit_manifest(repository: Path, **values: object) -> None:
    """Change keys of the manifest."""
    path = repository / "gpt/1/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def append(path: Path) -> None:
    """Make a file another one."""
    path.write_bytes(path.read_bytes() + b" ")


def drop_markers(repository: Path) -> None:
    """A model said to fill in the middle, and a tokenizer of as many ids without a mark."""
    edit_manifest(repository, infill=True)
    path = repository / "gpt/1/tokenizer.json"
    path.write_text(path.read_text().replace("<|fim_middle|>", "<|other|>"))


BROKEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no version": (
        lambda it: shutil.rmtree(it / "gpt/1"),
        "manifest",
        "python -m export all CHECKPOINT",
    ),
    "newer format": (
        lambda it: edit_manifest(it, format_version=9),
        "manifest",
        "format_version 9",
    ),
    "file changed": (lambda it: append(it / "gpt/1/model.onnx.data"), "files", "SHA-256 differs"),
    "file missing": (lambda it: (it / "gpt/1/model.onnx").unlink(), "files", "is missing"),
    "adapter missing": (lambda it: (it / "gpt/1/model.py").unlink(), "files", "is missing"),
    "graph torn": (
        lambda it: (it / "gpt/1/model.onnx").write_bytes(b"torn"),
        "runtime",
        "does not load",
    ),
    "another tokenizer": (
        lambda it: edit_manifest(it, vocab_size=50257),
        "tokenizer",
        "tokens, the model's vocabulary is 50257",
    ),
    "infill without its tokens": (drop_markers, "tokenizer", "<|fim_middle|>"),
    "model folder gone": (
        lambda it: shutil.rmtree(it / "completion"),
        "repository",
        "lacks completion",
    ),
    "larger than memory": (
        lambda it: edit_manifest(it, context=2**40),
        "memory",
        "lower max_slots",
    ),
}


def test_healthy_repository_has_only_good_findings(
    demo_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(demo_repository)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok ") for line in lines)


def test_both_graphs_of_a_version_are_looked_at(auto_repository: Path, tmp_path: Path) -> None:
    seen = {one.subject: one.seen for one in examine(auto_repository) if one.is_good}
    assert "auto, 5 layers" in seen["manifest"]
    assert "int4 for decode steps of up to 4 rows" in seen["manifest"]
    assert seen["files"].startswith("6 files, ")
    assert seen["runtime"].endswith("loads model.onnx and model.int4.onnx")

    repository = Path(shutil.copytree(auto_repository, tmp_path / "repository"))
    (repository / "gpt/1/model.int4.onnx").write_bytes(b"torn")
    bad = {one.subject: one.seen for one in examine(repository) if not one.is_good}
    assert "model.int4.onnx is not the file" in bad["files"]
    assert "does not load model.int4.onnx" in bad["runtime"]


@pytest.mark.parametrize(("damage", "subject", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_named(
    repository: Path, damage: Callable[[Path], None], subject: str, words: str
) -> None:
    damage(repository)

    bad = {one.subject: one.seen for one in examine(repository) if not one.is_good}

    assert words in bad[subject]
    assert "\n" not in bad[subject]


def test_json_findings_can_be_read(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(repository / "gpt/1/model.onnx.data")

    assert main(["doctor", str(repository), "--json"]) == 1

    findings = json.loads(capsys.readouterr().out)
    assert [one["subject"] for one in findings if not one["is_good"]] == ["files"]


def test_serve_refuses_a_repository_without_artifacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model-repository", str(tmp_path)]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("nanotriton: ") for line in lines)
    assert "python -m export all CHECKPOINT" in lines[-1]


def test_serve_refuses_a_port_that_is_taken(
    demo_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        status = main(["serve", "--model-repository", str(demo_repository), "--http-port", port])

    assert status == 1
    assert f"--http-port {port}" in capsys.readouterr().err
