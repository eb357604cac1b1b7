"""Any accepted checkpoint in, a `Checkpoint` out: one naming, one layout, float32, all checked.

Accepted are nanoGPT's ckpt.pt and Hugging Face GPT-2 folders. The vocabulary's padding is cut off,
so that V is the tokenizer's number of tokens. Knows nothing of ONNX.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.architecture import (
    EMBEDDING_WEIGHT,
    HEAD_WEIGHT,
    Config,
    RawCheckpoint,
    expected_shapes,
    is_linear,
    missing_file,
)
from export.huggingface import read_huggingface
from export.nanogpt import read_nanogpt
from export.vocabulary import Vocabulary, find_vocabulary
from nanotriton.errors import CheckpointError, TokenizerError
from nanotriton.infill import PSM, SPM, Markers, has_markers

PADDING = 1024  # vocabularies are padded to a multiple of 64 or 128, of 1024 at the most
MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
MAX_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A validated model; linears are (in, out), `lm_head.weight` is there only when untied.

    `infill` says whether it fills in the middle: its tokenizer has the three tokens for it, and
    its files do not say that it was trained without them (fim_rate 0). `infill_order` is "spm"
    where they say that it saw that order (fim_spm_rate), else "psm", which all such models know.
    """

    config: Config
    weights: Mapping[str, NDArray[np.float32]]
    vocabulary: Vocabulary
    sha256: str
    infill: bool
    infill_order: str

    @property
    def tied(self) -> bool:
        """Whether the head is the token embedding."""
        return HEAD_WEIGHT not in self.weights

    @property
    def num_parameters(self) -> int:
        """All numbers in all tensors, the tied embedding counted once."""
        return sum(weight.size for weight in self.weights.values())


def load_checkpoint(path: Path, tokenizer: str | None = None) -> Checkpoint:
    """Read and check a checkpoint; `tokenizer` is a file, a folder or a name, else one is sought.

    Raises CheckpointError or TokenizerError in one sentence that says the mend.
    """
    if not path.exists():
        raise missing_file(path)
    raw = read_huggingface(path) if path.is_dir() else read_nanogpt(path)
    weights = _unify_names(raw)
    _check_tensors(path, raw, weights)
    vocabulary = find_vocabulary(path if path.is_dir() else path.parent, tokenizer)
    num_tokens = vocabulary.tokenizer.num_tokens
    _check_vocabulary(raw.config.vocab_size, num_tokens)
    for name in (EMBEDDING_WEIGHT, HEAD_WEIGHT):
        if name in weights:
            weights[name] = weights[name][:num_tokens]
    if raw.out_first:
        weights = {name: w.T if is_linear(name) else w for name, w in weights.items()}
    infill = raw.fim_rate != 0 and has_markers(vocabulary.tokenizer.special_tokens)
    config = replace(raw.config, vocab_size=num_tokens)
    order = SPM if raw.fim_spm_rate else PSM
    return Checkpoint(config, weights, vocabulary, raw.sha256, infill, order)


def choose_infill(checkpoint: Checkpoint, choice: str) -> Checkpoint:
    """Overrule what the files say of infill by "yes" or "no"; "auto" leaves it.

    Raises TokenizerError for a "yes" without the tokens.
    """
    if choice == "auto":
        return checkpoint
    if choice == "yes":
        Markers.of(checkpoint.vocabulary.tokenizer.special_tokens)
    return replace(checkpoint, infill=choice == "yes")


def _unify_names(raw: RawCheckpoint) -> dict[str, NDArray[np.float32]]:
    weights: dict[str, NDArray[np.float32]] = {}
    for full_name, weight in raw.weights.items():
        name = full_name.removeprefix("transformer.")
        if not MASK_BUFFER.fullmatch(name):
            assert weight.dtype == np.float32, name
            weights[name] = weight.view(np.float32)
    head, embedding = weights.get(HEAD_WEIGHT), weights.get(EMBEDDING_WEIGHT)
    if head is not None and embedding is not None and np.array_equal(head, embedding):
        del weights[HEAD_WEIGHT]
    return weights


def _check_tensors(
    path: Path, raw: RawCheckpoint, weights: Mapping[str, NDArray[np.float32]]
) -> None:
    shapes = expected_shapes(raw.config, untied_head=HEAD_WEIGHT in weights)
    if missing := [name for name in shapes if name not in weights]:
        raise CheckpointError(
            f"{path} lacks {_names(missing)} of the {len(shapes)} tensors of a GPT-2: is it "
            "complete, and of this architecture?"
        )
    if unexpected := [name for name in weights if name not in shapes]:
        raise CheckpointError(
            f"{path} has {_names(unexpected)}, which a GPT-2 of this size has not: give a "
            "checkpoint of this architecture"
        )
    for name, shape in shapes.items():
        expected = shape[::-1] if raw.out_first and is_linear(name) else shape
        if weights[name].shape != expected:
            raise CheckpointError(
                f"{path} has {name} of shape {weights[name].shape}, its sizes ask for "
                f"{expected}: is the file damaged?"
            )
        if not np.isfinite(weights[name]).all():
            raise CheckpointError(
                f"{path} has NaN or infinity in {name}: export a checkpoint from before the loss "
                "diverged"
            )


def _check_vocabulary(vocab_size: int, num_tokens: int) -> None:
    padded = -(-num_tokens // PADDING) * PADDING
    if not num_tokens <= vocab_size <= padded:
        raise TokenizerError(
            f"the tokenizer has {num_tokens} tokens, the model {vocab_size}, which must be "
            f"{num_tokens} to {padded}: give the tokenizer that the model was trained with"
        )


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES_SHOWN])
    more = len(names) - MAX_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
