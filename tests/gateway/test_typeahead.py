"""What is typed along a suggestion is answered by its rest, where that is what it would be."""

import asyncio
import dataclasses

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.caches.store import MemoryStore
from gateway.caches.typeahead import MAX_LINES, MAX_SUGGESTIONS, TypeAhead
from gateway.messages import Answer, Usage
from nanotriton.engine.blocks import find_end
from nanotriton.engine.stops import TextEnd
from tests.gateway.caching import SERVED, answer, caller, request

TEXTS = st.text(st.sampled_from('ab \n\r"é語😀́,]'), max_size=12)
WORDS = st.text("abc", min_size=3, max_size=5)
CODE = st.lists(
    st.sampled_from(
        [
            "def f():",
            "if a:",
            "else:",
            "    ",
            "\n",
            "\n",
            "return 1",
            "# x",
            "(",
            ")",
            "'",
            " ",
            "x",
        ]
    ),
    max_size=14,
).map("".join)


def after_put(*puts, asked, get=SERVED) -> Answer | None:
    """What is answered to (caller, request) when (caller, request, answer) were kept."""

    async def scenario():
        cache = TypeAhead(MemoryStore(1 << 20, 60))
        for who, what, suggestion in puts:
            await cache.put(who, what, SERVED, suggestion)
        return await cache.get(*asked, get)

    return asyncio.run(scenario())


def rest_of(prompt: str, suggestion: Answer, asked: str, **options) -> str | None:
    """The text that one tenant's own suggestion gives."""
    kept = caller(), request(prompt, **options), suggestion
    found = after_put(kept, asked=(caller(), request(asked, **options)))
    return found.texts[0] if found else None


@given(TEXTS, TEXTS, st.data())
def test_typing_along_a_suggestion_gets_its_rest(prompt, text, data):
    assume(len(text) > 1)
    typed = data.draw(st.integers(1, len(text) - 1))
    assume(text[:typed].count("\n") <= MAX_LINES)

    assert rest_of(prompt, answer(text), prompt + text[:typed]) == text[typed:]


@given(TEXTS, TEXTS.filter(bool), TEXTS)
def test_nothing_else_is_answered(prompt, text, asked):
    goes_on = asked.startswith(prompt) and prompt != asked != prompt + text
    rest = rest_of(prompt, answer(text), asked)

    if goes_on and (prompt + text).startswith(asked):
        assert rest == (prompt + text)[len(asked) :]
    else:
        assert rest is None


def test_other_sessions_and_keys_of_the_tenant_share_it():
    kept = caller("acme", "one"), request("d", "tab 1", user="ann"), answer("ef f")
    asked = caller("acme", "other"), request("de", "tab 2", user="bob")

    assert after_put(kept, asked=asked) == Answer(("f f",), ("stop",), Usage(7, 6))


@given(tenant=TEXTS, other=TEXTS, prompt=TEXTS)
def test_another_tenant_has_nothing_of_it(tenant, other, prompt):
    assume(tenant != other)
    kept = caller(tenant), request(prompt), answer("text")

    assert after_put(kept, asked=(caller(other), request(prompt + "t"))) is None


@pytest.mark.parametrize("part", ["backend", "model", "version", "precision"])
def test_another_version_has_nothing_of_it(part):
    kept = caller(), request("d"), answer("ef")
    other = dataclasses.replace(SERVED, **{part: "2"})

    assert after_put(kept, asked=(caller(), request("de")), get=other) is None


@pytest.mark.parametrize(
    "options",
    [
        {"suffix": "x"},
        {"max_tokens": 9},
        {"stop": ["x"]},
        {"stop_at": "line"},
        {"ignore_eos": True},
    ],
    ids=str,
)
def test_other_settings_have_nothing_of_it(options):
    kept = caller(), request("d"), answer("ef")

    assert after_put(kept, asked=(caller(), request("de", **options))) is None


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0, "seed": 1},
        {"n": 2},
        {"best_of": 2},
        {"logprobs": 0},
        {"repetition_penalty": 1.1},
        {"frequency_penalty": 0.1},
        {"presence_penalty": 0.1},
    ],
    ids=str,
)
def test_requests_whose_rest_would_differ_are_left_to_the_engine(options):
    assert rest_of("d", answer("ef"), "de", **options) is None


@pytest.mark.parametrize(
    ("reason", "typed", "rest"),
    [
        ("stop", 7, "7"),
        ("length", 4, "4567"),
        ("length", 5, None),
        ("timeout", 1, None),
        ("cancelled", 1, None),
    ],
)
def test_cut_suggestion_is_served_while_half_of_it_is_left(reason, typed, rest):
    assert rest_of("p", answer("01234567", reason), "p" + "01234567"[:typed]) == rest


def test_newest_suggestion_is_served():
    kept = [(caller(), request("d"), answer(text)) for text in ("ef old", "ef new")]

    assert after_put(*kept, asked=(caller(), request("de"))).texts == ("f new",)


def test_suggestions_of_one_line_are_bounded():
    lines = [f"x = {index}" for index in range(MAX_SUGGESTIONS + 1)]
    kept = [(caller(), request(line), answer("ab")) for line in lines]

    found = [after_put(*kept, asked=(caller(), request(line + "a"))) for line in lines]
    assert [one is not None for one in found] == [False] + [True] * MAX_SUGGESTIONS


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(CODE, CODE, st.sampled_from(["block", "function"]), st.data())
def test_unit_of_the_cursor_ends_the_rest_where_it_ended_the_whole(before, code, unit, data):
    before, written = f"def f():\n    {before}", f"y{code}\nend"
    length = find_end(before, written, unit)
    assume(length is not None and length > 1)
    typed = data.draw(st.integers(1, length - 1))
    suggestion, asked = answer(written[:length]), before + written[:typed]
    rest = rest_of(before, suggestion, asked, stop_at=unit)

    assert rest is None or find_end(asked, written[typed:], unit) == len(rest)


def test_typing_within_a_line_of_a_block_is_served():
    assert rest_of("if a:\n    retu", answer("rn 1"), "if a:\n    return", stop_at="block") == " 1"
    assert rest_of("if a:\n    ", answer("return 1"), "if a:\n    re", stop_at="block") is None
    assert rest_of("if a: x", answer("()\n    y()"), "if a: x()\n", stop_at="block") is None


@given(TEXTS, st.text("ab", min_size=2, max_size=9), st.lists(WORDS, min_size=1), st.data())
def test_stop_strings_end_the_rest_where_they_ended_the_whole(prompt, written, stops, data):
    text = TextEnd(stops).push(written + stops[0])
    assume(len(text) > 1)
    typed = data.draw(st.integers(1, len(text) - 1))
    rest = rest_of(prompt, answer(text), prompt + text[:typed], stop=stops)

    assert rest == TextEnd(stops).push(written[typed:] + stops[0])
