"""nanoGPT's ckpt.pt in, a raw checkpoint out.

Read with torch's restricted unpickler, so that a hostile file runs nothing, and mapped into memory,
so that the optimizer's state beside the weights is never read. Knows nothing of tokenizers.
"""

import pickle
import re
from pathlib import Path
from typing import Any

from export.architecture import (
    ACTIVATIONS,
    Array,
    Config,
    RawCheckpoint,
    missing_file,
    split_width,
)
from nanotriton.errors import CheckpointError
from nanotriton.manifest import sha256_file

COMPILED_PREFIX = "_orig_mod."  # torch.compile's


def read_nanogpt(path: Path) -> RawCheckpoint:
    """Read a checkpoint of nanoGPT's train.py; raises CheckpointError."""
    if not path.is_file():
        raise missing_file(path)
    content = _load(path)
    model_args = content.get("model_args") if isinstance(content, dict) else None
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model_args, dict) or not isinstance(weights, dict):
        raise CheckpointError(
            f"{path} holds no 'model' and 'model_args', so it is no nanoGPT checkpoint: give a "
            "ckpt.pt of nanoGPT's train.py or a GPT-2 folder"
        )
    settings = content.get("config")  # the trainer's; nanoGPT's own know no fim_rate
    return RawCheckpoint(
        config=_config(path, model_args),
        weights={
            str(name).removeprefix(COMPILED_PREFIX): _to_array(path, name, tensor)
            for name, tensor in weights.items()
        },
        out_first=True,
        sha256=sha256_file(path),
        fim_rate=settings.get("fim_rate") if isinstance(settings, dict) else None,
        fim_spm_rate=settings.get("fim_spm_rate") if isinstance(settings, dict) else None,
    )


def _load(path: Path) -> Any:
    try:
        import torch  # noqa: PLC0415, only this reader needs it
    except ImportError:
        raise CheckpointError(
            f"reading {path} needs PyTorch: install `nanotriton[training]`"
        ) from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks to load {found[1]}" if found else "it is not what torch.save writes"
        raise CheckpointError(
            f"{path} is refused, {what}: a checkpoint may hold only tensors and plain values"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n", 1)[0][:160]
        raise CheckpointError(
            f"{path} is truncated or no PyTorch file ({reason}): copy it again"
        ) from None


def _config(path: Path, model_args: dict[str, Any]) -> Config:
    # nanoGPT itself has only nn.GELU(); our trainer names another one when it tunes GPT-2.
    activation = model_args.get("activation", "gelu")
    if activation not in ACTIVATIONS:
        raise CheckpointError(
            f"{path} has the activation {activation!r}, known are {', '.join(ACTIVATIONS)}"
        )
    try:
        return Config(
            num_layers=model_args["n_layer"],
            num_heads=model_args["n_head"],
            head_dim=split_width(model_args["n_embd"], model_args["n_head"]),
            vocab_size=model_args["vocab_size"],
            context=model_args["block_size"],
            mlp_width=4 * model_args["n_embd"],
            activation=ACTIVATIONS[activation],
            bias=bool(model_args.get("bias", True)),  # the first nanoGPTs had no choice
        )
    except KeyError as error:
        raise CheckpointError(
            f"{path} lacks {error} in its model_args: give a ckpt.pt of nanoGPT's train.py"
        ) from None


def _to_array(path: Path, name: object, tensor: Any) -> Array:
    try:
        array: Array = tensor.detach().float().numpy()
    except (AttributeError, RuntimeError, TypeError):
        raise CheckpointError(
            f"{path} has {name!r} of type {type(tensor).__name__}, not a dense tensor: give a "
            "ckpt.pt of nanoGPT's train.py"
        ) from None
    return array
