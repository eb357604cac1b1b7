"""Tiny random checkpoints in every accepted form, and runners over them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY, random_gpt, state_of, write_ranks
from transformers import GPT2Config, GPT2LMHeadModel

from nanotriton.runners.ort import OrtRunner


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


@pytest.fixture
def runner_of(artifact_of: Callable[[str], Path]) -> Callable[[str], OrtRunner]:
    """A fresh runner of four slots over `artifact_of` a precision."""
    return lambda precision: OrtRunner(artifact_of(precision), num_slots=4, num_threads=1)
