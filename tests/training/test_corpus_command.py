"""The corpus and tokenizer commands: files, figures, and mistakes in one line."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from training.__main__ import main
from training.bpe import END_OF_TEXT, load_tokenizer
from training.corpus import read_documents


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    root.mkdir()
    for i in range(12):
        (root / f"f{i}.py").write_text(f"def f{i}(x):\n    return x + {i}\n" * 30)
    return root


def build(source: Path, out: Path, *options: str) -> None:
    assert main(["corpus", str(source), "--out", str(out), "--val-share", "0.3", *options]) == 0


def test_corpus_alone_writes_bytes_as_token_ids(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path)

    end = load_tokenizer(tmp_path).special_tokens[END_OF_TEXT]
    ids = np.fromfile(tmp_path / "train.bin", dtype="<u2")
    texts = [document.text for document in read_documents(tmp_path, "train")]
    assert end == 256
    assert bytes(ids[ids != end].tolist()).decode() == "".join(texts)
    assert (ids == end).sum() == len(texts)


def test_two_builds_are_equal_byte_for_byte(source: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        build(source, tmp_path / name)
        assert main(["tokenizer", str(tmp_path / name), "--vocab-size", "270"]) == 0

    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert {"train.bin", "val.bin", "corpus.json", "bins.json", "tokenizer.tiktoken"} <= set(files)
    assert all((tmp_path / "second" / name).read_bytes() == raw for name, raw in files.items())
    for name, digest in json.loads(files["bins.json"])["sha256"].items():
        assert hashlib.sha256(files[name]).hexdigest() == digest


def test_corpus_takes_a_trained_tokenizer(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "first")
    assert main(["tokenizer", "--data", str(tmp_path / "first"), "--vocab-size", "270"]) == 0
    build(source, tmp_path / "second", "--tokenizer", str(tmp_path / "first"))

    assert load_tokenizer(tmp_path / "second") == load_tokenizer(tmp_path / "first")
    bins = [(tmp_path / name / "val.bin").read_bytes() for name in ("first", "second")]
    assert bins[0] == bins[1]


def test_figures_are_reported(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(source, tmp_path, "--json")
    corpus = json.loads(capsys.readouterr().out)
    assert main(["tokenizer", str(tmp_path), "--vocab-size", "270", "--json"]) == 0
    tokenizer = json.loads(capsys.readouterr().out)

    assert sum(corpus["files"].values()) == 12
    assert corpus["bytes by licence"] == {"unknown": sum(corpus["bytes"].values())}
    held_out = tokenizer["val_bytes"] / tokenizer["val_tokens"]
    assert tokenizer["bytes a token, held out"] == round(held_out, 3) > 1
    assert 2.28 in tokenizer["bytes a token, gpt2's published example"].values()


def test_mistakes_are_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = str(tmp_path / "out")
    mistakes = {
        "is not a folder": ["corpus", str(tmp_path / "nowhere"), "--out", out],
        "has 0 of 12 files": ["corpus", str(source), "--out", out, "--val-share", "1e-9"],
        "cannot write": ["corpus", str(source), "--out", str(tmp_path / "file" / "out")],
        "no usable tokenizer": ["corpus", str(source), "--out", out, "--tokenizer", out],
        "near_duplicate is": ["corpus", str(source), "--out", out, "--near-duplicate", "2"],
        "train.jsonl is missing": ["tokenizer", str(tmp_path)],
    }

    for message, arguments in mistakes.items():
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
