import json
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.contract import SETTINGS
from nanotriton.engine.protocol import pack, unpack
from nanotriton.engine.request import Settings, refuse_unknown, utf8
from nanotriton.errors import InvalidRequest

REFUSED = [
    ("max_tokens", 0, "max_tokens is 0, allowed is at least 1: tokens to generate"),
    ("max_tokens", -7, "max_tokens is -7, allowed is at least 1"),
    ("temperature", -0.5, "temperature is -0.5, allowed is 0 to 100: 0 is greedy"),
    ("temperature", 100.5, "temperature is 100.5, allowed is 0 to 100"),
    ("temperature", math.nan, "temperature is nan, allowed is 0 to 100"),
    ("temperature", math.inf, "temperature is inf, allowed is 0 to 100"),
    ("top_k", -1, "top_k is -1, allowed is at least 0: 0 considers every token"),
    ("top_p", 0.0, "top_p is 0, allowed is above 0 and up to 1: 1 considers every token"),
    ("top_p", -0.1, "top_p is -0.1, allowed is above 0 and up to 1"),
    ("top_p", 1.5, "top_p is 1.5, allowed is above 0 and up to 1"),
    ("top_p", math.nan, "top_p is nan, allowed is above 0 and up to 1"),
    ("min_p", -0.1, "min_p is -0.1, allowed is 0 to 1: 0 is off"),
    ("min_p", 1.5, "min_p is 1.5, allowed is 0 to 1"),
    ("min_p", math.nan, "min_p is nan, allowed is 0 to 1"),
    ("repetition_penalty", 0.0, "repetition_penalty is 0, allowed is 0.01 to 10: 1 is off"),
    ("repetition_penalty", math.inf, "repetition_penalty is inf, allowed is 0.01 to 10"),
    ("frequency_penalty", 2.5, "frequency_penalty is 2.5, allowed is -2 to 2: 0 is off"),
    ("presence_penalty", math.nan, "presence_penalty is nan, allowed is -2 to 2"),
    ("logit_bias", ((5, 101.0),), "logit_bias of token 5 is 101, allowed is -100 to 100"),
    ("logit_bias", ((5, math.nan),), "logit_bias of token 5 is nan, allowed is -100 to 100"),
    ("logit_bias", ((5, 1.0), (5, 2.0)), "logit_bias names a token twice: name each once"),
    ("logit_bias", tuple((n, 1.0) for n in range(301)), "logit_bias has 301 tokens, at most 300"),
    ("logprobs", -1, "logprobs is -1, allowed is 0 to 20: how many of the likeliest tokens"),
    ("logprobs", 21, "logprobs is 21, allowed is 0 to 20"),
    ("seed", -1, "seed is -1, allowed is at least 0: leave it out for a random one"),
    ("n", 0, "n is 0, allowed is 1 to 16: how many texts to return"),
    ("n", 17, "n is 17, allowed is 1 to 16"),
    ("best_of", 17, "best_of is 17, allowed is 1 to 16: how many texts to choose the best n from"),
    ("truncate", "right", "truncate is 'right', allowed are 'none' and 'left'"),
    ("stop_at", "para", "stop_at is 'para', allowed are 'none', 'line', 'block' and 'function'"),
    ("stop_at", "", "stop_at is '', allowed are 'none', "),
    ("stop", ("a",) * 17, "stop has 17 strings, at most 16 are allowed: send fewer"),
    ("stop", ("x" * 257,), "a stop string has 257 bytes, allowed is 1 to 256: send a shorter"),
    ("stop", ("é" * 129,), "a stop string has 258 bytes, allowed is 1 to 256"),
    ("stop", ("",), "a stop string has 0 bytes, allowed is 1 to 256"),
    ("priority", 9, "priority is 9, allowed is -8 to 8: higher goes first"),
    ("priority", -9, "priority is -9, allowed is -8 to 8"),
    ("timeout_ms", 0, "timeout_ms is 0, allowed is at least 1: leave it out to wait"),
    ("user", "é" * 129, "user has 258 bytes, at most 256 are allowed: send a shorter name"),
]
ALLOWED = [
    ("max_tokens", 1),
    ("max_tokens", 2**31 - 1),
    ("temperature", 0.0),
    ("temperature", 100.0),
    ("top_k", 0),
    ("top_k", 2**31 - 1),
    ("top_p", 1e-6),
    ("top_p", 1.0),
    ("min_p", 0.0),
    ("min_p", 1.0),
    ("repetition_penalty", 0.01),
    ("frequency_penalty", -2.0),
    ("presence_penalty", 2.0),
    ("logprobs", 0),
    ("logprobs", 20),
    ("seed", 0),
    ("seed", 2**63 - 1),
    ("n", 16),
    ("best_of", 16),
    ("stop", ("x" * 256,) * 16),
    ("stop_at", "none"),
    ("stop_at", "function"),
    ("truncate", "left"),
    ("truncate", "none"),
    ("ignore_eos", True),
    ("priority", -8),
    ("priority", 8),
    ("timeout_ms", 1),
    ("timeout_ms", 2**31 - 1),
    ("user", "x" * 256),
]
ANY_SETTINGS = st.builds(
    Settings,
    max_tokens=st.integers(1, 2**31 - 1),
    temperature=st.floats(0, 100, width=32),
    top_k=st.integers(0, 2**31 - 1),
    top_p=st.floats(0, 1, width=32, exclude_min=True),
    min_p=st.floats(0, 1, width=32),
    repetition_penalty=st.floats(0.125, 10, width=32),
    frequency_penalty=st.floats(-2, 2, width=32),
    presence_penalty=st.floats(-2, 2, width=32),
    logit_bias=st.dictionaries(st.integers(0, 99), st.floats(-100, 100)).map(
        lambda biases: tuple(biases.items())
    ),
    seed=st.none() | st.integers(0, 2**63 - 1),
    n=st.integers(1, 8),
    best_of=st.none() | st.integers(8, 16),
    stop=st.lists(st.text(min_size=1, max_size=64), max_size=16).map(tuple),
    stop_at=st.sampled_from(["none", "line", "block", "function"]),
    truncate=st.sampled_from(["none", "left"]),
    token_healing=st.booleans(),
    ignore_eos=st.booleans(),
    priority=st.integers(-8, 8),
    timeout_ms=st.none() | st.integers(1, 2**31 - 1),
    user=st.text(max_size=64),
)


