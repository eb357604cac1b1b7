"""Whatever tokenizer lies with a checkpoint in, the files of `nanotriton.tokenizer` out.

Accepted: our own tokenizer.json (char or tiktoken), a tiktoken ranks file with or without a
sidecar, a named tiktoken encoding, nanoGPT's meta.pkl, and GPT-2's vocab.json with merges.txt or
Hugging Face's tokenizer.json, which `export.bytelevel` converts. Knows nothing of the model.
"""

import base64
import hashlib
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiktoken

from export.architecture import MAX_SIZES
from export.bytelevel import (
    GPT2_PATTERN,
    BytePairs,
    from_tokenizer_json,
    from_vocab_and_merges,
    read_json,
)
from nanotriton.contract import RANKS_FILE, TOKENIZER_FILE
from nanotriton.errors import TokenizerError
from nanotriton.tokenizer import (
    END_OF_TEXT,
    Tokenizer,
    char_tokenizer,
    read_ranks,
    tiktoken_tokenizer,
)

META_FILE = "meta.pkl"
VOCAB_FILE = "vocab.json"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, and the files (name to content) that `load_tokenizer` reads it back from."""

    tokenizer: Tokenizer
    files: dict[str, bytes]

    @property
    def sha256(self) -> str:
        """SHA-256 of the files' contents, in the order of their names."""
        content = b"".join(self.files[name] for name in sorted(self.files))
        return hashlib.sha256(content).hexdigest()

    @property
    def characters(self) -> frozenset[str] | None:
        """The only characters that a text may hold; None when any may (byte-level BPE)."""
        if RANKS_FILE in self.files:
            return None
        return frozenset(char.decode() for char in self.tokenizer.table)


def find_vocabulary(folder: Path, source: str | None = None) -> Vocabulary:
    """The tokenizer of `source` (file, folder or encoding name), or the one in `folder`.

    Raises TokenizerError when there is none, or it can't be read.
    """
    try:
        if source is None:
            return _from_folder(folder)
        path = Path(source)
        if path.is_dir():
            return _from_folder(path)
        return _from_file(path) if path.is_file() else _from_name(source)
    except OSError as error:
        raise TokenizerError(f"{error.filename} can't be read ({error.strerror})") from None
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise TokenizerError(
            f"the tokenizer of {source or folder} is malformed ({error!r:.160}): copy it again"
        ) from None


def _from_folder(folder: Path) -> Vocabulary:
    names = (RANKS_FILE, VOCAB_FILE, TOKENIZER_FILE, META_FILE)
    for name in names:
        if (folder / name).is_file():
            return _from_file(folder / name)
    raise TokenizerError(
        f"{folder} holds no tokenizer ({', '.join(names)}): give one with --tokenizer, for "
        "nanoGPT's own GPT-2 vocabulary `--tokenizer gpt2`"
    )


def _from_file(path: Path) -> Vocabulary:
    if path.suffix == ".pkl":
        return _char_vocabulary(_read_meta(path))
    if path.name.endswith(VOCAB_FILE):
        return _bpe_vocabulary(from_vocab_and_merges(path))
    if path.suffix == ".json":
        spec = read_json(path)
        if spec.get("kind") == "char":
            return _char_vocabulary(spec.get("chars"))
        if spec.get("kind") == "tiktoken":
            return _from_file(path.with_name(RANKS_FILE))
        return _bpe_vocabulary(from_tokenizer_json(path, spec))
    return _bpe_vocabulary(_read_tiktoken(path))


def _from_name(name: str) -> Vocabulary:
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise TokenizerError(
            f"{name!r} is neither a file nor a tiktoken encoding ({', '.join(sorted(known))}): "
            "check the path"
        )
    try:
        encoding = tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise TokenizerError(
            f"the encoding {name!r} can't be fetched ({type(error).__name__}): connect this "
            "machine, set TIKTOKEN_CACHE_DIR to a filled cache, or give a ranks file"
        ) from None
    return _bpe_vocabulary(
        BytePairs(encoding._mergeable_ranks, encoding._pat_str, encoding._special_tokens)
    )


def _read_tiktoken(path: Path) -> BytePairs:
    """Ranks, with pattern and special tokens of the sidecar, or GPT-2's when there is none."""
    ranks = read_ranks(path)
    for sidecar in (path.with_suffix(".json"), path.with_name(TOKENIZER_FILE)):
        if sidecar.is_file() and (spec := read_json(sidecar)).get("kind") == "tiktoken":
            try:
                return BytePairs(ranks, str(spec["pattern"]), dict(spec["special_tokens"]))
            except (KeyError, TypeError, ValueError):
                raise TokenizerError(
                    f"{sidecar} needs 'pattern' and 'special_tokens': train the tokenizer again"
                ) from None
    return BytePairs(ranks, GPT2_PATTERN, {END_OF_TEXT: max(ranks.values()) + 1})


def _bpe_vocabulary(pairs: BytePairs) -> Vocabulary:
    for token in (*pairs.ranks.values(), *pairs.special_tokens.values()):
        if type(token) is not int or not 0 <= token < MAX_SIZES["vocab_size"]:
            raise TokenizerError(
                f"the tokenizer has the id {token!r}, ids are whole numbers from 0 to "
                f"{MAX_SIZES['vocab_size'] - 1}: copy it again"
            )
    tokenizer = tiktoken_tokenizer(pairs.ranks, pairs.pattern, pairs.special_tokens)
    spec = {
        "kind": "tiktoken",
        "pattern": pairs.pattern,
        "special_tokens": pairs.special_tokens,
    }
    lines = [
        base64.b64encode(token) + b" %d\n" % rank
        for token, rank in sorted(pairs.ranks.items(), key=lambda item: item[1])
    ]
    return Vocabulary(tokenizer, {TOKENIZER_FILE: _to_json(spec), RANKS_FILE: b"".join(lines)})


def _char_vocabulary(chars: Any) -> Vocabulary:
    if not isinstance(chars, list) or not all(isinstance(char, str) for char in chars):
        raise TokenizerError("a char vocabulary is a list of distinct single characters")
    try:
        tokenizer = char_tokenizer(chars)
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the char vocabulary has {error.object!r}, half of a surrogate pair and no character"
        ) from None
    return Vocabulary(tokenizer, {TOKENIZER_FILE: _to_json({"kind": "char", "chars": chars})})


def _read_meta(path: Path) -> list[str]:
    """nanoGPT's {"itos": {id: char}} as a list; runs nothing that the pickle names."""
    try:
        meta = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
        itos = meta["itos"]
        return [itos[index] for index in range(len(itos))]
    except _PICKLE_ERRORS as error:
        raise TokenizerError(
            f"{path} is no nanoGPT meta.pkl ({error!r:.160}): run the data set's prepare.py again"
        ) from None


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles containers, strings and numbers; these need no class to be looked up."""

    def find_class(self, module: str, name: str) -> Any:
        raise TokenizerError(
            f"the meta.pkl is refused, it asks to load {module}.{name}: a vocabulary holds only "
            "dicts, lists, strings and numbers"
        )


_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


def _to_json(spec: dict[str, Any]) -> bytes:
    return (json.dumps(spec, ensure_ascii=True, indent=2) + "\n").encode()
