"""A Hugging Face GPT-2 folder, read: sizes and tensors, for the peers that are given them by hand.

Comes in: `config.json` and `model.safetensors`. Goes out: float32 arrays under GPT-2's own names,
without "transformer." before them. Linears are (inputs, outputs), as GPT-2 has them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

PREFIX = "transformer."
MASKS = (".attn.bias", ".attn.masked_bias")  # old files hold the causal mask as tensors


@dataclass(frozen=True, slots=True)
class Weights:
    """Sizes of a checkpoint and its tensors; `is_tanh` says which GELU it was trained with."""

    num_layers: int
    num_heads: int
    width: int
    context: int
    vocab_size: int
    is_tanh: bool
    tensors: Mapping[str, NDArray[np.float32]]

    @property
    def head(self) -> NDArray[np.float32]:
        """(V, width): the output layer, which most checkpoints share with the embedding."""
        return self.tensors.get("lm_head.weight", self.tensors["wte.weight"])


def load_weights(folder: Path) -> Weights:
    """Read a folder; raises what a missing file or key raises."""
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    return Weights(
        config["n_layer"],
        config["n_head"],
        config["n_embd"],
        config["n_positions"],
        config["vocab_size"],
        config.get("activation_function", "gelu_new") != "gelu",
        {
            name.removeprefix(PREFIX): np.ascontiguousarray(tensor, np.float32)
            for name, tensor in tensors.items()
            if not name.endswith(MASKS)
        },
    )
