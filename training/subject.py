"""A checkpoint on disk in, what ``evaluate`` measures out: model, tokenizer, and what it can do.

Reads nanoGPT's ``ckpt.pt`` and Hugging Face GPT-2 folders with a tokenizer, such as ``release``
writes. Knows nothing of the measures.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.bpe import END_OF_TEXT, TokenizerSpec, load_tokenizer
from training.checkpoint import load_checkpoint, model_from
from training.errors import TokenizerError
from training.gpt import GPT
from training.infill import FIM_TOKENS
from training.pretrained import load_pretrained, read_shape

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
TOKENIZER = "tokenizer.tiktoken"
CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure; ``sha256`` is that of the file with its weights."""

    model: GPT
    spec: TokenizerSpec
    fim_trained: bool
    suffix_first: bool  # the order of a hole's sides that it is served with: SPM if it saw that
    sha256: str
    table: Sequence[bytes]  # the text behind every id; special tokens have none

    @property
    def end_of_text(self) -> int:
        return self.spec.special_tokens[END_OF_TEXT]

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        return b"".join(self.table[token] for token in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Half a character becomes U+FFFD."""
        return self.bytes_of(ids).decode(errors="replace")


def load_subject(checkpoint: Path, data_dir: Path) -> Subject:
    """The model and tokenizer of a ``ckpt.pt``, whose tokenizer lies in the data, or of a folder.

    Raises CheckpointError, or TokenizerError when the tokenizer does not fit the data or the model.
    """
    is_folder = checkpoint.is_dir()
    if is_folder:
        model = _load_folder(checkpoint)
        fim_rate = _rate_of_folder(checkpoint)
        spm_rate = _config_of(checkpoint).get("fim_spm_rate", 0.0)
    else:
        state = load_checkpoint(checkpoint)
        model = model_from(state)
        fim_rate = float(state.get("config", {}).get("fim_rate", 0.0))
        spm_rate = state.get("config", {}).get("fim_spm_rate", 0.0)
    spec = load_tokenizer(checkpoint if is_folder else data_dir)
    _check(spec, model, checkpoint, data_dir)
    return Subject(
        model=model.eval(),
        spec=spec,
        fim_trained=fim_rate > 0 and spec.special_tokens.keys() >= set(FIM_TOKENS),
        suffix_first=float(spm_rate) > 0,
        sha256=file_sha256(checkpoint / WEIGHTS if is_folder else checkpoint),
        table=token_bytes(spec),
    )


def _load_folder(folder: Path) -> GPT:
    read_shape(folder, block_size=1, dropout=0.0)  # raises for what is no config.json of a GPT-2
    config = _config_of(folder)
    return load_pretrained(folder, config["n_positions"], dropout=0.0)


def _config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return config


def _rate_of_folder(folder: Path) -> float:
    """From config.json; where that has none, the card's training command names it if not 0."""
    config = _config_of(folder)
    if "fim_rate" in config:
        return float(config["fim_rate"])
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    named = re.search(r"--set fim_rate=([0-9.]+)", text)
    return float(named[1]) if named else 0.0


def _check(spec: TokenizerSpec, model: GPT, checkpoint: Path, data_dir: Path) -> None:
    if END_OF_TEXT not in spec.special_tokens:
        raise TokenizerError(
            f"the tokenizer of {checkpoint} has no {END_OF_TEXT}, which parts the documents: "
            "give one of `python -m training tokenizer`"
        )
    if spec.vocab_size > model.config.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {spec.vocab_size} ids, the model {model.config.vocab_size}: "
            "take the tokenizer it was trained with"
        )
    if (data_dir / TOKENIZER).is_file() and load_tokenizer(data_dir) != spec:
        raise TokenizerError(
            f"{checkpoint} and {data_dir} have different tokenizers: take the data of the model"
        )


def token_bytes(spec: TokenizerSpec) -> list[bytes]:
    """The text behind every id; special tokens have none."""
    table = [b""] * spec.vocab_size
    for text, rank in spec.ranks.items():
        table[rank] = text
    return table


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
