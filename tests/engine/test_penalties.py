"""Bias and penalties against the definitions, written out token by token."""

import numpy as np
import pytest
from driving import complete_alone
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.bias import parse_logit_bias
from nanotriton.engine.penalties import changes_logits, penalized
from nanotriton.engine.request import Settings
from nanotriton.engine.sampler import needs_all_logits
from nanotriton.errors import InvalidRequest

V = 12
tokens = st.lists(st.integers(0, V - 1), max_size=20)
settings = st.builds(
    Settings,
    repetition_penalty=st.floats(0.1, 5),
    frequency_penalty=st.floats(-2, 2),
    presence_penalty=st.floats(-2, 2),
    logit_bias=st.dictionaries(st.integers(0, V - 1), st.floats(-100, 100), max_size=4).map(
        lambda biases: tuple(biases.items())
    ),
)


def plain(logits, asked, prompt, completion):
    """The definition, one token at a time."""
    found = []
    for token, logit in enumerate(logits):
        value = logit + dict(asked.logit_bias).get(token, 0.0)
        if token in (*prompt, *completion):
            factor = asked.repetition_penalty
            value = value / factor if value > 0 else value * factor
        count = completion.count(token)
        value -= asked.frequency_penalty * count + asked.presence_penalty * (count > 0)
        found.append(value)
    return found


@given(settings, tokens, tokens, st.integers(0, 2**32))
def test_logits_are_those_of_the_definition(asked, prompt, completion, seed):
    logits = np.random.default_rng(seed).normal(0, 3, V).astype(np.float32)
    before = logits.copy()

    found = penalized(logits, asked, prompt, completion)

    np.testing.assert_allclose(
        found, plain(before, asked, prompt, completion), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(logits, before)


def test_only_changed_logits_need_the_whole_row():
    assert not changes_logits(Settings())
    for name in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
        assert needs_all_logits(Settings(**{name: 0.5}), num_candidates=8)
    assert needs_all_logits(Settings(logit_bias=((3, -1.0),)), num_candidates=8)


def test_token_outside_the_candidates_can_be_lifted():
    prompt = [3, 1, 4]
    found = complete_alone(prompt, max_tokens=3, logit_bias=((42, 100.0),))
    assert found.tokens == (42, 42, 42)


def test_banned_token_is_not_written():
    first = complete_alone([3, 1, 4], max_tokens=1).tokens[0]
    found = complete_alone([3, 1, 4], max_tokens=20, logit_bias=((first, -100.0),))
    assert first not in found.tokens


def test_written_tokens_count_from_the_first_on():
    found = complete_alone([3, 1, 4], max_tokens=3, logit_bias=((42, 20.0),), presence_penalty=2.0)
    again = complete_alone([3, 1, 4], max_tokens=3, logit_bias=((42, 9.0),), frequency_penalty=2.0)
    assert found.tokens[0] == 42
    assert again.tokens.count(42) < 3


@pytest.mark.parametrize(
    "text", ["{", "[1]", "5", '{"a": 1}', '{"1": "x"}', '{"1": null}', "[" * 9999]
)
def test_bias_that_is_no_object_of_numbers_is_refused(text):
    with pytest.raises(InvalidRequest, match="expected a JSON object from token ids to numbers"):
        parse_logit_bias(text)


def test_bias_of_a_token_that_is_none_is_refused():
    with pytest.raises(InvalidRequest, match="logit_bias names token 97, the vocabulary runs"):
        complete_alone([1], logit_bias=((97, 1.0),))
