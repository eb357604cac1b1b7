"""Bodies and headers that are meant to hurt: each is refused in a sentence, and soon."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import RunningServer, wait_until

from gateway.api.bodies import depth_of
from tests.gateway.gateways import (
    RunningGateway,
    error_of,
    events,
    running_gateway,
    start_gateway,
)

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def in_parts(size: int, part: bytes = b" " * 65536) -> Iterator[bytes]:
    """A body without a length, in chunks."""
    for _ in range(size // len(part)):
        yield part


BODIES = {
    "empty": b"",
    "no JSON": b"prompt=a",
    "cut off": b'{"prompt": "a"',
    "two objects": b'{"prompt": "a"} {"prompt": "a"}',
    "a list": b'[{"prompt": "a"}]',
    "a text": b'"a"',
    "null": b"null",
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "Infinity": b'{"prompt": "a", "temperature": Infinity}',
    "beyond a double": b'{"prompt": "a", "temperature": 1e999}',
    "a huge integer": b'{"prompt": "a", "seed": ' + b"9" * 10_000 + b"}",
    "no UTF-8": b'{"prompt": "\xff\xfe"}',
    "a lone surrogate": b'{"prompt": "\\ud800"}',
    "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep in an option": b'{"prompt": "a", "stop": ' + b"[" * 500 + b"]" * 500 + b"}",
    "never closed": b'{"prompt": "' + b'\\"' * 400_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_body_that_is_no_request_is_refused(gateway: RunningGateway, body: bytes) -> None:
    started = time.monotonic()
    response = gateway.post(body)

    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"
    assert time.monotonic() - started < 5


def test_body_of_10_mb_is_too_large(gateway: RunningGateway) -> None:
    for content in (b" " * 10_000_000, in_parts(10_000_000)):
        response = gateway.post(content)
        assert response.status_code == 413
        assert "1048576 bytes" in error_of(response)["message"]


def test_caller_who_waits_to_be_asked_is_not_asked_for_too_much(gateway: RunningGateway) -> None:
    with gateway.socket() as connection:
        connection.sendall(HEAD + b"Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_body_without_its_content_type_is_refused(gateway: RunningGateway) -> None:
    response = gateway.post(b'{"prompt": "a"}', **{"content-type": "text/plain"})
    assert response.status_code == 415
    assert "application/json" in error_of(response)["message"]


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        HEAD + b"X: a\r\n" * 8_000 + b"\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["one", "many", "path"],
)
def test_headers_that_come_at_once_have_the_same_limit(
    gateway: RunningGateway, sent: bytes
) -> None:
    with gateway.socket() as connection:
        connection.sendall(sent)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"32768" in answer


NO_HTTP = {
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 1\r\n\r\n{}",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "length below 0": HEAD + b"Content-Length: -1\r\n\r\n",
    "length beyond 64 bits": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "chunk without a size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "folded header": HEAD + b"X: a\r\n b\r\n\r\n",
    "NUL": HEAD + b"X: a\0b\r\n\r\n",
    "bare line feeds": HEAD.replace(b"\r\n", b"\n") + b"\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "every byte": bytes(range(256)),
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_bytes_that_are_no_request_are_refused_in_the_same_shape(
    gateway: RunningGateway, sent: bytes
) -> None:
    with gateway.socket() as connection:
        connection.sendall(sent)
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_slow_body_is_given_up(server: RunningServer, tmp_path: Path) -> None:
    words = ("--open", "--body-timeout-s", "0.5")
    with running_gateway(server, tmp_path, *words) as gateway, gateway.socket() as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"0.5 s" in answer


def test_caller_who_leaves_before_the_body_is_whole_leaves_nothing(
    gateway: RunningGateway,
) -> None:
    with gateway.socket() as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert gateway.complete().status_code == 200
    assert "Traceback" not in gateway.log()


def test_prompt_is_not_longer_than_allowed(gateway: RunningGateway) -> None:
    response = gateway.complete(prompt="a" * 400_001)
    assert response.status_code == 400
    assert "at most 400000" in error_of(response)["message"]


def test_prompt_beyond_the_context_is_refused_with_the_mend(gateway: RunningGateway) -> None:
    response = gateway.complete(prompt="x = 1\n" * 5000)
    assert response.status_code == 400
    error = error_of(response)
    assert error["param"] == "prompt"
    assert "truncate=left" in error["message"]


def test_error_does_not_repeat_the_prompt(gateway: RunningGateway) -> None:
    secret = "password = 'hunter2'\n"
    response = gateway.complete(prompt=[secret, secret])
    assert response.status_code == 400
    assert "hunter2" not in response.text + gateway.log()


@pytest.mark.parametrize(
    ("given", "is_echoed"),
    [("abc-123", True), ("a" * 129, False), ("a b", False), ('"}', False)],
    ids=["sane", "long", "space", "JSON"],
)
def test_request_id_is_echoed_if_it_is_sane(
    gateway: RunningGateway, given: str, is_echoed: bool
) -> None:
    with gateway.http() as http:
        told = http.get("/health/live", headers={"x-request-id": given}).headers["x-request-id"]
    assert (told == given) is is_echoed


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf", "9" * 400])
def test_timeout_header_that_is_no_time_is_refused(gateway: RunningGateway, value: str) -> None:
    response = gateway.post(b'{"prompt": "a"}', **{"x-request-timeout-ms": value})
    assert response.status_code == 400
    assert "x-request-timeout-ms" in error_of(response)["message"]


def test_text_cannot_forge_an_event(gateway: RunningGateway) -> None:
    forged = 'x\n\ndata: [DONE]\n\ndata: {"error": "\r\u2028\u0085'
    response = gateway.complete(prompt=forged, echo=True, stream=True)
    told = events(response)
    assert told.count("[DONE]") == 1
    assert "".join(one["choices"][0]["text"] for one in told[:-1]).startswith(forged)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/nothing", "GET", 404), ("/v1/completions", "GET", 405), ("/../etc/passwd", "GET", 404)],
)
def test_wrong_path_or_method_is_told_in_the_same_shape(
    gateway: RunningGateway, path: str, method: str, status: int
) -> None:
    with gateway.http() as http:
        response = http.request(method, path)
    assert response.status_code == status
    error_of(response)
    assert ("allow" in response.headers) is (status == 405)


def test_answers_name_no_server_and_no_address(gateway: RunningGateway, tmp_path: Path) -> None:
    assert "server" not in gateway.complete().headers
    lost = start_gateway(1, tmp_path / "log", "--open")  # nobody listens on port 1
    try:
        response = lost.complete()
        with lost.http() as http:
            ready = http.get("/health/ready")
    finally:
        lost.stop()
    assert (response.status_code, ready.status_code) == (503, 503)
    assert response.headers["retry-after"] == "1"
    assert "127.0.0.1" not in response.text + ready.text


def test_stream_that_is_refused_has_a_status_of_its_own(gateway: RunningGateway) -> None:
    response = gateway.complete(stream=True, max_tokens=100_000)
    assert response.status_code == 400
    assert error_of(response)["param"] == "max_tokens"


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        (b"", 0),
        (b"{}", 1),
        (b"[]" * 100, 1),
        (b'{"a": "[[[["}', 1),
        (b'{"a": "\\"[[[["}', 1),
        (b'["a", ["\\\\"], [[]]]', 3),
        (b'["[[[', 1),
        (b'["\\', 1),
    ],
)
def test_depth_counts_brackets_outside_of_texts(body: bytes, depth: int) -> None:
    assert depth_of(body) == depth


def test_depth_of_a_body_of_quotes_is_found_in_one_pass() -> None:
    started = time.monotonic()
    assert depth_of(b"[[" + b'\\"' * 500_000) == 2
    assert depth_of(b"[[" + b'"' * 1_000_001) == 2
    assert time.monotonic() - started < 5


def test_thousand_refusals_leave_a_gateway_that_serves(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        for number in range(1000):
            body = json.dumps({"prompt": number})
            headers = {"content-type": "application/json"}
            assert http.post("/v1/completions", content=body, headers=headers).status_code == 400
    wait_until(lambda: gateway.complete().status_code == 200, 5)
