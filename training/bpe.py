"""Documents in; ``tokenizer.tiktoken`` (byte-level BPE) and its sidecar ``tokenizer.json`` out.

Trained with Hugging Face `tokenizers`, used through `tiktoken`: both split text by the same pattern
and merge in the same order. Knows nothing of the model.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tiktoken
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.errors import TokenizerError
from training.files import write_json, writing

END_OF_TEXT = "<|endoftext|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|file_sep|>",
)
NUM_BYTES = 256

# Words (underscores and all non-ASCII characters count as letters), numbers and punctuation, each
# with at most one space before it; runs of newlines; indentation; any other single character.
# Newlines and indentation never join a word or a bracket, so a prompt that ends with a line or with
# its indent ends where a token ends. ASCII classes only and no look-around: libraries with
# different Unicode tables split alike, and in linear time.
SPLIT_PATTERN = "|".join(
    (
        r" ?(?:[A-Za-z_]|[^\x00-\x7F])+",
        r" ?[0-9]{1,3}",
        r" ?[!-/:-@\[-\^`{-~]+",
        r"[\r\n]+",
        r"[ \t]{2,}",
        r"[\x00-\x7F]",
    )
)


# GPT-2's figure from the literature: its 50257 tokens take 36 for this function of 82 bytes, mostly
# because it has no token for indentation (huggingface.co/learn/llm-course/chapter6/2).
GPT2_EXAMPLE = (
    'def add_numbers(a, b):\n    """Add the two numbers `a` and `b`."""\n    return a + b'
)
GPT2_EXAMPLE_TOKENS = 36


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """Everything a BPE tokenizer is; ``ranks`` maps a token's bytes to its id, 0..N-1."""

    ranks: Mapping[bytes, int]
    pattern: str
    special_tokens: Mapping[str, int]

    @property
    def vocab_size(self) -> int:
        return len(self.ranks) + len(self.special_tokens)

    def encoding(self) -> tiktoken.Encoding:
        return tiktoken.Encoding(
            "nanotriton",
            pat_str=self.pattern,
            mergeable_ranks=dict(self.ranks),
            special_tokens=dict(self.special_tokens),
        )


def byte_tokenizer() -> TokenizerSpec:
    """One token a byte, no merges: what a corpus is encoded with until a tokenizer is trained."""
    ranks = {bytes([byte]): byte for byte in range(NUM_BYTES)}
    return TokenizerSpec(ranks, SPLIT_PATTERN, _after(NUM_BYTES))


def _after(num_ranks: int) -> dict[str, int]:
    return {token: num_ranks + i for i, token in enumerate(SPECIAL_TOKENS)}


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> tuple[Tokenizer, TokenizerSpec]:
    """Train byte-level BPE; ``vocab_size`` counts the 256 bytes and the special tokens (last ids).

    Raises TokenizerError when ``vocab_size`` is too small, or the texts too few to fill it.
    """
    num_ranks = vocab_size - len(SPECIAL_TOKENS)
    if num_ranks < NUM_BYTES:
        raise TokenizerError(
            f"vocab_size is {vocab_size}, the bytes and special tokens alone take "
            f"{NUM_BYTES + len(SPECIAL_TOKENS)}: raise it"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_ranks,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ranks = {_token_bytes(token): rank for token, rank in tokenizer.get_vocab().items()}
    if len(ranks) != num_ranks:
        raise TokenizerError(
            f"the texts gave {len(ranks)} tokens, vocab_size {vocab_size} needs {num_ranks}: "
            "add text or lower vocab_size"
        )
    return tokenizer, TokenizerSpec(ranks, SPLIT_PATTERN, _after(num_ranks))


def _byte_of_char() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(NUM_BYTES) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(NUM_BYTES + i): b for i, b in enumerate(hidden)}


_BYTE_OF_CHAR = _byte_of_char()


def _token_bytes(token: str) -> bytes:
    return bytes(_BYTE_OF_CHAR[char] for char in token)


def save_tokenizer(spec: TokenizerSpec, out_dir: Path) -> None:
    """Write ``tokenizer.tiktoken`` (base64 and rank a line) and ``tokenizer.json``.

    Raises CorpusError when ``out_dir`` cannot be written.
    """
    by_rank = sorted(spec.ranks, key=spec.ranks.__getitem__)
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(by_rank)]
    with writing(out_dir / "tokenizer.tiktoken") as file:
        file.write("".join(lines).encode("ascii"))
    sidecar = {
        "kind": "tiktoken",
        "pattern": spec.pattern,
        "special_tokens": dict(spec.special_tokens),
    }
    write_json(out_dir / "tokenizer.json", sidecar)


def load_tokenizer(folder: Path) -> TokenizerSpec:
    """Read what ``save_tokenizer`` wrote; raises TokenizerError when it is missing or damaged."""
    try:
        lines = (folder / "tokenizer.tiktoken").read_text(encoding="ascii").splitlines()
        pairs = [line.split() for line in lines]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
        sidecar = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        spec = TokenizerSpec(ranks, sidecar["pattern"], sidecar["special_tokens"])
    except (OSError, ValueError, KeyError) as error:
        raise TokenizerError(
            f"no usable tokenizer in {folder} ({error}): run `python -m training tokenizer`"
        ) from error
    ids = sorted([*spec.ranks.values(), *spec.special_tokens.values()])
    if ids != list(range(len(lines) + len(spec.special_tokens))):
        raise TokenizerError(f"the token ids in {folder} are not 0..N-1 without gaps: train anew")
    return spec
