"""Batching changes no text on a real model either: 200 random mixes, each request also run alone.

tests/engine/test_batching.py has the same property over the fake runner, which forgives nothing;
here real logits, real rounding and every setting take part.
"""

import itertools
import random
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from driving import PEER, PLAIN, Outcome, outcome_of

from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.request import Request, Settings
from nanotriton.infill import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Markers
from nanotriton.prompt import encode_prompt
from nanotriton.tokenizer import Tokenizer, load_tokenizer

CODE = "def mean(values):\n    total = sum(values)\n    return total / len(values)\n"


@dataclass(frozen=True)
class Job:
    """One request of a mix: it comes before step `arrival`, and may be cancelled steps later."""

    prompt: tuple[int, ...]
    settings: Settings
    arrival: int
    cancel_at: int | None


@pytest.fixture
def tokenizer(artifact_of):
    """The tiny tokenizer, three of its tokens made the marks of infilling."""
    plain = load_tokenizer(artifact_of("fp32"))
    marks = dict(zip((FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE), range(3), strict=True))
    return Tokenizer(plain.encode, (b"",) * 3 + plain.table[3:], plain.special_tokens | marks)


def some_settings(choice: random.Random) -> Settings:
    """Greedy for one half, sampled for the other; each of the rest now and then."""
    asked: dict[str, Any] = {
        "temperature": choice.choice((0.0, 0.0, 0.7, 1.5)),
        "top_k": choice.choice((0, 1, 20)),
        "top_p": choice.choice((0.6, 1.0)),
        "min_p": choice.choice((0.0, 0.1)),
        "repetition_penalty": choice.choice((1.0, 1.0, 1.3)),
        "frequency_penalty": choice.choice((0.0, 0.0, 0.5)),
        "logit_bias": choice.choice(((), (), ((7, 3.0), (100, -50.0)))),
        "stop": choice.choice(((), ("ne",))),
        "logprobs": choice.choice((None, None, 2)),
        "priority": choice.choice((0, 3)),
    }
    return Settings(max_tokens=choice.randint(1, 16), seed=choice.randrange(9), **asked)


def some_jobs(choice: random.Random, tokenizer: Tokenizer) -> list[Job]:
    """Two to six requests that share beginnings, some with a suffix, some cancelled."""
    markers = Markers.of(tokenizer.special_tokens)
    jobs = []
    for _ in range(choice.randint(2, 6)):
        settings, start = some_settings(choice), choice.choice((0, 18))
        text = CODE[start : start + choice.randint(1, 30)]
        suffix = choice.choice(("", "", CODE[48 : choice.randint(49, 60)]))
        limits = (tokenizer, 64, settings.max_tokens, "none")
        prompt = tuple(encode_prompt(text, *limits, suffix=suffix, markers=markers))
        cancel_at = choice.choice((None, None, None, choice.randint(1, 20)))
        jobs.append(Job(prompt, settings, choice.randint(0, 6), cancel_at))
    return jobs


def run(runner, tokenizer, jobs, options=MappingProxyType({})) -> list[Outcome]:
    """What each of the jobs brought, in one engine."""
    limits = EngineOptions(prefill_chunk=10, **options)
    clock = itertools.count()
    engine = Engine(runner, tokenizer, lambda: 0, lambda: next(clock) * 1e-3, limits)
    events = [[] for _ in jobs]
    for step in itertools.count():
        found = []
        for index, job in enumerate(jobs):
            if job.arrival == step:
                engine.submit(Request((PEER, index), job.prompt, job.settings))
            if job.cancel_at is not None and job.arrival + job.cancel_at == step:
                found += engine.cancel((PEER, index))
        for event in found + engine.step():
            events[event.key[1]].append(event)
        if step > max(job.arrival for job in jobs) and not engine.has_work:
            assert engine.stats()["num_free_slots"] == runner.num_slots
            return [outcome_of(one) for one in events]
    raise AssertionError


def equals(found: Outcome, alone: Outcome) -> bool:
    """Whether a request fared in a mix as it did alone, as far as it was let."""
    if found.reason == "cancelled":
        return found.tokens == alone.tokens[: len(found.tokens)]
    return (found.tokens, found.text, found.reason) == (alone.tokens, alone.text, alone.reason)


def share_of_equals(runner, tokenizer, num_mixes) -> float:
    """How many of the requests of random mixes bring what they bring alone."""
    results = []
    for seed in range(num_mixes):
        jobs = some_jobs(random.Random(seed), tokenizer)
        for job, found in zip(jobs, run(runner, tokenizer, jobs), strict=True):
            (alone,) = run(runner, tokenizer, [Job(job.prompt, job.settings, 0, None)], PLAIN)
            results.append(equals(found, alone))
    return sum(results) / len(results)


# 8-bit rows don't depend on their batch mates, but a rounding may fall on the other side of a step
# when a prompt is cut into other chunks: measured in 200 mixes were 803 of 803 texts.
@pytest.mark.parametrize(
    ("kind", "num_mixes", "least"),
    [("ort-fp32", 200, 1.0), ("ort-int8", 50, 0.98), ("trt-fp32", 20, 1.0), ("trt-fp16", 20, 0.95)],
    indirect=["kind"],
)
def test_request_in_a_mix_brings_what_it_brings_alone(
    kind, artifact_of, tokenizer, num_mixes, least
):
    runner = kind.open(artifact_of, 4)
    assert share_of_equals(runner, tokenizer, num_mixes) >= least
