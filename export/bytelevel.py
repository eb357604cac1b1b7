"""GPT-2's vocab.json with merges.txt, or Hugging Face's tokenizer.json, in; tiktoken ranks out.

Hugging Face merges by the order of its list, tiktoken by token id: where both orders agree they
tokenize alike, and where they don't the tokenizer is refused. Ids are kept. Knows nothing of files
other than these.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotriton.errors import TokenizerError

# https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py, r50k_pat_str
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
MERGES_HEADER = "#version"


@dataclass(frozen=True, slots=True)
class BytePairs:
    """Byte-level BPE as tiktoken has it: a token's rank is its id."""

    ranks: dict[bytes, int]
    pattern: str
    special_tokens: dict[str, int]


def from_vocab_and_merges(vocab_path: Path) -> BytePairs:
    """Read `*vocab.json` and the `*merges.txt` beside it; raises TokenizerError."""
    merges_path = vocab_path.with_name(vocab_path.name.removesuffix("vocab.json") + "merges.txt")
    vocab = _token_ids(vocab_path, read_json(vocab_path))
    lines = merges_path.read_text(encoding="utf-8").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith(MERGES_HEADER)]
    added = vocab_path.with_name("added_tokens.json")
    special = _token_ids(added, read_json(added)) if added.is_file() else {}
    return _convert(vocab_path, vocab, merges, special, GPT2_PATTERN)


def from_tokenizer_json(path: Path, spec: Mapping[str, Any]) -> BytePairs:
    """Take over a byte-level BPE of Hugging Face's `tokenizers`; raises TokenizerError."""
    model = spec.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or "merges" not in model:
        kind = model.get("type") if isinstance(model, dict) else None
        raise TokenizerError(f"{path} has a model of type {kind!r}, only byte-level BPE is known")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        _refuse(path, f"model.{name}", model.get(name))
    _refuse(path, "normalizer", spec.get("normalizer"))
    processor = spec.get("post_processor")
    if isinstance(processor, dict) and processor.get("type") != "ByteLevel":
        _refuse(path, "post_processor", processor)
    merges = [
        merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]
    ]
    special = {}
    for token in spec.get("added_tokens") or []:
        if not token["special"]:
            raise TokenizerError(
                f"{path} adds the ordinary token {token['content']!r}, which tiktoken can't split "
                "off a text: give a tokenizer whose added tokens are special"
            )
        special[token["content"]] = token["id"]
    vocab = _token_ids(path, model.get("vocab"))
    return _convert(path, vocab, merges, special, _pattern(path, spec.get("pre_tokenizer")))


def _pattern(path: Path, step: Any) -> str:
    """The regular expression of ByteLevel, or of Split followed by ByteLevel."""
    steps = step.get("pretokenizers") if isinstance(step, dict) else None
    *before, last = steps or [step]
    if not isinstance(last, dict) or last.get("type") != "ByteLevel":
        raise TokenizerError(f"{path} has a pre_tokenizer other than ByteLevel, which is unknown")
    _refuse(path, "add_prefix_space", last.get("add_prefix_space"))
    if not before and last.get("use_regex", True):
        return GPT2_PATTERN
    if len(before) == 1 and not last.get("use_regex", True):
        split = before[0]
        pattern = split.get("pattern", {}).get("Regex")
        isolated = split.get("behavior") == "Isolated" and not split.get("invert")
        if split.get("type") == "Split" and isolated and isinstance(pattern, str):
            return pattern
    raise TokenizerError(
        f"{path} has a pre_tokenizer of {len(before) + 1} steps, known are ByteLevel alone and one "
        "isolating Split before ByteLevel without its regex"
    )


def _convert(
    path: Path,
    vocab: Mapping[str, int],
    merges: Sequence[Sequence[str]],
    special_tokens: Mapping[str, int],
    pattern: str,
) -> BytePairs:
    _check_merge_order(path, vocab, merges)
    made = {first + second for first, second in merges}
    special = dict(special_tokens)
    ranks = {}
    for token, rank in vocab.items():
        if token in made or token in _BYTE_OF_CHAR:
            ranks[_token_bytes(path, token)] = rank
        else:  # no merge makes it, so no text ever holds it: <|endoftext|> and its like
            special[token] = rank
    return BytePairs(ranks, pattern, special)


def _check_merge_order(
    path: Path, vocab: Mapping[str, int], merges: Sequence[Sequence[str]]
) -> None:
    previous = -1
    for number, merge in enumerate(merges, start=1):
        if len(merge) != 2 or "".join(merge) not in vocab:
            raise TokenizerError(
                f"{path}: merge {number} is {' '.join(merge)!r}, not two parts of a token of the "
                "vocabulary: take both files from one tokenizer"
            )
        token = vocab["".join(merge)]
        if token <= previous:
            raise TokenizerError(
                f"{path}: merge {number} makes token {token} after token {previous}, tiktoken "
                "merges in the order of ids: renumber the tokens (and the model's embedding)"
            )
        previous = token


def _token_ids(path: Path, values: Any) -> dict[str, int]:
    if not isinstance(values, dict) or any(type(token) is not int for token in values.values()):
        raise TokenizerError(f"{path} holds no {{token: id}} table: copy it again")
    return values


def _token_bytes(path: Path, token: str) -> bytes:
    try:
        return bytes(_BYTE_OF_CHAR[char] for char in token)
    except KeyError as error:
        raise TokenizerError(
            f"{path} has {error} in the token {token!r}, which stands for no byte: only "
            "byte-level BPE is known"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises TokenizerError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is no JSON ({error}): copy it again") from None
    if not isinstance(values, dict):
        raise TokenizerError(f"{path} is no JSON object: copy it again")
    return values


def _refuse(path: Path, name: str, value: object) -> None:
    if value:
        raise TokenizerError(f"{path} has {name} = {value!r:.80}, which tiktoken can't do")


def _byte_of_char() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: openai/gpt-2, src/encoder.py, bytes_to_unicode."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + index): byte for index, byte in enumerate(hidden)
    }


_BYTE_OF_CHAR = _byte_of_char()
