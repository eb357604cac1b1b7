"""What the gateway alone says: keys, models, limits that tell when to come back."""

import asyncio
import json
from typing import Any

import pytest

from clients import (
    AsyncCompletionClient,
    Chunk,
    ClientError,
    Completion,
    CompletionClient,
    InvalidRequest,
    RateLimited,
    ServerError,
    Superseded,
    Timeout,
    Unauthorized,
)
from clients.gateway_wire import EventDecoder, decode_models, decode_unary, error_of
from clients.messages import TokenLogprob
from tests.clients.drivers import AsyncDriver, Driver, SyncDriver
from tests.clients.playback import End, Fail, Playback, Text


@pytest.fixture(params=[SyncDriver, AsyncDriver], ids=["sync", "async"])
def driver(request: pytest.FixtureRequest, playback: Playback) -> Driver:
    made: Driver = request.param(playback, "gateway")
    return made


def limited(retry_after: str) -> Fail:
    return Fail("RESOURCE_EXHAUSTED", "slow down", retry_after)


@pytest.mark.parametrize("door", ["complete", "stream"])
def test_key_model_id_and_time_left_are_told(playback: Playback, door: str) -> None:
    with CompletionClient(
        playback.urls["gateway"], "gateway", 9.0, api_key="nt_x", model="gpt"
    ) as client:
        answer = getattr(client, door)("hi", request_id="mine", headers={"X-More": "1"})
        assert answer.text if door == "complete" else list(answer)
    (headers,) = playback.headers
    told = {name.lower(): value for name, value in headers.items()}
    assert told["authorization"] == "Bearer nt_x"
    assert (told["x-request-id"], told["x-more"]) == ("mine", "1")
    assert 8000 < int(told["x-request-timeout-ms"]) <= 9000
    assert playback.requests[0]["model"] == "gpt"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAUTHENTICATED", Unauthorized),
        ("PERMISSION_DENIED", Unauthorized),
        ("ABORTED", Superseded),
        ("DEADLINE_EXCEEDED", Timeout),
    ],
)
@pytest.mark.parametrize("door", ["complete", "stream"])
def test_refusals_have_their_kind_and_are_final(
    driver: Driver, code: str, kind: type[ClientError], door: str
) -> None:
    driver.playback.replies = [[Fail(code, "no")]]
    with pytest.raises(ClientError, match=r"^no$") as caught:
        getattr(driver, door)()
    assert type(caught.value) is kind
    assert len(driver.playback.requests) == 1


@pytest.mark.parametrize("door", ["complete", "stream"])
def test_limited_request_waits_as_long_as_the_gateway_says(driver: Driver, door: str) -> None:
    driver.playback.replies = [[limited("3")], [Text("ok"), End()]]
    assert getattr(driver, door)()
    assert driver.pauses == [3.0]


def test_limit_that_outlasts_the_deadline_is_final(driver: Driver) -> None:
    driver.playback.replies = [[limited("86400")]]
    with pytest.raises(RateLimited, match="slow down") as caught:
        driver.complete()
    assert caught.value.retry_after_s == 86400
    assert driver.pauses == []


def test_superseded_in_mid_stream(driver: Driver) -> None:
    driver.playback.replies = [[Text("a"), Fail("ABORTED", "a newer request came")]]
    with pytest.raises(Superseded, match="a newer request came"):
        driver.stream()
    assert driver.seen == [Chunk("a")]


def test_models_are_listed(playback: Playback) -> None:
    async def ask() -> tuple[str, ...]:
        async with AsyncCompletionClient(playback.urls["gateway"], "gateway") as client:
            return await client.models()

    with CompletionClient(playback.urls["gateway"], "gateway") as client:
        assert client.models() == asyncio.run(ask()) == ("gpt",)


@pytest.mark.parametrize("other", ["grpc", "http"])
def test_what_is_the_gateways_is_refused_elsewhere(playback: Playback, other: Any) -> None:
    with pytest.raises(InvalidRequest, match="api_key and model are for the gateway"):
        CompletionClient(protocol=other, api_key="nt_secret", model="x")
    with (
        CompletionClient(playback.urls[other], other) as client,
        pytest.raises(InvalidRequest, match="told by the protocol gateway"),
    ):
        client.models()


def test_key_that_no_header_can_carry_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidRequest) as caught:
        CompletionClient(protocol="gateway", api_key="nt_\nsecret")
    assert "secret" not in str(caught.value)


LOGPROBS = {
    "tokens": ["a", "b"],
    "token_logprobs": [-0.5, -1.0],
    "top_logprobs": [{"c": -2.0, "a": -0.5}, None],
    "text_offset": [2, 3],
}


def test_logprobs_are_read_from_openais_columns() -> None:
    choice = {"text": "ab", "index": 0, "finish_reason": "stop", "logprobs": LOGPROBS}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    made = decode_unary(json.dumps({"choices": [choice], "usage": usage}).encode())
    likeliest = (TokenLogprob(None, "a", -0.5), TokenLogprob(None, "c", -2.0))
    likely = (TokenLogprob(None, "a", -0.5, likeliest), TokenLogprob(None, "b", -1.0))
    assert made == Completion("ab", "stop", 1, 2, likely)


EVENTS = (
    b'data: {"choices":[{"text":"a","index":0,"finish_reason":null}]}\n\n: ping\n\n'
    b'data: {"choices":[{"text":"b","index":0,"finish_reason":"stop"}]}\r\n\r\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    decoder = EventDecoder()
    parts = [EVENTS[start : start + size] for start in range(0, len(EVENTS), size)]
    assert [chunk for part in parts for chunk in decoder.feed(part)] == [
        *(Chunk("a"), Chunk("b", "stop", 3, 2))
    ]


@pytest.mark.parametrize(
    "event",
    [b"1", b"[]", b"{}", b'{"choices":[{}]}', b'{"choices":[{"text":1,"index":0}]}', b"{"],
)
def test_event_that_is_wrong(event: bytes) -> None:
    with pytest.raises(ServerError, match="isn't a completion"):
        list(EventDecoder().feed(b"data: " + event + b"\n"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": []}', b"\xff", b"null"])
def test_answer_that_is_wrong(body: bytes) -> None:
    with pytest.raises(ServerError, match="isn't a completion"):
        decode_unary(body)
    with pytest.raises(ServerError, match="isn't a completion"):
        decode_models(body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (413, InvalidRequest), (429, RateLimited), (500, ServerError)],
)
def test_proxys_page_becomes_a_sentence(status: int, kind: type[ClientError]) -> None:
    error = error_of(status, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"<html>")
    assert (type(error), str(error)) == (kind, f"the gateway answered HTTP {status}")
