"""A training state in, ``ckpt.pt`` in nanoGPT's format out, and back.

Keys: model, optimizer, model_args, iter_num, best_val_loss, config as nanoGPT writes them, and
elapsed_s, the training time so far, and num_stale, the validations since the best. No random state:
data, dropout and FIM follow from (seed, step). A model with another activation than nanoGPT's says
so in model_args, so that nanoGPT refuses it instead of computing something else. Plain tensors and
containers only, so that ``torch.load(weights_only=True)`` reads it. Knows nothing of how the
weights came about.
"""

import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from training.errors import CheckpointError, ConfigError
from training.gpt import GPT, GPTConfig

COMPILE_PREFIX = "_orig_mod."  # torch.compile puts it before every parameter's name


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; ``best_val_loss`` in nats a token, infinite before it is measured.

    ``num_stale`` counts the validations since then.
    """

    step: int = 0
    elapsed_s: float = 0.0
    best_val_loss: float = float("inf")
    num_stale: int = 0


def save_checkpoint(
    path: Path,
    model: GPT,
    optimizer_state: dict[str, Any],
    progress: Progress,
    config: dict[str, Any],
) -> None:
    """Write the checkpoint so that ``path`` is at any moment either the old file or the new one."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer_state,
        "model_args": _model_args(model.config),
        "iter_num": progress.step,
        "best_val_loss": progress.best_val_loss,
        "elapsed_s": progress.elapsed_s,
        "num_stale": progress.num_stale,
        "config": config,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    with unfinished.open("wb") as out:
        torch.save(state, out)
        out.flush()
        os.fsync(out.fileno())  # else a power cut could leave the new name on missing content
    os.replace(unfinished, path)


def _model_args(config: GPTConfig) -> dict[str, Any]:
    args = asdict(config)
    if config.activation == GPTConfig().activation:
        del args["activation"]
    return args


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's dict on the CPU; raises CheckpointError when it is missing or damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(f"cannot read {path} ({error}): train or copy it anew") from error
    missing = {"model", "model_args"} - set(state) if isinstance(state, dict) else {"model"}
    if missing:
        raise CheckpointError(
            f"{path} has no {', '.join(sorted(missing))}: it is no nanoGPT checkpoint"
        )
    return dict(state)


def model_from(state: dict[str, Any]) -> GPT:
    """The model of a loaded checkpoint; raises CheckpointError when weights and sizes disagree."""
    weights = {name.removeprefix(COMPILE_PREFIX): w for name, w in state["model"].items()}
    try:
        model = GPT(GPTConfig(**state["model_args"]))
        model.load_state_dict(weights)
    except (TypeError, ConfigError, RuntimeError) as error:
        raise CheckpointError(f"weights and model_args do not fit together: {error}") from error
    return model


def progress_of(state: dict[str, Any]) -> Progress:
    """Where the checkpoint's run stood; nanoGPT's own checkpoints do not know their time."""
    return Progress(
        state.get("iter_num", 0),
        state.get("elapsed_s", 0.0),
        float(state.get("best_val_loss", float("inf"))),
        state.get("num_stale", 0),
    )
