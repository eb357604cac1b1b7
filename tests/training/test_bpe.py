"""The tokenizer: exact round trips, and one meaning in both libraries."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.bpe import (
    GPT2_EXAMPLE,
    GPT2_EXAMPLE_TOKENS,
    SPECIAL_TOKENS,
    TokenizerSpec,
    byte_tokenizer,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from training.corpus import read_documents
from training.errors import TokenizerError
from training.sources import standard_library

DEMO = Path(__file__).parents[2] / "demo"
TEXTS = {
    "indent": "def f(x):\n        return x\n\n\n\tif y:  # done\n",
    "underscores": "__init__ _private some_name __ _",
    "numbers": "x = 1234567 + 0x1F - 1e10",
    "unicode": "naïve = '日本語' # ½ … 🎉 \u200d\u00a0\u2028",
    "controls": "a\x00b\x0c\x0b\r\n\r\x7f\x85 \t \t",
    "no space": "".join(chr(c) for c in range(128)),
    "special": "a<|endoftext|>b",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_comes_back_exactly(spec: TokenizerSpec, text: str) -> None:
    encoding = spec.encoding()

    assert encoding.decode(encoding.encode_ordinary(text)) == text


@settings(max_examples=300)
@given(text=st.text())
def test_any_text_comes_back_exactly(spec: TokenizerSpec, text: str) -> None:
    encoding = spec.encoding()

    assert encoding.decode(encoding.encode_ordinary(text)) == text


@settings(max_examples=300)
@given(raw=st.binary(max_size=300))
def test_any_bytes_come_back_exactly(spec: TokenizerSpec, raw: bytes) -> None:
    encoding = spec.encoding()

    # tiktoken's own way for bytes that are no UTF-8; private, but the only one
    assert encoding.decode_bytes(encoding._encode_bytes(raw)) == raw


def test_every_byte_is_a_token(spec: TokenizerSpec) -> None:
    ids = [spec.ranks[bytes([byte])] for byte in range(256)]

    assert spec.encoding().decode_bytes(ids) == bytes(range(256))


def test_bytes_alone_make_a_tokenizer() -> None:
    spec = byte_tokenizer()

    assert spec.encoding().encode_ordinary("é =\n") == list("é =\n".encode())
    assert list(spec.special_tokens.values()) == [256, 257, 258, 259, 260]


def test_training_twice_gives_the_same_ranks(data_dir: Path) -> None:
    texts = [document.text for document in read_documents(data_dir, "train")]
    first, second = (train_tokenizer(texts, 600)[1] for _ in range(2))

    assert first == second


def test_indentation_takes_fewer_tokens_than_gpt2s(spec: TokenizerSpec) -> None:
    """The published example: GPT-2 spends 6 of its 36 tokens on two indents, we 2."""
    tokens = spec.encoding().encode_ordinary(GPT2_EXAMPLE)

    assert len(GPT2_EXAMPLE.encode()) == 82
    assert [spec.encoding().decode([token]) for token in tokens].count("    ") == 2
    assert GPT2_EXAMPLE_TOKENS == 36


def test_tiktoken_agrees_with_the_trained_tokenizer_on_code(data_dir: Path) -> None:
    texts = [document.text for document in read_documents(data_dir, "train")]
    trained, spec = train_tokenizer(texts, vocab_size=1024)
    encoding = spec.encoding()
    unseen = [path.read_text() for path in sorted((standard_library() / "asyncio").glob("*.py"))]

    for text in [*texts, *unseen, *TEXTS.values()]:
        assert encoding.encode_ordinary(text) == trained.encode(text).ids


def test_ranks_come_first_and_special_tokens_last(spec: TokenizerSpec) -> None:
    assert spec.vocab_size == 512
    assert sorted(spec.ranks.values()) == list(range(512 - len(SPECIAL_TOKENS)))
    assert list(spec.special_tokens.values()) == [507, 508, 509, 510, 511]
    assert spec.encoding().encode("<|endoftext|>", allowed_special="all") == [507]


def test_line_ends_and_indents_are_token_ends(spec: TokenizerSpec) -> None:
    encoding = spec.encoding()
    code = "def f(n):\n    if n:\n        return n\n"
    whole = encoding.encode_ordinary(code)

    for end in ("def f(n):", "def f(n):\n", "def f(n):\n    ", "def f(n):\n    if n:\n        "):
        prompt = encoding.encode_ordinary(end)
        assert whole[: len(prompt)] == prompt


def test_saved_tokenizer_loads_equal(spec: TokenizerSpec, tmp_path: Path) -> None:
    save_tokenizer(spec, tmp_path)

    assert load_tokenizer(tmp_path) == spec


def test_too_small_vocabulary_is_refused() -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size is 260, .* take 261"):
        train_tokenizer(["x = 1"], 260)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(TokenizerError, match="add text or lower vocab_size"):
        train_tokenizer(["x = 1"], 1000)


@pytest.mark.parametrize("damage", ["bm90IGE= x\n", "Yg== 5\n", "no base64! 0\n"])
def test_damaged_ranks_are_refused(spec: TokenizerSpec, tmp_path: Path, damage: str) -> None:
    save_tokenizer(spec, tmp_path)
    (tmp_path / "tokenizer.tiktoken").write_text(damage)

    with pytest.raises(TokenizerError, match=r"tokenizer|train anew"):
        load_tokenizer(tmp_path)


def test_demo_tokenizer_reads_its_own_source_back() -> None:
    spec = load_tokenizer(DEMO)
    text = Path(__file__).read_text()

    assert spec.vocab_size == 8192
    assert spec.encoding().decode(spec.encoding().encode_ordinary(text)) == text
