"""Prompts that end inside a token: what is written in their place, and what the client sees."""

import pytest
from driving import PLAIN, TABLE, Drive, complete_alone, vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotriton.errors import InvalidRequest
from nanotriton.healing import Healer
from nanotriton.infill import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Markers
from nanotriton.tokenizer import TextDecoder, Tokenizer

TOKENS = st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=12)
HEALER = Healer(vocabulary())
DE = [TABLE.index(raw) for raw in (b"A", b" ", b"d", b"e")]  # "def " begins with its end


def raw(ids):
    """Bytes of token ids."""
    return b"".join(TABLE[one] for one in ids)


def run(prompt, options=PLAIN, num_slots=2, **asked):
    """A healed request: what it brought, and every token that its slot got."""
    drive = Drive(num_slots=num_slots, options=options)
    number = drive.submit(prompt, token_healing=True, **asked)
    (sequence,) = [*drive.engine.scheduler.waiting]
    drive.finish()
    return drive.outcomes(number)[0], sequence.tokens, drive.events[number]


@settings(max_examples=60)
@given(TOKENS, st.sampled_from([0.0, 1.0, 9.0]), st.integers(1, 9), st.integers(0, 4))
def test_what_was_missing_is_written_and_not_shown(prompt, temperature, max_tokens, seed):
    asked = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    found, tokens, events = run(prompt, **asked)
    healed = sum(event.num_healed for event in events)

    shown = raw(found.tokens)[healed:]
    assert raw(tokens) == raw(prompt) + shown
    assert found.text == TextDecoder(TABLE).push_bytes(shown)
    assert found.usage.prompt_tokens + found.usage.completion_tokens == len(tokens)
    assert found.usage.completion_tokens == len(found.tokens) == max_tokens


@settings(max_examples=60)
@given(TOKENS, st.integers(0, 4))
def test_prompt_that_gives_nothing_back_is_completed_as_ever(prompt, seed):
    asked = {"temperature": 1.0, "max_tokens": 6, "seed": seed}
    if HEALER.take_back(prompt).missing:
        return
    assert run(prompt, **asked)[0] == complete_alone(prompt, **asked)


@settings(max_examples=40)
@given(TOKENS, st.sampled_from([0.0, 1.0]), st.integers(1, 3))
def test_cache_speculation_and_siblings_change_nothing(prompt, temperature, n):
    asked = {"temperature": temperature, "max_tokens": 6, "seed": 3, "stop": ("b",)}
    plain, _, _ = run(prompt, **asked)
    drive = Drive(num_slots=2, prefill_chunk=4)
    numbers = [drive.submit(prompt, token_healing=True, n=n, **asked) for _ in range(2)]
    drive.finish()

    for number in numbers:
        assert drive.outcomes(number)[0].text == plain.text


def test_likeliest_of_the_allowed_tokens_is_taken():
    healed = HEALER.take_back(DE)
    probe = complete_alone(healed.prompt, max_tokens=1)
    drive = Drive()
    drive.submit(healed.prompt, max_tokens=1)
    found, tokens, _ = run(DE, max_tokens=1, logprobs=0)

    assert healed.missing == b"de"
    assert set(HEALER.allowed(b"de").tolist()) == {TABLE.index(b"d"), TABLE.index(b"def ")}
    assert tokens[len(healed.prompt)] in HEALER.allowed(b"de")
    assert probe.tokens[0] not in HEALER.allowed(b"de")
    assert found.reason == "length"


def test_logprobs_are_told_of_the_tokens_that_bring_text():
    found, _, events = run(DE, max_tokens=5, logprobs=2)
    likely = [one.token for event in events for one in event.logprobs]

    assert likely == [*found.tokens]


def test_stop_strings_see_only_new_text():
    free, _, _ = run(DE, max_tokens=8)
    stopped, _, _ = run(DE, max_tokens=8, stop=("de",))

    assert "de" not in free.text
    assert stopped == free


def test_time_that_is_up_before_the_prompt_is_whole_brings_no_text():
    drive = Drive()
    number = drive.submit([*DE[:2], TABLE.index(b"a"), TABLE.index(b"b")], token_healing=True)
    drive.cancel(number)

    assert drive.outcome(number).text == ""
    assert drive.outcome(number).usage.completion_tokens == 0


def test_full_context_ends_the_text():
    drive = Drive(context=8)
    number = drive.submit([TABLE.index(b"A")] * 6 + DE[-2:], token_healing=True, max_tokens=8)
    drive.finish()
    found = drive.outcome(number)

    assert found.reason == "length"
    assert found.usage.prompt_tokens + found.usage.completion_tokens == 8 + 1


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_ids_with_a_hole_are_not_cut_through_their_marks(order):
    names = (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)
    special = {name: 94 + number for number, name in enumerate(names)}
    drive = Drive(context=16)
    table = tuple(b"" if token >= 94 else one for token, one in enumerate(TABLE))
    drive.engine._tokenizer = Tokenizer(vocabulary().encode, table, special)
    prompt = Markers.of(special, order).arrange([1] * 10, [2] * 10)

    with pytest.raises(InvalidRequest) as refusal:
        drive.submit(prompt, truncate="left", max_tokens=4)
    assert str(refusal.value) == (
        "the prompt has 23 tokens and a hole, the model reads at most 16, and truncate=left would "
        "cut its marks: shorten both sides, or send them as text"
    )
