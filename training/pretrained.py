"""A Hugging Face GPT-2 folder in (config.json, model.safetensors); the model it holds out.

The inverse of ``release``. Knows nothing of tokenizers: the data must hold ids of the same one.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.errors import CheckpointError, ConfigError
from training.gpt import GPT, GPTConfig

# GPT-2's Conv1D keeps these matrices as (in, out), nn.Linear as (out, in).
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MASKS = (".attn.bias", ".attn.masked_bias")  # old files keep the causal mask
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new"}
# What transformers takes when config.json is silent, and the only value this model computes.
FIXED = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
}


def load_pretrained(folder: Path, block_size: int, dropout: float) -> GPT:
    """The folder's model in float32, its context cut to ``block_size``.

    Raises CheckpointError when the folder holds no GPT-2 that this model can compute, ConfigError
    when ``block_size`` is more than it has positions for.
    """
    config = read_shape(folder, block_size, dropout)
    model = GPT(config)
    model.load_state_dict(_weights(folder, config))
    return model


def read_shape(folder: Path, block_size: int, dropout: float) -> GPTConfig:
    """The sizes in ``config.json``."""
    path = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        positions, width = values["n_positions"], values["n_embd"]
        sizes = {name: values[name] for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no config.json of a GPT-2 ({error!r}): give a Hugging Face folder"
        ) from error
    activation = values.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise CheckpointError(
            f"{path}: activation_function is {activation!r}, known are {', '.join(ACTIVATIONS)}"
        )
    fixed = FIXED | {"model_type": "gpt2", "n_inner": 4 * width}
    for name, wanted in fixed.items():
        if (given := values.get(name)) is not None and given != wanted:
            raise CheckpointError(f"{path}: {name} is {given!r}, this model has only {wanted!r}")
    if block_size > positions:
        raise ConfigError(f"block_size is {block_size}, {folder} reads {positions}: lower it")
    kind = ACTIVATIONS[activation]
    return GPTConfig(block_size=block_size, dropout=dropout, activation=kind, **sizes)


def _weights(folder: Path, config: GPTConfig) -> dict[str, Tensor]:
    """Tensors under nanoGPT's names, float32, as (out, in)."""
    path = folder / "model.safetensors"
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path} ({error}): copy it anew") from error
    weights = {}
    for name, tensor in stored.items():
        full = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
        if not full.endswith(MASKS):
            weights[full] = (tensor.t() if full.endswith(CONV1D) else tensor).float()
    weights.setdefault("lm_head.weight", weights.get("transformer.wte.weight", torch.empty(0)))
    _check(path, weights, config)
    positions = weights["transformer.wpe.weight"]
    weights["transformer.wpe.weight"] = positions[: config.block_size]
    return weights


def _check(path: Path, weights: dict[str, Tensor], config: GPTConfig) -> None:
    with torch.device("meta"):
        expected = GPT(config).state_dict()
    if odd := sorted(expected.keys() ^ weights.keys()):
        raise CheckpointError(
            f"{path} does not hold the tensors its config.json asks for, for one {odd[0]}: "
            "is it complete, and a GPT-2?"
        )
    for name, tensor in expected.items():
        given, wanted = weights[name].shape, tensor.shape
        if given[1:] != wanted[1:] or (given[0] != wanted[0] and not name.endswith("wpe.weight")):
            raise CheckpointError(
                f"{path}: {name} is {tuple(given)}, config.json asks for {tuple(wanted)}: "
                "is the file damaged?"
            )
    if not torch.equal(weights["lm_head.weight"], weights["transformer.wte.weight"]):
        raise CheckpointError(
            f"{path}: lm_head.weight is not the embedding, this model ties the two: tie them first"
        )
