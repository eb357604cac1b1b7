"""What is written on the wire for every setting, and what is read from it however it comes."""

import json
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from clients import Chunk, Completion, ServerError
from clients import grpc_wire as grpc
from clients import http_wire as http
from clients.tensors import SETTINGS
from nanotriton import contract
from tests.clients.drivers import Driver

CASES = [
    pytest.param("max_tokens", 2**31 - 1, "INT32", [2**31 - 1], id="max_tokens"),
    pytest.param("temperature", 1, "FP32", [1.0], id="temperature, an int"),
    pytest.param("temperature", 0.5, "FP32", [0.5], id="temperature"),
    pytest.param("top_k", 0, "INT32", [0], id="top_k"),
    pytest.param("top_p", 0.25, "FP32", [0.25], id="top_p"),
    pytest.param("min_p", 0.125, "FP32", [0.125], id="min_p"),
    pytest.param("repetition_penalty", 1.5, "FP32", [1.5], id="repetition_penalty"),
    pytest.param("frequency_penalty", -0.5, "FP32", [-0.5], id="frequency_penalty"),
    pytest.param("presence_penalty", 2, "FP32", [2.0], id="presence_penalty"),
    pytest.param("logit_bias", {5: -1}, "BYTES", ['{"5": -1.0}'], id="logit_bias"),
    pytest.param("seed", 2**53 + 1, "INT64", [2**53 + 1], id="seed beyond a double"),
    pytest.param("seed", -(2**63), "INT64", [-(2**63)], id="smallest seed"),
    pytest.param("n", 3, "INT32", [3], id="n"),
    pytest.param("best_of", 5, "INT32", [5], id="best_of"),
    pytest.param("stop", "\n\n", "BYTES", ["\n\n"], id="one stop"),
    pytest.param("stop", ["é", "", "b"], "BYTES", ["é", "", "b"], id="several stops"),
    pytest.param("truncate", "left", "BYTES", ["left"], id="truncate"),
    pytest.param("token_healing", True, "BOOL", [True], id="token_healing"),
    pytest.param("logprobs", 3, "INT32", [3], id="logprobs"),
    pytest.param("ignore_eos", True, "BOOL", [True], id="ignore_eos"),
    pytest.param("ignore_eos", False, "BOOL", [False], id="ignore_eos off"),
    pytest.param("priority", -3, "INT32", [-3], id="priority"),
    pytest.param("timeout_ms", 250, "INT32", [250], id="timeout_ms"),
    pytest.param("user", "é", "BYTES", ["é"], id="user"),
]


def openai_value(name: str, values: list[Any]) -> Any:
    """A setting's value in OpenAI's JSON."""
    if name == "logit_bias":
        return json.loads(values[0])
    return values if name == "stop" else values[0]


@pytest.mark.parametrize(("name", "value", "datatype", "values"), CASES)
def test_setting_of_a_completion(
    driver: Driver, name: str, value: Any, datatype: str, values: list[Any]
) -> None:
    driver.complete("hi", **{name: value})
    expected = {"text_input": ("BYTES", [1, 1], ["hi"]), name: (datatype, [1, len(values)], values)}
    if driver.protocol == "gateway":
        expected = {"prompt": "hi", name: openai_value(name, values)}
    assert driver.playback.requests == [expected]


@pytest.mark.parametrize(("name", "value", "datatype", "values"), CASES)
def test_setting_of_a_stream(
    driver: Driver, name: str, value: Any, datatype: str, values: list[Any]
) -> None:
    driver.stream("hi", **{name: value})
    if driver.protocol == "http":
        sent = values if name == "stop" else values[0]
        expected = {"text_input": "hi", name: sent, "stream": True}
    elif driver.protocol == "gateway":
        options = {"stream": True, "stream_options": {"include_usage": True}}
        expected = {"prompt": "hi", name: openai_value(name, values), **options}
    else:
        expected = {
            "text_input": ("BYTES", [1], ["hi"]),
            name: (datatype, [len(values)], values),
            "stream": ("BOOL", [1], [True]),
        }
    assert driver.playback.requests == [expected]