def brief(value):
    """A short id for a table's row."""
    return str(value)[:12]


def row_of(value, dtype):
    """A setting as Triton hands it over for a batch of one, (1, 1)."""
    return np.array([[value]], dtype)


@pytest.mark.parametrize(("name", "value", "words"), REFUSED, ids=brief)
def test_value_outside_its_range_is_refused_by_name(name, value, words):
    with pytest.raises(InvalidRequest) as refusal:
        Settings(**{name: value})
    assert str(refusal.value).startswith(words)


def test_fewer_texts_than_are_returned_are_refused():
    with pytest.raises(InvalidRequest) as refusal:
        Settings(n=3, best_of=2)
    assert str(refusal.value) == (
        "best_of is 2, n is 3: write at least as many texts as are returned"
    )


@pytest.mark.parametrize(("name", "value"), ALLOWED, ids=brief)
def test_both_ends_of_a_range_are_allowed(name, value):
    assert getattr(Settings(**{name: value}), name) == value


def test_every_setting_of_the_contract_is_read():
    assert [item.name for item in fields(Settings)] == list(SETTINGS)


def test_missing_tensors_leave_the_defaults():
    assert Settings.from_tensors({}) == Settings()


def test_tensors_of_one_request_without_a_batch_are_read():
    tensors = {
        "max_tokens": np.array([5], np.int32),
        "temperature": np.array([0.5], np.float32),
        "seed": np.array([2**62], np.int64),
        "stop": np.array([b"\n", b"###"], np.object_),
        "truncate": np.array([b"left"], np.object_),
        "ignore_eos": np.array([True]),
    }
    expected = Settings(
        max_tokens=5,
        temperature=0.5,
        seed=2**62,
        stop=("\n", "###"),
        truncate="left",
        ignore_eos=True,
    )
    assert Settings.from_tensors(tensors) == expected


@pytest.mark.parametrize("row", [0, 1, 2])
def test_each_row_of_a_batch_has_its_own_settings(row):
    tensors = {
        "max_tokens": np.array([[5], [6], [7]], np.int32),
        "top_p": np.array([[0.25], [0.5], [0.75]], np.float32),
        "truncate": np.array([[b"left"], [b"none"], [b"left"]], np.object_),
    }
    found = Settings.from_tensors(tensors, row)
    expected = (5 + row, 0.25 * (row + 1), ["left", "none", "left"][row])
    assert (found.max_tokens, found.top_p, found.truncate) == expected


@pytest.mark.parametrize(("row", "expected"), [(0, ("a", "b")), (1, ("c",)), (2, ())])
def test_empty_stop_strings_only_pad_the_rows(row, expected):
    stop = np.array([[b"a", b"b"], [b"c", b""], [b"", b""]], np.object_)
    assert Settings.from_tensors({"stop": stop}, row).stop == expected


@pytest.mark.parametrize(("name", "value", "words"), REFUSED[:15], ids=brief)
def test_tensor_outside_its_range_is_refused_by_name(name, value, words):
    dtype = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}[SETTINGS[name]]
    with pytest.raises(InvalidRequest) as refusal:
        Settings.from_tensors({name: row_of(value, dtype)})
    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize("name", ["stop", "truncate"])
def test_text_that_is_not_utf8_is_refused_with_its_place(name):
    with pytest.raises(InvalidRequest, match=f"{name} is not UTF-8: byte 0xff at position 2"):
        Settings.from_tensors({name: row_of(b"ab\xff", np.object_)})


@pytest.mark.parametrize("raw", ["é", "é".encode()], ids=["str", "bytes"])
def test_text_arrives_as_bytes_or_as_text(raw):
    assert utf8(raw, "stop") == "é"


@pytest.mark.parametrize(
    "name", ["max_token", "Temperature", "prompt", "num", "priority_level", "xtimeout", "timeouts"]
)
def test_unknown_parameter_is_refused_by_name(name):
    with pytest.raises(InvalidRequest, match=f"there is no setting '{name}'.* allowed are max_tok"):
        refuse_unknown(json.dumps({"x-request-id": "1", name: 3}))


@pytest.mark.parametrize(
    "name",
    [
        *("triton_enable_empty_final_response", "sequence_id", "sequence_start", "sequence_end"),
        *("priority", "timeout", "headers", "binary_data_output", "traceparent", "x-api-key"),
    ],
)
def test_parameters_of_triton_itself_are_let_through(name):
    refuse_unknown(json.dumps({name: 1}))


@pytest.mark.parametrize("parameters", ["", "{}"], ids=["none", "empty"])
def test_request_without_parameters_is_let_through(parameters):
    refuse_unknown(parameters)


@given(ANY_SETTINGS)
def test_settings_survive_the_socket(settings):
    (message,) = unpack(pack([settings.to_message()]))
    assert Settings.from_message(message) == settings


def test_default_settings_travel_as_nothing():
    assert Settings().to_message() == {}
