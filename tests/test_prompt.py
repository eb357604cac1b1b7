from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.errors import InvalidRequest, TokenizerError
from nanotriton.infill import Markers, before_cursor
from nanotriton.prompt import encode_prompt, keep_end
from nanotriton.tokenizer import Tokenizer, load_tokenizer

DEMO = load_tokenizer(Path(__file__).parent.parent / "demo")
CONTEXT = 32
MARKERS = Markers.of(DEMO.special_tokens)
LEFT, RIGHT = DEMO.encode("a = "), DEMO.encode("\nb = a\n")


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
    assert [len(text) for text in seen] == [10**6 % 12 + CONTEXT * 3 - 12]  # steps of 12 bytes


def test_prompt_that_fits_is_left_whole():
    assert encode("def f(x):") == DEMO.encode("def f(x):")


@pytest.mark.parametrize(("max_tokens", "num_kept"), [(1, 32), (4, 28), (17, 16), (32, 16)])
def test_cut_prompt_leaves_room_but_keeps_half_the_context(max_tokens, num_kept):
    ids = [*range(100)]
    assert keep_end(ids, CONTEXT, max_tokens) == ids[-num_kept:]


@given(st.integers(0, 300), st.integers(1, CONTEXT))
def test_cut_stays_where_it_is_while_a_text_grows(length, max_tokens):
    cuts = {keep_end([*range(length + more)], CONTEXT, max_tokens)[0] for more in range(1, 9)}
    assert len(cuts) <= 3  # eight tokens more, in steps of four


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
    assert encode("x" + "é" * 500, 32, "left", odd) == [88]


def fill(text, suffix, max_tokens=4, truncate="none", markers=MARKERS):
    """Token ids of a prompt with a hole."""
    return encode_prompt(text, DEMO, CONTEXT, max_tokens, truncate, suffix=suffix, markers=markers)


def test_middle_is_asked_for_in_the_order_of_training():
    special = DEMO.special_tokens
    assert fill("a = ", "\nb = a\n") == [
        special["<|fim_prefix|>"], *LEFT, special["<|fim_suffix|>"], *RIGHT,
        special["<|fim_middle|>"],
    ]  # fmt: skip


def test_suffix_stands_first_for_a_model_that_saw_it_so():
    special = DEMO.special_tokens
    markers = Markers.of(special, "spm")
    assert fill("a = ", "\nb = a\n", markers=markers) == [
        special["<|fim_prefix|>"], special["<|fim_suffix|>"], *RIGHT,
        special["<|fim_middle|>"], *LEFT,
    ]  # fmt: skip


def test_suffix_alone_is_enough():
    assert fill("", "\nb = a\n") == MARKERS.arrange([], RIGHT)


@pytest.mark.parametrize("markers", [MARKERS, None], ids=["infill", "no infill"])
def test_empty_suffix_is_none(markers):
    assert fill("a = ", "", markers=markers) == LEFT


@pytest.mark.parametrize(
    ("text", "suffix", "markers", "words"),
    [
        ("a", "b", None, "suffix is given, but this model was not trained to fill in the middle: "),
        ("a", "b\0", MARKERS, "suffix holds a NUL character at 1: leave it out"),
        ("", "", MARKERS, "text_input is empty: send at least one character"),
        (
            "1\n" * 10,
            "1\n" * 6,
            MARKERS,
            "text_input and suffix have 20 + 12 tokens, beside max_tokens and 3 markers the "
            "context has room for 26: shorten them, lower max_tokens or set truncate=left",
        ),
        ("", "1" * 5000, MARKERS, "text_input and suffix have 5000 bytes, at least "),
    ],
    ids=["no infill", "nul", "empty", "too long", "much too long"],
)
def test_hole_that_can_not_be_served_is_refused(text, suffix, markers, words):
    with pytest.raises(InvalidRequest) as refusal:
        fill(text, suffix, markers=markers)
    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize(
    ("num_left", "num_right", "kept_left", "kept_right"),
    [(50, 50, 18, 8), (50, 4, 22, 4), (4, 50, 4, 22), (20, 20, 18, 8), (13, 13, 13, 13)],
)
def test_cut_suffix_gets_a_third_or_what_is_left(num_left, num_right, kept_left, kept_right):
    left, right = [*range(num_left)], [*range(num_right)]
    by_letter = Tokenizer(lambda text: [*map(ord, text)], (b"abcd",), {})
    words = ["".join(map(chr, [0x30 + one for one in side])) for side in (left, right)]
    ids = encode_prompt(
        words[0], by_letter, CONTEXT, 4, "left", suffix=words[1], markers=Markers(1, 2, 3)
    )
    assert [one - 0x30 for one in ids[1 : ids.index(2)]] == left[num_left - kept_left :]
    assert [one - 0x30 for one in ids[ids.index(2) + 1 : -1]] == right[:kept_right]


@given(st.text(WITHOUT_NUL), st.text(WITHOUT_NUL, min_size=1), st.integers(1, CONTEXT))
def test_cut_sides_always_fit_and_are_those_next_to_the_hole(text, suffix, max_tokens):
    ids = fill(text * 9, suffix * 9, max_tokens, "left")
    assert len(ids) <= max(CONTEXT - max_tokens + 1, CONTEXT // 2)
    left, right = ids[1 : ids.index(MARKERS.suffix)], ids[ids.index(MARKERS.suffix) + 1 : -1]
    assert (text * 9).encode().endswith(b"".join(DEMO.table[one] for one in left))
    assert (suffix * 9).encode().startswith(b"".join(DEMO.table[one] for one in right))


@given(st.text(WITHOUT_NUL), st.text(WITHOUT_NUL, min_size=1), st.sampled_from(["psm", "spm"]))
def test_text_before_the_cursor_is_found_again(text, suffix, order):
    prompt = Markers.of(DEMO.special_tokens, order).arrange(DEMO.encode(text), DEMO.encode(suffix))
    assert DEMO.decode(before_cursor(prompt, DEMO.special_tokens)) == text
    plain = DEMO.encode(text + suffix)
    assert before_cursor(plain, DEMO.special_tokens) == plain


def test_tokenizer_without_marks_is_refused_by_their_names():
    with pytest.raises(TokenizerError, match=r"no <\|fim_middle\|>, without .* --infill no"):
        Markers.of({"<|fim_prefix|>": 1, "<|fim_suffix|>": 2})
