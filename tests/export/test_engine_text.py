"""Reuse and speculation on the real graph: they change no text, whatever is computed where.

How a prompt is split into passes changes the order of floating-point sums, so logits may differ in
their last digits (test_ort_runner.py holds them to 1e-5); greedy text then only differs where two
tokens are as near as that. None of the prompts here come so near.
"""

import itertools
from types import MappingProxyType

import numpy as np
import pytest
from batches import decode, decode_of, prefill

from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.events import is_final
from nanotriton.engine.request import Request, Settings
from nanotriton.runners.base import Batch, Copy
from nanotriton.tokenizer import load_tokenizer

PLAIN = MappingProxyType({"prefix_cache": False, "speculation": False})
SEED = 5


def edit_prompts(num_prompts):
    """A document of 283 kinds of token after each of a writer's edits, most near its end."""
    random = np.random.default_rng(SEED)
    document = random.integers(0, 283, 20).tolist()
    for _ in range(num_prompts):
        start = max(0, len(document) - int(random.integers(0, 12)))
        document[start:] = random.integers(0, 283, int(random.integers(1, 14))).tolist()
        document = (document * 2 if random.random() < 0.2 else document)[:56]
        yield list(document)


def complete_all(engine, settings, overlap):
    """Text of every edit's completion; a request comes `overlap` steps after the one before."""
    texts = {}

    def run(num_steps):
        for _ in range(num_steps):
            for event in engine.step():
                texts[event.key[1]] = texts.get(event.key[1], ()) + event.tokens
                assert not is_final(event) or event.finish_reason in ("length", "stop")

    for number, prompt in enumerate(edit_prompts(30)):
        engine.submit(Request((b"", number), tuple(prompt), settings))
        run(overlap)
    while engine.has_work:
        run(1)
    return texts


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("overlap", [1, 40])
def test_text_is_the_same_with_and_without(runner_of, artifact_of, precision, temperature, overlap):
    tokenizer = load_tokenizer(artifact_of(precision))
    settings = Settings(max_tokens=8, temperature=temperature, top_k=20, seed=3)
    found = {}
    for name, options in (("alone", PLAIN), ("plain", PLAIN), ("all", {})):
        limits = EngineOptions(prefill_chunk=16, **options)
        ticks = itertools.count()
        clock = ticks.__next__
        engine = Engine(runner_of(precision), tokenizer, clock, clock, limits)
        found[name] = complete_all(engine, settings, 200 if name == "alone" else overlap)
        hits = engine.stats()["prefix_hit_tokens"]
        assert (hits > 0) is (name == "all")
    assert found["all"] == found["plain"] == found["alone"]


@pytest.mark.parametrize("length", [1, 17, 64])
def test_copied_beginning_is_as_good_as_the_computed_one(runner_of, ids, length):
    runner = runner_of("fp32")
    prefill(runner, 0, ids)
    prefill(runner, 2, ids[::-1])
    expected = decode(runner, 0, ids[-1:], [63])
    copies = (Copy(0, 2, length), Copy(2, 3, length), Copy(3, 1, length))
    runner.run(Batch(np.array([0]), decode=decode_of(0, ids[-1:], [63]), copies=copies))
    runner._cache[:, :, 1, :, length:] = runner._cache[:, :, 0, :, length:]
    found = decode(runner, 1, ids[-1:], [63])
    np.testing.assert_array_equal(found, expected)
