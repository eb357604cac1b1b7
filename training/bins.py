"""A corpus and a tokenizer in; ``train.bin``, ``val.bin`` (uint16 token ids) and ``bins.json`` out.

Every document is followed by the end-of-text token. Also reads them back, as random blocks. Knows
nothing of how the text was chosen or of the model that reads the tokens.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.bpe import END_OF_TEXT, TokenizerSpec
from training.corpus import SPLITS, num_documents, read_documents
from training.errors import CorpusError
from training.files import write_json, writing
from training.progress import track

MAX_VOCAB_SIZE = 2**16
MISSING = "{path} is missing: run `python -m training tokenizer` first"


@dataclass(frozen=True, slots=True)
class BinsInfo:
    """Sizes of both splits; bytes are the documents' UTF-8 bytes, end-of-text not counted.

    ``sha256`` is of the two files; empty when an older version wrote them.
    """

    vocab_size: int
    train_tokens: int
    train_bytes: int
    val_tokens: int
    val_bytes: int
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Size:
    tokens: int
    bytes: int
    sha256: str


def write_bins(corpus_dir: Path, spec: TokenizerSpec) -> BinsInfo:
    """Encode both splits beside their text.

    Raises CorpusError when ids do not fit 16 bits or the folder cannot be written.
    """
    if spec.vocab_size > MAX_VOCAB_SIZE:
        raise CorpusError(
            f"vocab_size is {spec.vocab_size}, uint16 holds at most {MAX_VOCAB_SIZE}: lower it"
        )
    train, val = (_write_split(corpus_dir, split, spec) for split in SPLITS)
    hashes = {"train.bin": train.sha256, "val.bin": val.sha256}
    info = BinsInfo(spec.vocab_size, train.tokens, train.bytes, val.tokens, val.bytes, hashes)
    write_json(corpus_dir / "bins.json", asdict(info))
    return info


def _write_split(corpus_dir: Path, split: str, spec: TokenizerSpec) -> _Size:
    encoding = spec.encoding()
    end = spec.special_tokens[END_OF_TEXT]
    total = num_documents(corpus_dir, split)
    num_tokens = num_bytes = 0
    with writing(corpus_dir / f"{split}.bin") as out:
        documents = read_documents(corpus_dir, split)
        for document in track(documents, total, f"{split}.bin: files encoded"):
            ids = [*encoding.encode_ordinary(document.text), end]
            out.write(np.array(ids, dtype="<u2").tobytes())  # the same on every machine
            num_tokens += len(ids)
            num_bytes += len(document.text.encode())
        return _Size(num_tokens, num_bytes, out.sha256)


def load_info(data_dir: Path) -> BinsInfo:
    """Read ``bins.json``; raises CorpusError when it is missing."""
    path = data_dir / "bins.json"
    if not path.is_file():
        raise CorpusError(MISSING.format(path=path))
    return BinsInfo(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Blocks:
    """One split cut at random into blocks; ``tokens`` (N,) uint16 stays on disk."""

    tokens: npt.NDArray[np.uint16]
    block_size: int

    @classmethod
    def load(cls, data_dir: Path, split: str, block_size: int) -> "Blocks":
        """Raises CorpusError when the split is missing or shorter than one block."""
        path = data_dir / f"{split}.bin"
        if not path.is_file():
            raise CorpusError(MISSING.format(path=path))
        num_tokens = path.stat().st_size // 2
        if num_tokens <= block_size:
            raise CorpusError(
                f"{path} has {num_tokens} tokens, a block needs {block_size + 1}: "
                "add text or lower block_size"
            )
        return cls(np.memmap(path, dtype=np.uint16, mode="r"), block_size)
