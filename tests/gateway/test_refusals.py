"""Every option that is wrong, unknown or unsupported is refused by its name; none is ignored."""

import typing

import pytest
from openai.types.completion_create_params import CompletionCreateParamsBase

from gateway.api.openai import CompletionBody
from nanotriton.engine.request import MAX_STOP_BYTES, MAX_STOPS, RANGES
from tests.gateway.gateways import RunningGateway, error_of

BAD = {
    "an option of chat": {"messages": []},
    "functions": {"tools": []},
    "a misspelt one": {"max_token": 3},
    "of another server": {"guided_regex": "a*"},
    "prompt": {"prompt": None},
    "prompt of ids": {"prompt": [1, 2]},
    "prompts of ids": {"prompt": [[1, 2]]},
    "several prompts": {"prompt": ["a", "b"]},
    "no prompts": {"prompt": []},
    "empty prompt": {"prompt": ""},
    "prompt with NUL": {"prompt": "a\0b"},
    "suffix, a number": {"suffix": 3},
    "suffix with NUL": {"suffix": "\0"},
    "max_tokens of 0": {"max_tokens": 0},
    "max_tokens as text": {"max_tokens": "3"},
    "max_tokens with a point": {"max_tokens": 3.5},
    "max_tokens beyond the context": {"max_tokens": 100_000},
    "max_tokens beyond 64 bits": {"max_tokens": 10**30},
    "max_tokens true": {"max_tokens": True},
    "temperature below 0": {"temperature": -0.1},
    "temperature as text": {"temperature": "1"},
    "top_p of 0": {"top_p": 0},
    "top_p above 1": {"top_p": 1.1},
    "n of 0": {"n": 0},
    "n of 17": {"n": 17},
    "best_of below n": {"n": 3, "best_of": 2},
    "best_of in a stream": {"best_of": 2, "stream": True},
    "stream as text": {"stream": "true"},
    "stream_options without a stream": {"stream_options": {"include_usage": True}},
    "stream_options, unknown": {"stream": True, "stream_options": {"include_all": True}},
    "logprobs of 6": {"logprobs": 6},
    "logprobs true": {"logprobs": True},
    "echo with logprobs": {"echo": True, "logprobs": 1},
    "17 stops": {"stop": ["a"] * 17},
    "an empty stop": {"stop": [""]},
    "a long stop": {"stop": "é" * 129},
    "stop, a number": {"stop": [1]},
    "presence_penalty": {"presence_penalty": 2.5},
    "frequency_penalty": {"frequency_penalty": -2.5},
    "logit_bias of a word": {"logit_bias": {"a": 1}},
    "logit_bias beyond 100": {"logit_bias": {"1": 101}},
    "logit_bias beyond the vocabulary": {"logit_bias": {"999999999": 1}},
    "logit_bias, a list": {"logit_bias": [1]},
    "seed below 0": {"seed": -1},
    "seed beyond 63 bits": {"seed": 2**63},
    "user, empty": {"user": ""},
    "user, long": {"user": "a" * 129},
    "top_k below 0": {"top_k": -1},
    "min_p": {"min_p": 2},
    "repetition_penalty": {"repetition_penalty": 0},
    "stop_at": {"stop_at": "word"},
    "truncate": {"truncate": "right"},
    "token_healing": {"token_healing": 1},
    "priority": {"priority": 9},
    "timeout of 0": {"timeout": 0},
    "both timeouts": {"timeout": 1, "timeout_ms": 1000},
    "session, long": {"session": "a" * 129},
}


@pytest.mark.parametrize("options", BAD.values(), ids=BAD)
def test_bad_option_is_refused_by_name(gateway: RunningGateway, options: dict[str, object]) -> None:
    response = gateway.complete(**options)

    error = error_of(response)
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert error["param"] in options
    assert error["param"] in error["message"]


def test_priority_above_0_is_forbidden_to_users(gateway: RunningGateway) -> None:
    response = gateway.complete(priority=1)
    assert response.status_code == 403
    assert error_of(response)["param"] == "priority"


def test_every_option_of_openais_client_is_known() -> None:
    assert typing.get_type_hints(CompletionCreateParamsBase).keys() <= {
        *CompletionBody.model_fields,
        "stream",
        "stream_options",
    }


@pytest.mark.parametrize("name", sorted(RANGES.keys() & CompletionBody.model_fields.keys()))
def test_ranges_of_the_description_lie_within_the_engines(name: str) -> None:
    schema = CompletionBody.model_json_schema()["properties"][name]
    number = next(one for one in schema["anyOf"] if one["type"] != "null")
    least, most, _ = RANGES[name]
    assert number["minimum"] >= least
    assert most is None or number["maximum"] <= most


def test_stops_are_bounded_as_in_the_engine() -> None:
    _, many, _ = CompletionBody.model_json_schema()["properties"]["stop"]["anyOf"]
    assert (many["maxItems"], many["items"]["maxLength"]) == (MAX_STOPS, MAX_STOP_BYTES)


@pytest.mark.parametrize(
    "name", ["suffix", "max_tokens", "stop", "logit_bias", "stream", "seed", "user", "timeout"]
)
def test_null_is_as_good_as_left_out(gateway: RunningGateway, name: str) -> None:
    assert gateway.complete(**{name: None}).status_code == 200


@pytest.mark.parametrize("path", ["/complete", "/v1/generate", "/v1/generate/stream"])
@pytest.mark.parametrize("options", [{"stream": True}, {"echo": True}, {"logprobs": 21}])
def test_short_form_refuses_what_it_has_not(
    gateway: RunningGateway, path: str, options: dict[str, object]
) -> None:
    with gateway.http() as http:
        response = http.post(path, json={"prompt": "a", **options})
    assert response.status_code == 400
    assert error_of(response)["param"] in options
