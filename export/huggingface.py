"""A Hugging Face GPT-2 folder (config.json, model.safetensors) in, a raw checkpoint out.

Settings that would change the arithmetic in a way that our graph doesn't compute are refused.
float16 and bfloat16 become float32. Knows nothing of tokenizers, and needs no torch.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from export.architecture import (
    ACTIVATIONS,
    Array,
    Config,
    RawCheckpoint,
    missing_file,
    split_width,
)
from nanotriton.errors import CheckpointError
from nanotriton.manifest import sha256_files

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

# Setting -> the only value that we compute, which is also its default.
ONLY_VALUES = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}
# BF16 is the upper half of a float32.
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def read_huggingface(folder: Path) -> RawCheckpoint:
    """Read a GPT-2 folder as `save_pretrained` writes it; raises CheckpointError."""
    values = _read_json(folder / CONFIG_FILE)
    config = _config(folder / CONFIG_FILE, values)
    weights: dict[str, Array] = {}
    files = _weight_files(folder)
    for path in files:
        weights |= _read_safetensors(path)
    return RawCheckpoint(
        config,
        weights,
        out_first=False,
        sha256=sha256_files([folder / CONFIG_FILE, *files]),
        fim_rate=values.get("fim_rate"),  # our own `training release` writes both
        fim_spm_rate=values.get("fim_spm_rate"),
    )


def _config(path: Path, values: dict[str, Any]) -> Config:
    kind = values.get("model_type")
    if kind != "gpt2":
        raise CheckpointError(
            f"{path} has model_type {kind!r}, only 'gpt2' is known: give a GPT-2 style checkpoint"
        )
    for name, value in ONLY_VALUES.items():
        if values.get(name, value) is not value:
            raise CheckpointError(
                f"{path} has {name} = {values[name]!r}, only {value} is computed: give a model "
                "trained without it"
            )
    function = values.get("activation_function", "gelu_new")
    if function not in ACTIVATIONS:
        raise CheckpointError(
            f"{path} has activation_function {function!r}, known are {', '.join(ACTIVATIONS)}: "
            "give a model trained with one of them"
        )
    try:
        return Config(
            num_layers=values["n_layer"],
            num_heads=values["n_head"],
            head_dim=split_width(values["n_embd"], values["n_head"]),
            vocab_size=values["vocab_size"],
            context=values["n_positions"],
            mlp_width=4 * values["n_embd"] if values.get("n_inner") is None else values["n_inner"],
            activation=ACTIVATIONS[function],
            epsilon=values.get("layer_norm_epsilon", 1e-5),
        )
    except KeyError as error:
        raise CheckpointError(f"{path} lacks {error}: give the config.json of a GPT-2") from None


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX_FILE
    if (folder / WEIGHTS_FILE).is_file() or not index.is_file():
        return [folder / WEIGHTS_FILE]
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index} has no weight_map: copy the folder again")
    for name in names.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index} names the file {name!r}, which is outside its folder")
    return [folder / name for name in sorted(set(names.values()))]


def _read_safetensors(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist: save the model with `save_pretrained(folder)`, which writes "
            "safetensors"
        )
    try:
        with safe_open(path, framework="numpy"):
            pass  # the library checks the header: every offset, shape and type against the file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file ({error}): copy it again"
        ) from None
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    return {
        name: _read_tensor(path, name, 8 + header_bytes, entry) for name, entry in header.items()
    }


def _read_tensor(path: Path, name: str, data_offset: int, entry: dict[str, Any]) -> Array:
    dtype = DTYPES.get(entry["dtype"])
    if dtype is None:
        if name.endswith((".attn.bias", ".attn.masked_bias")):  # causal masks of old files
            return np.empty(0, np.float32)
        raise CheckpointError(
            f"{path} has {name} in {entry['dtype']}, known are {', '.join(DTYPES)}: save the model "
            "in one of them"
        )
    raw = np.fromfile(
        path,
        dtype,
        count=int(np.prod(entry["shape"], dtype=np.int64)),
        offset=data_offset + entry["data_offsets"][0],
    ).reshape(entry["shape"])
    if dtype is np.uint16:
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing_file(path) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read ({error}): copy it again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is no JSON object: copy it again")
    return values
