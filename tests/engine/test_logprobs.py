"""Log-probabilities against a softmax over the whole vocabulary."""

import json

import numpy as np
import pytest
from driving import Drive, complete_alone
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.logprobs import TokenLogprob, logprob_of, to_json
from nanotriton.runners.base import Candidates

V, K = 12, 4


@given(st.integers(0, 2**32), st.integers(0, K), st.booleans())
def test_logprobs_are_those_of_the_whole_softmax(seed, num_top, has_full):
    full = np.random.default_rng(seed).normal(0, 3, (1, V)).astype(np.float32)
    order = np.argsort(-full, axis=1)[:, :K]
    expected = full[0] - np.log(np.exp(full[0].astype(np.float64)).sum())
    candidates = Candidates(
        np.take_along_axis(full, order, axis=1),
        order,
        np.log(np.exp(full).sum(axis=1)),
        full if has_full else None,
    )
    token = int(np.argmin(full)) if has_full else int(order[0, -1])

    found = logprob_of(candidates, 0, token, num_top)

    assert found.token == token
    assert found.logprob == pytest.approx(expected[token], abs=1e-4)
    assert [one for one, _ in found.top] == order[0, :num_top].tolist()
    assert [value for _, value in found.top] == pytest.approx(
        expected[order[0, :num_top]].tolist(), abs=1e-4
    )


def logprobs_of(drive, number):
    return [one for event in drive.events[number] for one in event.logprobs]


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.0, "seed": 3}, {"temperature": 1.0, "top_k": 4, "seed": 3}],
    ids=["greedy", "from all logits", "from the candidates"],
)
def test_each_token_has_its_logprob(settings):
    drive = Drive()
    number = drive.submit([3, 1, 4], max_tokens=12, logprobs=2, **settings)
    drive.finish()

    found = logprobs_of(drive, number)
    assert tuple(one.token for one in found) == drive.outcome(number).tokens
    assert all(one.logprob <= one.top[0][1] + 1e-6 for one in found)
    if not settings:
        assert all(one.top[0] == (one.token, one.logprob) for one in found)


def test_who_does_not_ask_gets_none_and_the_same_text():
    drive = Drive()
    number = drive.submit([3, 1, 4], max_tokens=5)
    drive.finish()

    assert logprobs_of(drive, number) == []
    assert drive.outcome(number) == complete_alone([3, 1, 4], max_tokens=5, logprobs=5)


def test_json_shows_text_and_bytes_that_are_none():
    table = (b"def", b"\xff")
    found = json.loads(to_json([TokenLogprob(0, -0.5, ((0, -0.5), (1, -2.0)))], table))

    assert found == [
        {
            "id": 0,
            "text": "def",
            "logprob": -0.5,
            "top": [
                {"id": 0, "text": "def", "logprob": -0.5},
                {"id": 1, "text": "\ufffd", "logprob": -2.0},
            ],
        }
    ]
