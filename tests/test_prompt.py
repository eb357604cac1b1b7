from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.errors import InvalidRequest
from nanotriton.prompt import encode_prompt, keep_end
from nanotriton.tokenizer import Tokenizer, load_tokenizer

DEMO = load_tokenizer(Path(__file__).parent.parent / "demo")
CONTEXT = 32


def encode(text, max_tokens=4, truncate="none", tokenizer=DEMO):
    """Token ids of a prompt for a model with a short context."""
    return encode_prompt(text, tokenizer, CONTEXT, max_tokens, truncate)


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("", {}, "text_input is empty: send at least one character"),
        ("ab\0c", {}, "text_input holds a NUL character at 2: leave it out"),
        ("a", {"max_tokens": 33}, "max_tokens is 33, the model's context is 32 tokens: ask"),
    ],
    ids=["empty", "nul", "max_tokens"],
)
@pytest.mark.parametrize("truncate", ["none", "left"])
def test_prompt_that_can_not_be_served_is_refused(text, settings, words, truncate):
    with pytest.raises(InvalidRequest) as refusal:
        encode(text, truncate=truncate, **settings)
    assert str(refusal.value).startswith(words)


def test_prompt_that_is_too_long_is_refused_with_its_tokens():
    with pytest.raises(InvalidRequest) as refusal:
        encode("1\n" * 40)
    assert str(refusal.value) == (
        "the prompt has 80 tokens, the model reads at most 32: shorten it or set truncate=left"
    )


def test_text_that_must_be_too_long_is_refused_without_tokenizing_it():
    def never(_text: str) -> list[int]:
        raise AssertionError("it was tokenized")

    tokenizer = Tokenizer(never, (b"a", b"bcd"), {})
    with pytest.raises(InvalidRequest) as refusal:
        encode("é" * 500, tokenizer=tokenizer)
    assert str(refusal.value) == (
        "the prompt has 1000 bytes, which are at least 334 tokens, the model reads at most 32: "
        "shorten it or set truncate=left"
    )


def test_only_the_end_of_a_long_text_is_tokenized_when_it_may_be_cut():
    seen = []

    def note(text: str) -> list[int]:
        seen.append(text)
        return [0] * len(text)

    tokenizer = Tokenizer(note, (b"a", b"bcd"), {})
    encode("x" * 10**6, truncate="left", tokenizer=tokenizer)
    assert [len(text) for text in seen] == [CONTEXT * 3]


def test_prompt_that_fits_is_left_whole():
    assert encode("def f(x):") == DEMO.encode("def f(x):")


@pytest.mark.parametrize(("max_tokens", "num_kept"), [(1, 32), (4, 29), (17, 16), (32, 16)])
def test_cut_prompt_leaves_room_but_keeps_half_the_context(max_tokens, num_kept):
    ids = [*range(100)]
    assert keep_end(ids, CONTEXT, max_tokens) == ids[-num_kept:]


WITHOUT_NUL = st.characters(codec="utf-8", exclude_characters="\0")


@given(st.text(WITHOUT_NUL, min_size=1), st.integers(1, CONTEXT))
def test_cut_prompt_always_fits_and_is_the_end_of_the_text(text, max_tokens):
    ids = encode(text * 20, max_tokens, "left")
    assert 0 < len(ids) <= CONTEXT
    raw = b"".join(DEMO.table[one] for one in ids)
    assert (text * 20).encode().endswith(raw)


def test_text_is_cut_between_characters():
    # The cut by bytes falls into a character; what is left of that is dropped, not shown as U+FFFD.
    tokenizer = Tokenizer(lambda text: [*text.encode()], (b"a", b"bcd"), {})
    assert bytes(encode("é" * 500, 32, "left", tokenizer)).decode() == "é" * 8
    odd = Tokenizer(lambda text: [len(text.encode())], (b"bcd",), {})
    assert encode("é" * 500 + "x", 32, "left", odd) == [95]
