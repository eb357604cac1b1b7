"""Tiny random checkpoints in every accepted form, and artifacts made of them."""

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from export.artifact import quantize_artifact, write_artifact
from export.checkpoint import Checkpoint, load_checkpoint
from nanotriton.runners.ort import OrtRunner
from training.gpt import GPT, GPTConfig

TINY = GPTConfig(block_size=64, vocab_size=320, n_layer=2, n_head=2, n_embd=32)
FIRSTS, SECONDS = b"etaoinsrhldcumfpgwybvkxjqz", b"rnhetsoadlicufmpgwbyvkxqjz"
MERGED = [bytes(pair) for pair in zip(FIRSTS, SECONDS, strict=True)]
RANKS = [bytes([byte]) for byte in range(256)] + sorted(set(MERGED))
NUM_TOKENS = len(RANKS) + 1  # <|endoftext|>


def write_ranks(path: Path) -> None:
    """A tiktoken file of every byte and a few pairs."""
    lines = (f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(RANKS))
    path.write_text("".join(lines))


def random_gpt(config: GPTConfig = TINY) -> GPT:
    """A model whose every tensor matters: norms, biases and large enough weights."""
    torch.manual_seed(7)
    model = GPT(config).eval()
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter.data) * 0.15
        parameter.data = 1 + noise if ".ln_" in name and name.endswith("weight") else noise
    model.transformer["wte"].weight = model.lm_head.weight
    return model


def state_of(model: GPT) -> dict[str, object]:
    """What nanoGPT's train.py saves."""
    return {"model": model.state_dict(), "model_args": asdict(model.config), "iter_num": 3}


@pytest.fixture
def nanogpt(tmp_path: Path) -> Callable[..., Path]:
    """Writes ckpt.pt and a ranks file; takes GPTConfig's fields and a change of the content."""

    def write(change: Callable[[dict], None] | None = None, **fields: object) -> Path:
        content = state_of(random_gpt(replace(TINY, **fields)))
        if change:
            change(content)
        torch.save(content, tmp_path / "ckpt.pt")
        write_ranks(tmp_path / "tokenizer.tiktoken")
        return tmp_path / "ckpt.pt"

    return write


@pytest.fixture
def huggingface(tmp_path: Path) -> Callable[..., Path]:
    """Writes a GPT-2 folder through transformers; takes GPT2Config's fields."""

    def write(dtype: torch.dtype = torch.float32, shard: str = "5GB", **fields: object) -> Path:
        torch.manual_seed(7)
        sizes = {"n_positions": 64, "vocab_size": 320, "n_layer": 2, "n_head": 2, "n_embd": 32}
        model = GPT2LMHeadModel(GPT2Config(**sizes | {"initializer_range": 0.15} | fields))
        model.to(dtype).save_pretrained(tmp_path / "gpt2", max_shard_size=shard)
        write_ranks(tmp_path / "gpt2" / "tokenizer.tiktoken")
        return tmp_path / "gpt2"

    return write


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Changes keys of a JSON file; None removes one."""

    def edit(path: Path, **values: object) -> None:
        merged = json.loads(path.read_text()) | values
        path.write_text(json.dumps({k: v for k, v in merged.items() if v is not None}))

    return edit


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny nanoGPT checkpoint with its tokenizer beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.save(state_of(random_gpt()), folder / "ckpt.pt")
    write_ranks(folder / "tokenizer.tiktoken")
    return folder / "ckpt.pt"


@pytest.fixture(scope="session")
def checkpoint(checkpoint_file: Path) -> Checkpoint:
    """The tiny nanoGPT checkpoint, loaded."""
    return load_checkpoint(checkpoint_file)


@pytest.fixture(scope="session")
def artifact_of(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The tiny checkpoint's artifact of a precision; read only."""
    folders: dict[str, Path] = {}

    def make(precision: str) -> Path:
        if precision not in folders:
            folder = tmp_path_factory.mktemp(precision)
            write_artifact(checkpoint, folder, "pytest")
            if precision != "fp32":
                quantize_artifact(folder, precision)
            folders[precision] = folder
        return folders[precision]

    return make


@pytest.fixture
def runner_of(artifact_of: Callable[[str], Path]) -> Callable[[str], OrtRunner]:
    """A fresh runner of four slots over `artifact_of` a precision."""
    return lambda precision: OrtRunner(artifact_of(precision), num_slots=4, num_threads=1)


@pytest.fixture(scope="session")
def ids() -> np.ndarray:
    """64 token ids, a whole context."""
    return np.random.default_rng(3).integers(0, NUM_TOKENS, 64)
