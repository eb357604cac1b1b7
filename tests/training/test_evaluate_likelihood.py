"""Likelihood of held-out text: every token once, in bits a byte that mean what they say."""

import gzip
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.gpt import GPT, GPTConfig
from training.likelihood import (
    Likelihood,
    measure_model,
    measure_trigram,
    windows,
    zlib_bits_per_byte,
)
from training.ngram import Trigram

GPT_ARGS = {"block_size": 8, "vocab_size": 20, "n_layer": 2, "n_head": 2, "n_embd": 16}
END = 19
TOKENS = (np.arange(50) ** 2 % 17).astype(np.uint16)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12))
def test_windows_score_every_place_once(num_tokens: int, size: int, stride: int) -> None:
    stride = min(stride, size)
    found = list(windows(num_tokens, size, stride))

    scored = [place for window in found for place in range(window.scored, window.stop)]
    assert scored == list(range(num_tokens))
    assert {window.stop - window.start for window in found} == {min(size, num_tokens)}
    # after the first window, each place sees at least size - stride before it
    assert all(later.scored - later.start >= size - stride for _, later in pairwise(found))


def test_model_is_measured_token_by_token() -> None:
    model = GPT(GPTConfig(**GPT_ARGS)).eval()
    stream = torch.tensor([END, *TOKENS.tolist()])
    nats, num_correct = 0.0, 0
    for window in windows(len(TOKENS), 8, 4):
        for place in range(window.scored, window.stop):
            with torch.no_grad():
                logits = model(stream[None, window.start : place + 1])[0, -1].double()
            nats -= float(logits.log_softmax(0)[stream[place + 1]])
            num_correct += int(logits.argmax() == stream[place + 1])

    found = measure_model(model, TOKENS, END, num_bytes=100)

    assert found.nats == pytest.approx(nats, rel=1e-5)  # float32 against float64 softmax
    assert (found.num_correct, found.num_tokens) == (num_correct, 50)


def test_model_that_knows_nothing_needs_log_v_bits_a_token() -> None:
    model = GPT(GPTConfig(**GPT_ARGS))
    torch.nn.init.zeros_(model.lm_head.weight)

    found = measure_model(model, TOKENS, END, num_bytes=25)

    assert found.perplexity == pytest.approx(20)
    assert found.bits_per_byte == pytest.approx(math.log2(20) * 50 / 25)


def test_trigram_is_measured_on_the_same_tokens() -> None:
    trigram = Trigram.fit(TOKENS, 20, END)

    found = measure_trigram(trigram, TOKENS, num_bytes=100)

    assert found.nats == pytest.approx(-np.log(trigram.probabilities(TOKENS)).sum())
    assert found.num_correct > 40  # it was fit on them, and they repeat every 17


def test_figures_follow_from_the_counts() -> None:
    found = Likelihood(nats=math.log(2) * 30, num_tokens=10, num_correct=4, num_bytes=20)

    assert found.bits_per_byte == pytest.approx(1.5)
    assert found.perplexity == pytest.approx(8)
    assert found.accuracy == 0.4


def test_zlib_is_gzip_but_for_the_header() -> None:
    text = b"def f(x):\n    return x\n" * 40

    num_bytes = zlib_bits_per_byte(text) * len(text) / 8

    assert num_bytes == len(gzip.compress(text, 9)) - 12  # RFC 1950 adds 6 bytes, RFC 1952 18
