"""The released folder: Hugging Face's own GPT-2 reads it and computes the same."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from training.__main__ import main
from training.bpe import TokenizerSpec, load_tokenizer
from training.checkpoint import Progress, load_checkpoint, model_from, save_checkpoint
from training.config import TrainConfig
from training.errors import CheckpointError, ConfigError, TokenizerError
from training.gpt import GPT, GPTConfig
from training.pretrained import CONV1D
from training.release import FILES, release
from training.sample import SampleConfig, sample_middle, sample_text
from training.samples import Hole, Samples
from training.subject import file_sha256
from training.train import CURVE

SIZES = ["n_layer=2", "n_head=2", "n_embd=32", "block_size=32", "batch_size=4", "max_steps=8"]


@pytest.fixture(scope="module")
def checkpoint(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("run")
    settings = [part for size in SIZES for part in ("--set", size)]
    assert main(["train", "--data", str(data_dir), "--out", str(out_dir), *settings]) == 0
    return out_dir / "ckpt.pt"


@pytest.fixture(scope="module")
def folder(checkpoint: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("released")
    release(checkpoint, data_dir, out_dir, Samples(["def f("], sampling=SampleConfig(5)))
    return out_dir


def test_folder_holds_what_it_should(folder: Path, data_dir: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {*FILES, CURVE}
    assert load_tokenizer(folder) == load_tokenizer(data_dir)


def test_weights_are_the_checkpoints_in_half(folder: Path, checkpoint: Path) -> None:
    released = load_file(folder / "model.safetensors")
    trained = model_from(load_checkpoint(checkpoint)).state_dict()

    assert set(released) == set(trained) - {"lm_head.weight"}
    for name, half in released.items():
        weight = trained[name].t() if name.endswith(CONV1D) else trained[name]
        assert half.dtype == torch.float16
        assert half.equal(weight.half())


def test_huggingface_computes_the_same(folder: Path, checkpoint: Path) -> None:
    theirs = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    ours = model_from(load_checkpoint(checkpoint)).half().float().eval()
    ids = torch.arange(32)[None] * 7 % 512

    with torch.no_grad():
        # the same FP32 operations in another order
        assert torch.allclose(theirs(ids).logits, ours(ids), atol=1e-5)


def test_card_names_data_licence_and_numbers(folder: Path) -> None:
    card = (folder / "README.md").read_text()

    for part in ("| json |", "held-out loss", "--set n_layer=2", "8 steps", "def f("):
        assert part in card


def test_weights_too_large_for_half_are_refused(data_dir: Path, tmp_path: Path) -> None:
    model = GPT(GPTConfig(block_size=8, vocab_size=512, n_layer=1, n_head=2, n_embd=16))
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e6
    save_checkpoint(tmp_path / "ckpt.pt", model, {}, Progress(), {})

    with pytest.raises(CheckpointError, match="FP16 holds at most 65504"):
        release(tmp_path / "ckpt.pt", data_dir, tmp_path, Samples([]))


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"bias": False}, CheckpointError, "train with bias=true"),
        ({"vocab_size": 300}, TokenizerError, "has 512 ids, the model 300"),
    ],
    ids=["no bias", "small vocabulary"],
)
def test_model_that_does_not_map_is_refused(
    data_dir: Path, tmp_path: Path, sizes: dict[str, int], error: type[Exception], message: str
) -> None:
    base = {"block_size": 8, "vocab_size": 512, "n_layer": 1, "n_head": 2, "n_embd": 16}
    model = GPT(GPTConfig(**(base | sizes)))
    save_checkpoint(tmp_path / "ckpt.pt", model, {}, Progress(), {})

    with pytest.raises(error, match=message):
        release(tmp_path / "ckpt.pt", data_dir, tmp_path, Samples([]))


def evaluation_of(checkpoint: Path, sha256: str, folder: Path) -> Path:
    """What `evaluate --json` prints, with made-up figures."""
    share = {"num_right": 3, "count": 4, "share": 0.75, "interval_95": [0.3, 0.95]}
    parsing = {"parses": share, "unfinished": share, "ended": share, "mean_lines": 2.5}
    report = {
        "settings": {
            "checkpoint": str(checkpoint),
            "checkpoint_sha256": sha256,
            "max_tokens": None,
            "temperature": 0.4,
        },
        "likelihood": {"zlib": {"bits_per_byte": 1.875}},
        "parsing": {"model, greedy": parsing},
        "infill": share,
    }
    path = folder / "evaluation.json"
    path.write_text(json.dumps(report))
    return path


def test_card_holds_the_evaluation_and_no_path(
    checkpoint: Path, data_dir: Path, tmp_path: Path
) -> None:
    evaluation = evaluation_of(checkpoint, file_sha256(checkpoint), tmp_path)
    release(checkpoint, data_dir, tmp_path, Samples([]), evaluation)
    card = (tmp_path / "README.md").read_text()

    for part in ("1.875", "model, greedy", "3/4", "must not be used", f"]({CURVE})"):
        assert part in card
    assert str(checkpoint.parent) not in card


def test_evaluation_of_another_checkpoint_is_refused(
    checkpoint: Path, data_dir: Path, tmp_path: Path
) -> None:
    for evaluation, message in (
        (evaluation_of(checkpoint, "0" * 64, tmp_path), "evaluate this one"),
        (tmp_path / "nowhere.json", "cannot read"),
    ):
        with pytest.raises(CheckpointError, match=message):
            release(checkpoint, data_dir, tmp_path / "out", Samples([]), evaluation)
    assert not (tmp_path / "out").exists()


def test_only_a_model_trained_for_it_fills_holes(checkpoint: Path, spec: TokenizerSpec) -> None:
    model = model_from(load_checkpoint(checkpoint))
    samples = Samples(["def"], [Hole("a = ", "\n")], SampleConfig(5))
    without, trained = (
        samples.draw(model, spec, TrainConfig(fim_rate=rate)).as_markdown() for rate in (0.0, 0.5)
    )

    assert "a = " not in without
    middle = sample_middle(model, spec, "a = ", "\n", samples.sampling, suffix_first=True)
    assert f"a = \u27e6{middle}\u27e7\n" in trained


def test_same_seed_samples_the_same_text(checkpoint: Path, spec: TokenizerSpec) -> None:
    model = model_from(load_checkpoint(checkpoint))
    texts = [sample_text(model, spec, "def", SampleConfig(10, seed=seed)) for seed in (1, 1, 2)]

    assert texts[0] == texts[1] != texts[2]
    with pytest.raises(ConfigError, match="prompt is empty"):
        sample_text(model, spec, "", SampleConfig())
