"""Which tokens a prompt gives back, and which may come in their place; against plain searches."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from driving import TABLE, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.healing import Healer
from nanotriton.infill import Markers, before_cursor
from nanotriton.tokenizer import END_OF_TEXT, char_tokenizer, load_tokenizer

DEMO = load_tokenizer(Path(__file__).parent.parent / "demo")
HEALER = Healer(DEMO)
SMALL = Healer(vocabulary())
MARKERS = [Markers.of(DEMO.special_tokens, order) for order in ("psm", "spm")]
CODE = st.text(st.sampled_from("abdefmnprst self.(:)=\n é😀"), min_size=1, max_size=30)


def raw(ids: Sequence[int], table: tuple[bytes, ...] = DEMO.table) -> bytes:
    return b"".join(table[one] for one in ids)


def heal(text: str) -> tuple[bytes, bytes]:
    """The text that a prompt keeps, and what it gives back."""
    healed = HEALER.take_back(DEMO.encode(text))
    return raw(healed.prompt), healed.missing


@pytest.mark.parametrize(
    ("text", "kept", "missing"),
    [
        ("import nu", "import", " nu"),
        ("x = y\nprint(x.spl", "x = y\nprint(x.", "spl"),
        ("x = 1\nreturn", "x = 1\n", "return"),
        ("def f():\n    ", "def f():\n", "    "),
    ],
)
def test_unfinished_words_are_given_back(text: str, kept: str, missing: str) -> None:
    assert heal(text) == (kept.encode(), missing.encode())


@given(CODE)
def test_nothing_is_lost_and_the_first_token_stays(text: str) -> None:
    ids = DEMO.encode(text)
    healed = HEALER.take_back(ids)

    assert raw(healed.prompt) + healed.missing == text.encode()
    assert healed.prompt == tuple(ids[: len(healed.prompt)]) != ()


@given(st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=8))
def test_longest_end_with_which_a_longer_token_begins_is_given_back(ids: list[int]) -> None:
    healed = SMALL.take_back(ids)
    tail = raw(ids[1:], TABLE)
    ends = [
        length
        for length in range(1, len(tail) + 1)
        if any(one.startswith(tail[-length:]) and len(one) > length for one in TABLE)
    ]
    expected, count = b"", len(ids)
    while len(expected) < max(ends, default=0):
        count -= 1
        expected = TABLE[ids[count]] + expected

    assert (healed.prompt, healed.missing) == (tuple(ids[:count]), expected)


def can_write(missing: bytes) -> bool:
    """Whether tokens of TABLE begin with these bytes, found by trying all."""
    if any(one.startswith(missing) for one in TABLE):
        return True
    return any(missing.startswith(one) and can_write(missing[len(one) :]) for one in TABLE)


@given(st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=4))
def test_allowed_are_the_tokens_that_can_lead_to_the_missing_bytes(ids: list[int]) -> None:
    missing = raw(ids, TABLE)
    expected = {
        token
        for token, one in enumerate(TABLE)
        if one.startswith(missing) or (missing.startswith(one) and can_write(missing[len(one) :]))
    }

    assert set(SMALL.allowed(missing).tolist()) == expected


@pytest.mark.parametrize("markers", MARKERS, ids=["prefix first", "suffix first"])
@given(text=CODE, suffix=CODE)
def test_only_the_text_before_a_hole_is_given_back(
    markers: Markers, text: str, suffix: str
) -> None:
    prompt = markers.arrange(DEMO.encode(text), DEMO.encode(suffix))
    healed = HEALER.take_back(prompt)

    kept = before_cursor(healed.prompt, DEMO.special_tokens)
    assert raw(kept) + healed.missing == text.encode()
    assert list(healed.prompt) == markers.arrange(kept, DEMO.encode(suffix))


def test_nothing_is_given_back_over_a_special_token() -> None:
    end = DEMO.special_tokens[END_OF_TEXT]
    ids = [*DEMO.encode("import"), end, *DEMO.encode("n")]

    assert HEALER.take_back(ids).missing == b"n"
    assert HEALER.take_back([*ids, end]).missing == b""


def test_characters_are_never_given_back() -> None:
    tokenizer = char_tokenizer(list("abcé"))
    ids = tokenizer.encode("abé")

    assert Healer(tokenizer).take_back(ids).prompt == tuple(ids)
