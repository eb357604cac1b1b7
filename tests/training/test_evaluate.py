"""`evaluate` as a whole: both kinds of checkpoint, the same figures, mistakes in one line."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from training.__main__ import main
from training.bpe import save_tokenizer, train_tokenizer
from training.checkpoint import Progress, save_checkpoint
from training.gpt import GPT, GPTConfig
from training.release import release
from training.sample import SampleConfig
from training.samples import Samples
from training.subject import load_subject

QUICK = ("--samples", "4", "--max-tokens", "300")
SIZES = {"block_size": 64, "vocab_size": 512, "n_layer": 1, "n_head": 2, "n_embd": 16}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained, with weights that FP16 holds exactly."""
    path = tmp_path_factory.mktemp("run") / "ckpt.pt"
    torch.manual_seed(0)
    save_checkpoint(path, GPT(GPTConfig(**SIZES)).half().float(), {}, Progress(), {})
    return path


@pytest.fixture(scope="module")
def folder(checkpoint: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("released")
    release(checkpoint, data_dir, out_dir, Samples(["def f("], sampling=SampleConfig(2)))
    return out_dir


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> dict[str, Any]:
    assert main(["evaluate", *map(str, argv), *QUICK, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_report_holds_every_figure(
    checkpoint: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(capsys, checkpoint, "--data", data_dir, "--seed", "3")

    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert report["settings"]["checkpoint_sha256"] == digest
    assert report["settings"]["seed"] == 3
    likelihood = report["likelihood"]
    assert likelihood["model"]["perplexity"] == pytest.approx(512, rel=0.1)  # untrained
    assert likelihood["trigram"]["bits_per_byte"] < likelihood["model"]["bits_per_byte"]
    assert 0 < likelihood["zlib"]["bits_per_byte"] < 8
    assert [found["parses"]["count"] for found in report["parsing"].values()] == [4] * 5
    assert report["infill"] is None


def test_bytes_are_those_of_the_text(
    checkpoint: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = ("--data", str(data_dir), "--samples", "1", "--json")
    assert main(["evaluate", str(checkpoint), *everything]) == 0
    found = json.loads(capsys.readouterr().out)["likelihood"]["model"]

    bins = json.loads((data_dir / "bins.json").read_text())
    assert (found["num_tokens"], found["num_bytes"]) == (bins["val_tokens"], bins["val_bytes"])
    assert found["bits_per_byte"] == found["nats"] / math.log(2) / bins["val_bytes"]


def test_released_folder_measures_as_its_checkpoint(
    checkpoint: Path, folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(capsys, checkpoint, "--data", data_dir)
    second = run(capsys, folder, "--data", data_dir)

    weights = (folder / "model.safetensors").read_bytes()
    assert second["settings"]["checkpoint_sha256"] == hashlib.sha256(weights).hexdigest()
    assert {k: v for k, v in first.items() if k != "settings"} == {
        k: v for k, v in second.items() if k != "settings"
    }


def test_table_shows_what_the_model_is_held_against(
    folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder), "--data", str(data_dir), *QUICK]) == 0

    table = capsys.readouterr().out
    for part in ("bits/byte", "trigram, greedy", "zlib", "nothing added", "not trained"):
        assert part in table


@pytest.mark.parametrize(
    ("fim_rate", "is_trained"), [(0.5, True), (0.0, False)], ids=["trained", "not trained"]
)
def test_checkpoint_says_whether_it_fills_in(
    data_dir: Path, tmp_path: Path, fim_rate: float, is_trained: bool
) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(path, GPT(GPTConfig(**SIZES)), {}, Progress(), {"fim_rate": fim_rate})

    assert load_subject(path, data_dir).fim_trained is is_trained

    release(path, data_dir, tmp_path / "released", Samples(["def"], [], SampleConfig(1)))
    assert load_subject(tmp_path / "released", data_dir).fim_trained is is_trained
    config = tmp_path / "released" / "config.json"
    said = json.loads(config.read_text())
    assert said.pop("fim_rate") == fim_rate
    config.write_text(json.dumps(said))  # as it was before config.json told it
    assert load_subject(tmp_path / "released", data_dir).fim_trained is is_trained


def test_model_trained_to_fill_in_is_measured(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(path, GPT(GPTConfig(**SIZES)), {}, Progress(), {"fim_rate": 0.5})

    assert run(capsys, path, "--data", data_dir)["infill"]["count"] == 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--samples=0", "samples is 0, it must be at least 1"),
        ("--seed=-1", "seed is -1"),
        ("--temperature=0", "greedy is measured anyway"),
        ("--max-tokens=0", "max_tokens is 0"),
        ("--data=nowhere", "nowhere"),
    ],
    ids=["samples", "seed", "temperature", "max tokens", "data"],
)
def test_mistake_is_one_line(
    checkpoint: Path,
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    message: str,
) -> None:
    assert main(["evaluate", str(checkpoint), "--data", str(data_dir), option]) == 1

    output = capsys.readouterr()
    assert message in output.err
    assert (output.out, output.err.count("\n")) == ("", 1)


def test_missing_checkpoint_is_one_line(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for missing in (tmp_path / "ckpt.pt", tmp_path):
        assert main(["evaluate", str(missing), "--data", str(data_dir)]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_context_too_short_to_complete_in_is_refused(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(path, GPT(GPTConfig(**(SIZES | {"block_size": 8}))), {}, Progress(), {})

    assert main(["evaluate", str(path), "--data", str(data_dir)]) == 1
    assert "reads 8 tokens, completing takes 16" in capsys.readouterr().err


def test_other_tokenizer_than_the_datas_is_refused(
    folder: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, other = train_tokenizer(["def f(x):\n    return x\n" * 3], 270)
    save_tokenizer(other, tmp_path)
    for name in ("train.bin", "val.bin"):
        (tmp_path / name).write_bytes((data_dir / name).read_bytes())

    assert main(["evaluate", str(folder), "--data", str(tmp_path)]) == 1
    assert "have different tokenizers" in capsys.readouterr().err


def test_data_of_another_vocabulary_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train.bin", "val.bin"):
        (tmp_path / name).write_bytes(b"\xff\x0f" * 100)

    assert main(["evaluate", str(folder), "--data", str(tmp_path)]) == 1
    assert "holds id 4095, the tokenizer has 512 ids" in capsys.readouterr().err
