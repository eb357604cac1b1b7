"""A tiny random GPT and its tokenizer, as nanoGPT leaves them; small enough for any test."""

import base64
from dataclasses import asdict
from pathlib import Path

import torch

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
