"""Text to token ids and back: char-level and tiktoken vocabularies behind one class.

Comes in: `tokenizer.json` (and, for byte-level BPE, the ranks in `tokenizer.tiktoken` beside it).
Goes out: `Tokenizer`, and `TextDecoder`, which turns ids into text that is whole UTF-8 at every
step. Knows nothing of prompts, limits or requests.

tokenizer.json is `{"kind": "char", "chars": [...]}` (id = index), or `{"kind": "tiktoken",
"pattern": REGEX, "special_tokens": {TEXT: ID}}` with lines of `base64(bytes) rank` in the ranks
file, as tiktoken's own files have them.
"""

import base64
import binascii
import codecs
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiktoken

from nanotriton.contract import RANKS_FILE, TOKENIZER_FILE
from nanotriton.errors import InvalidRequest, TokenizerError

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A vocabulary: `encode` gives ids below `num_tokens`, `table[id]` the bytes of one id.

    Special tokens and unused ids have no bytes: they never show in a text. A text of n bytes has
    at least n / `longest_token_bytes` tokens.
    """

    encode: Callable[[str], list[int]]
    table: tuple[bytes, ...]
    special_tokens: dict[str, int]
    longest_token_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "longest_token_bytes", max(map(len, self.table)))

    @property
    def num_tokens(self) -> int:
        """Number of ids, gaps counted."""
        return len(self.table)

    @property
    def end_of_text(self) -> int | None:
        """Id of the token that ends a document, if the vocabulary has one."""
        return self.special_tokens.get(END_OF_TEXT)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a whole sequence; a character that is cut off at its end is left out."""
        return TextDecoder(self.table).push(ids)


class TextDecoder:
    """Ids in, text out, piece by piece; bytes of an unfinished character wait for the rest.

    Bytes that can never become UTF-8 turn into U+FFFD. The pieces joined are `Tokenizer.decode`
    of all ids together.
    """

    def __init__(self, table: tuple[bytes, ...]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """Text that became whole with `ids`; may be empty."""
        return self.push_bytes(b"".join(self._table[token] for token in ids))

    def push_bytes(self, raw: bytes) -> str:
        """Text that became whole with `raw`; may be empty."""
        return self._decoder.decode(raw)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` (and the ranks) from a folder; raises TokenizerError."""
    path = folder / TOKENIZER_FILE
    try:
        spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = spec["kind"]
        if kind == "char":
            return char_tokenizer(spec["chars"])
        if kind == "tiktoken":
            ranks = read_ranks(folder / RANKS_FILE)
            return tiktoken_tokenizer(ranks, spec["pattern"], spec["special_tokens"])
    except OSError as error:
        raise TokenizerError(f"{error.filename} can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise TokenizerError(f"{path} is no tokenizer ({error!r}): export again") from None
    raise TokenizerError(f"{path} has kind {kind!r}, known are 'char' and 'tiktoken'")


def char_tokenizer(chars: list[str]) -> Tokenizer:
    """nanoGPT's character vocabulary: one id a character, in the order of `chars`."""
    ids = {char: index for index, char in enumerate(chars)}
    if len(ids) != len(chars) or not chars or any(len(char) != 1 for char in chars):
        raise TokenizerError("a char vocabulary is a list of distinct single characters")

    def encode(text: str) -> list[int]:
        try:
            return [ids[char] for char in text]
        except KeyError as error:
            char = error.args[0]
            raise InvalidRequest(
                f"the character {char!r} at position {text.index(char)} is not in this model's "
                f"vocabulary of {len(chars)} characters: leave it out"
            ) from None

    return Tokenizer(encode, tuple(char.encode() for char in chars), {})


def tiktoken_tokenizer(
    ranks: dict[bytes, int], pattern: str, special_tokens: dict[str, int]
) -> Tokenizer:
    """Byte-level BPE; a special token's text inside a prompt is plain text, never the token."""
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise TokenizerError(
            f"the ranks lack {len(missing)} of the 256 single bytes (first: {missing[0]}): "
            "byte-level BPE needs them all"
        )
    if clash := sorted(set(special_tokens.values()) & set(ranks.values())):
        raise TokenizerError(f"special token ids {clash} are ranks of ordinary tokens too")
    encoding = tiktoken.Encoding(
        "nanotriton", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_tokens
    )
    table = [b""] * (encoding.max_token_value + 1)
    for token, rank in ranks.items():
        table[rank] = token
    return Tokenizer(encoding.encode_ordinary, tuple(table), dict(special_tokens))


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read a tiktoken ranks file; raises TokenizerError with the line that is wrong."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(
                f"{path} line {number} is {line[:40]!r}, expected `base64(bytes) rank`"
            ) from None
    if not ranks:
        raise TokenizerError(f"{path} holds no ranks")
    if len(set(ranks.values())) != len(ranks):
        raise TokenizerError(f"{path} gives one rank to two tokens")
    return ranks
