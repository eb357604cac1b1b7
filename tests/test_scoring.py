from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.errors import InvalidRequest
from nanotriton.scoring import NO_TARGET, Pair, ScoreLimits, encode_pair, pad_pairs
from nanotriton.tokenizer import load_tokenizer

LIMITS = ScoreLimits(context=64, max_targets=20)
ids = st.lists(st.integers(0, 99), min_size=1, max_size=20)


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(Path(__file__).parent.parent / "demo")


@given(st.lists(st.builds(Pair, ids, ids), min_size=1, max_size=5))
def test_every_target_stands_behind_the_place_that_decides_it(pairs):
    padded = pad_pairs(pairs, LIMITS)
    for row, one in enumerate(pairs):
        whole = [*one.text, *one.continuation]
        given = padded.targets[row] != NO_TARGET
        assert given.sum() == one.num_tokens
        for place, target in zip(
            padded.places[row, given], padded.targets[row, given], strict=True
        ):
            assert padded.input_ids[row, : place + 1].tolist() == whole[: place + 1]
            assert whole[place + 1] == target


@given(st.lists(st.builds(Pair, ids, ids), min_size=1, max_size=5))
def test_shapes_are_few_and_within_the_limits(pairs):
    padded = pad_pairs(pairs, LIMITS)
    assert padded.input_ids.shape[1] in (32, 64)
    assert padded.places.shape[1] in (8, 16, 20)
    assert padded.places.max() < padded.input_ids.shape[1]
    assert padded.places.dtype == padded.input_ids.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "continuation", "words"),
    [
        ("", "x", "text_input is empty"),
        ("x", "", "continuation is empty"),
        ("x\0", "x", "text_input holds a NUL character at 1"),
        ("x", "y = 0\n" * 30, r"continuation has \d+ tokens, at most 20 are scored"),
        ("y = 0\n" * 70, "x", r"have \d+ tokens before the last, the model reads at most 64"),
        ("x" * 10_000, "x", "text_input has 10000 bytes, the model reads at most 64 tokens"),
    ],
    ids=["no text", "no continuation", "nul", "many targets", "long", "far too long"],
)
def test_what_can_not_be_scored_is_refused(tokenizer, text, continuation, words):
    with pytest.raises(InvalidRequest, match=words):
        encode_pair(text, continuation, tokenizer, LIMITS)
