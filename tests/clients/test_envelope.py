"""Headers and the request's id go beside the tensors, over each protocol and in each way."""

import pytest

from clients import Chunk, InvalidRequest, ServerError
from clients.envelope import MAX_ID_CHARS
from tests.clients.drivers import Driver

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("way", ["complete", "stream"])
def test_headers_and_request_id_reach_the_server(driver: Driver, way: str) -> None:
    getattr(driver, way)("hi", headers={"TraceParent": TRACE}, request_id="cmpl-1")

    (headers,) = driver.playback.headers
    assert {name.lower(): value for name, value in headers.items()}["traceparent"] == TRACE
    assert driver.playback.request_ids == ["cmpl-1"]


def test_request_without_an_id_has_none(driver: Driver) -> None:
    driver.complete("hi")
    assert driver.playback.request_ids == [""]


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"a b": "c"}},
        {"headers": {"grpc-timeout": "1"}},
        {"headers": {"data-bin": "c"}},
        {"headers": {"a": "b\r\nc: d"}},
        {"headers": {"a": "é"}},
        {"request_id": "a\nb"},
        {"request_id": "a" * (MAX_ID_CHARS + 1)},
    ],
    ids=["space", "gRPC's own", "binary", "line break", "no ASCII", "id of two lines", "long id"],
)
def test_what_a_protocol_can_not_carry_is_refused(driver: Driver, options: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match=r"give|encode"):
        driver.stream("hi", **options)
    assert driver.playback.requests == []


def test_stream_that_is_not_in_pieces_says_so(driver: Driver) -> None:
    if driver.protocol == "gateway":
        with pytest.raises(InvalidRequest, match="streams in pieces alone: use complete"):
            driver.stream("hi", in_pieces=False)
        return
    driver.stream("hi", in_pieces=False)
    (sent,) = driver.playback.requests
    assert sent["stream"] in (False, ("BOOL", [1], [False]))


def test_each_text_of_one_response_is_a_chunk_and_the_last_one_counts() -> None:
    outputs = {
        "text_output": ["a", "b"],
        "finish_reason": ["stop", "length"],
        "prompt_tokens": [3],
        "completion_tokens": [5],
        "index": [0, 1],
    }
    assert Chunk.all_from_outputs(outputs) == (
        Chunk("a", "stop"),
        Chunk("b", "length", 3, 5, (), 1),
    )


def test_response_whose_columns_differ_in_length_is_malformed() -> None:
    outputs = {"text_output": ["a", "b"], "finish_reason": ["stop"], "index": [0, 1]}
    with pytest.raises(ServerError, match="2 texts"):
        Chunk.all_from_outputs(outputs)
