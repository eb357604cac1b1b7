"""The response cache answers what was answered, to those it was answered to."""

import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.messages import TokenLogprob
from gateway.caches.responses import ResponseCache
from gateway.caches.store import MemoryStore
from gateway.messages import Answer, Served, Usage
from tests.gateway.caching import SERVED, answer, caller, request

# Texts that would break a key made by joining its parts.
NASTY = st.text(st.sampled_from('ab":,[]{}\\\x00\n\ud800é'), max_size=6)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "suffix": NASTY,
        "stop": st.lists(NASTY, max_size=2),
        "max_tokens": st.integers(1, 3),
        "seed": st.integers(0, 2),
        "temperature": st.sampled_from([0.0, 0.5]),
        "logit_bias": st.dictionaries(st.integers(0, 2), st.sampled_from([1.0, 2.0])),
    },
)


def after_put(kept, asked, put=SERVED, get=SERVED, given: Answer | None = None) -> Answer | None:
    """What a cache that keeps an answer to one (caller, request) gives to another."""

    async def scenario():
        cache = ResponseCache(MemoryStore(1 << 20, 60))
        await cache.put(*kept, put, given or answer("text"))
        return await cache.get(*asked, get)

    return asyncio.run(scenario())


def test_same_request_has_the_same_answer():
    top = (TokenLogprob(1, "a", -0.1), TokenLogprob(2, "b", -2.5))
    given = Answer(
        ("one\n", ""), ("stop", "length"), Usage(3, 9), ((TokenLogprob(1, "a", -0.1, top),), ())
    )
    asked = caller(), request("def f", n=2, logprobs=2)

    assert after_put(asked, asked, given=given) == given


@pytest.mark.parametrize(
    "other",
    [
        {"priority": 3},
        {"timeout_ms": 5},
        {"user": "somebody"},
        {"top_p": 0.5},
        {"seed": 3},
        {"temperature": 0.0},
        {"suffix": None},
    ],
    ids=str,
)
def test_setting_that_changes_no_greedy_text_is_ignored(other):
    assert after_put((caller(), request("p")), (caller(), request("p", **other)))


def test_seed_matters_to_what_is_drawn():
    drawn = request("p", temperature=1.0, seed=1)

    assert after_put((caller(), drawn), (caller(), drawn))
    assert not after_put((caller(), drawn), (caller(), request("p", temperature=1.0, seed=2)))


@pytest.mark.parametrize("part", ["backend", "model", "version", "precision"])
def test_another_version_answers_for_itself(part):
    asked = caller(), request("p")

    assert not after_put(asked, asked, get=dataclasses.replace(SERVED, **{part: "2"}))


def test_draw_without_a_seed_is_never_kept():
    asked = caller(), request("p", temperature=1.0)

    assert after_put(asked, asked) is None


@pytest.mark.parametrize("reason", ["timeout", "cancelled", ""])
def test_answer_that_was_cut_is_never_kept(reason):
    asked = caller(), request("p")

    assert after_put(asked, asked, given=answer("text", reason)) is None


@given(st.tuples(NASTY, NASTY, SETTINGS), st.tuples(NASTY, NASTY, SETTINGS))
def test_only_the_same_tenant_and_request_meet(one, other):
    (tenant, prompt, settings), (other_tenant, other_prompt, others) = one, other
    kept = caller(tenant), request(prompt, **settings)
    asked = caller(other_tenant), request(other_prompt, **others)

    assert not after_put(kept, asked) or (
        (tenant, prompt) == (other_tenant, other_prompt)
        and significant(settings) == significant(others)
    )


@given(NASTY, NASTY)
def test_parts_of_a_version_do_not_run_together(one, other):
    asked = caller(), request("p")
    put, get = Served(one, other, "1", "fp32"), Served(one + other, "", "1", "fp32")

    assert not after_put(asked, asked, put, get) or put == get


def significant(settings):
    """The settings that decide the text."""
    ignored = set() if settings.get("temperature") else {"temperature", "seed"}
    merged = {"max_tokens": 64, **settings}
    return {name: value for name, value in merged.items() if name not in ignored}