def test_settings_that_are_none_are_not_sent(driver: Driver) -> None:
    driver.complete("", max_tokens=None, stop=None, seed=None)
    driver.complete("", stop=[])
    expected: dict[str, Any] = {"text_input": ("BYTES", [1, 1], [""])}
    if driver.protocol == "gateway":
        expected = {"prompt": ""}
    assert driver.playback.requests == [expected] * 2


def test_settings_are_those_of_the_contract() -> None:
    assert SETTINGS == {**contract.SETTINGS, contract.SUFFIX: "BYTES"}


OUTPUTS = [
    ("text_output", "BYTES", b"\x03\0\0\0\xe2\x82\xac"),
    ("finish_reason", "BYTES", b"\x04\0\0\0stop"),
    ("prompt_tokens", "INT32", b"\x03\0\0\0"),
    ("completion_tokens", "INT32", b"\x02\0\0\0"),
]


def response(outputs: list[tuple[str, str, bytes]]) -> Any:
    made = service_pb2.ModelInferResponse(raw_output_contents=[raw for _, _, raw in outputs])
    for name, datatype, _ in outputs:
        made.outputs.add(name=name, datatype=datatype, shape=[1, 1])
    return made


def test_grpc_answer_is_read_in_any_order() -> None:
    assert grpc.decode_unary(response(OUTPUTS[::-1])) == Completion("€", "stop", 3, 2)


def test_grpc_answer_that_only_marks_the_end_is_no_chunk() -> None:
    assert grpc.decode_stream(service_pb2.ModelInferResponse()) == ()


@pytest.mark.parametrize(
    "output",
    [
        ("text_output", "BYTES", b""),
        ("text_output", "BYTES", b"\x04\0\0\0abc"),
        ("text_output", "BYTES", b"\x01\0\0\0\xff"),
        ("text_output", "INT32", b"\x01\0\0\0"),
        ("text_output", "FP64", b"\x01\0\0\0"),
        ("other", "BYTES", b"\x01\0\0\0x"),
    ],
    ids=["empty", "short", "no UTF-8", "a number", "an unknown type", "missing"],
)
def test_grpc_answer_that_is_wrong(output: tuple[str, str, bytes]) -> None:
    with pytest.raises(ServerError, match="isn't a completion"):
        grpc.decode_unary(response([output, *OUTPUTS[1:]]))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"outputs": [{}]}', b'{"outputs": []}', b'{"outputs": null}', b"\xff"],
)
def test_http_answer_that_is_wrong(body: bytes) -> None:
    with pytest.raises(ServerError, match="isn't a completion"):
        http.decode_unary(body)


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"1",
        b"[]",
        b"{}",
        b'{"text_output": 1}',
        b'{"text_output": "a"',
        b'{"text_output": ""}',
    ],
)
def test_http_event_that_is_wrong(event: bytes) -> None:
    with pytest.raises(ServerError, match="isn't a completion"):
        list(http.EventDecoder().feed(b"data: " + event + b"\n\n"))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_whole_however_the_network_cuts_them(size: int) -> None:
    text = "é\u2028\x85🙂"
    event = f'data: {{"text_output": "{text}", "finish_reason": ""}}\r\n\r\n: a comment\n'
    stream = (event * 3).encode()
    decoder = http.EventDecoder()
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [chunk for part in parts for chunk in decoder.feed(part)] == [Chunk(text)] * 3


def test_chunk_before_an_error_in_the_same_packet_is_not_lost() -> None:
    chunk, error = b'data: {"text_output": "a", "finish_reason": ""}', b'data: {"error": "b"}'
    chunks = http.EventDecoder().feed(chunk + b"\n\n" + error + b"\n\n")
    assert next(chunks) == Chunk("a")
    with pytest.raises(ServerError, match=r"^b$"):
        next(chunks)
