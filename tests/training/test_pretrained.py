"""A Hugging Face GPT-2 folder becomes the same model, and training goes on from it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from training.bpe import load_tokenizer, save_tokenizer
from training.checkpoint import load_checkpoint, model_from
from training.config import TrainConfig
from training.errors import CheckpointError, ConfigError, TokenizerError
from training.pretrained import load_pretrained
from training.release import huggingface_config
from training.train import Trainer

SIZES = {"n_positions": 48, "vocab_size": 512, "n_layer": 2, "n_head": 2, "n_embd": 32}
TRAINING = {"batch_size": 4, "max_steps": 3, "eval_batches": 1, "block_size": 32}


def write_folder(folder: Path, **settings: object) -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(**(SIZES | settings), bos_token_id=0, eos_token_id=0)  # type: ignore[arg-type]
    model = GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that GELU bends and biases count
    model.save_pretrained(folder)
    return model


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh"])
def test_logits_are_transformers(tmp_path: Path, activation: str) -> None:
    theirs = write_folder(tmp_path, activation_function=activation)
    ours = load_pretrained(tmp_path, block_size=32, dropout=0.0).eval()
    ids = torch.arange(32)[None] * 7 % 512

    with torch.no_grad():
        # logits of some tens, the same FP32 operations in another order; the other GELU is 1e-2 off
        assert torch.allclose(theirs(ids).logits, ours(ids), atol=2e-4)


def test_openais_own_names_are_read(tmp_path: Path) -> None:
    write_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    bare = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    expected = load_pretrained(tmp_path, 48, 0.0).state_dict()
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 48, 48)}, path)

    for name, weight in load_pretrained(tmp_path, 48, 0.0).state_dict().items():
        assert weight.equal(expected[name])


def test_fine_tuning_starts_there_and_keeps_the_activation(data_dir: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "gpt2")
    config = TrainConfig(init_from=str(tmp_path / "gpt2"), learning_rate=1e-3, **TRAINING)  # type: ignore[arg-type]
    trainer = Trainer(config, data_dir, tmp_path)
    start = load_pretrained(tmp_path / "gpt2", 32, 0.0).state_dict()

    assert all(w.equal(start[name]) for name, w in trainer.learner.model.state_dict().items())
    trainer.run()
    tuned = model_from(load_checkpoint(tmp_path / "ckpt.pt"))
    assert tuned.config.activation == "gelu_new"
    assert load_checkpoint(tmp_path / "ckpt.pt")["config"]["n_layer"] == 2
    assert huggingface_config(tuned.config, 0)["activation_function"] == "gelu_new"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"n_inner": 64}, "n_inner is 64, this model has only 128"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
        ({"n_layer": 3}, "does not hold the tensors.*transformer.h.2"),
        ({"vocab_size": 500}, "wte.weight is .512, 32., config.json asks for .500, 32."),
    ],
)
def test_folder_of_another_model_is_refused(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    write_folder(tmp_path)
    change_config(tmp_path, **values)

    with pytest.raises(CheckpointError, match=message):
        load_pretrained(tmp_path, 32, 0.0)


def test_sizes_that_contradict_the_folder_are_refused(data_dir: Path, tmp_path: Path) -> None:
    write_folder(tmp_path)
    start = {"init_from": str(tmp_path)} | TRAINING

    with pytest.raises(ConfigError, match=r"n_layer is 7, .* has 2: leave it out"):
        Trainer(TrainConfig(**(start | {"n_layer": 7})), data_dir, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"block_size is 64, .* reads 48: lower it"):
        Trainer(TrainConfig(**(start | {"block_size": 64})), data_dir, tmp_path)  # type: ignore[arg-type]


def test_data_of_another_tokenizer_is_refused(data_dir: Path, tmp_path: Path) -> None:
    write_folder(tmp_path)
    spec = load_tokenizer(data_dir)
    ranks = list(spec.ranks)
    swapped = dict(spec.ranks) | {ranks[0]: spec.ranks[ranks[1]], ranks[1]: spec.ranks[ranks[0]]}
    save_tokenizer(type(spec)(swapped, spec.pattern, spec.special_tokens), tmp_path)
    config = TrainConfig(init_from=str(tmp_path), **TRAINING)  # type: ignore[arg-type]

    with pytest.raises(TokenizerError, match="have different tokenizers"):
        Trainer(config, data_dir, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_told(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(CheckpointError, match=name):
        load_pretrained(tmp_path, 32, 0.0)
