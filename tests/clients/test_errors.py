"""From what the server says to one sentence of the right class."""

import pytest

from clients import ClientError, InvalidRequest, ServerError, Timeout, Unavailable
from clients.errors import from_event, from_grpc, from_http, from_status

BOOM = (  # as tritonserver 2.51.0 sent it
    "in ensemble 'completion', Failed to process the request(s) for model 'worker_0', message: "
    "ValueError: boom\n\nAt:\n  /repo/worker/1/model.py(20): execute\n"
)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("the engine is full", "the engine is full"),
        ("in ensemble 'completion', the engine is full", "the engine is full"),
        ("in ensemble 'a', [request id: <id_unknown>] a deadlock", "a deadlock"),
        (BOOM, "ValueError: boom"),
        ("bad\nTraceback (most recent call last):\n  File", "bad"),
        ("two\n  lines", "two lines"),
        ("[INVALID_ARG] top_k is -1", "top_k is -1"),
        ("in ensemble 'a', [UNAVAILABLE] full", "full"),
        ("", "the server answered INTERNAL"),
    ],
)
def test_message_is_the_model_s_own_sentence(message: str, sentence: str) -> None:
    assert str(from_status("INTERNAL", message)) == sentence


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (404, ServerError),
        (429, ServerError),
        (500, ServerError),
        (503, Unavailable),
        ("INVALID_ARGUMENT", InvalidRequest),
        ("UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", Timeout),
        ("UNIMPLEMENTED", ServerError),
        ("CANCELLED", Unavailable),
    ],
)
def test_kinds(status: int | str, kind: type[ClientError]) -> None:
    assert type(from_status(status, "no")) is kind


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Request for unknown model: 'completion_stream' has no available versions", Unavailable),
        ("Request for unknown model: 'a' version 1 is not at ready state", Unavailable),
        ("Server is stopping, scheduler for model has stopped accepting new", Unavailable),
        ("Request for unknown model: 'a' is not found", ServerError),
        ("the Server is stopping", ServerError),
    ],
)
def test_triton_that_is_away_is_known_by_its_words(message: str, kind: type[ClientError]) -> None:
    assert type(from_event(message)) is kind


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"error": "no"}', "no"),
        (b'data: {"error":"no"}\n\n', "no"),
        (b"<html>Bad Gateway</html>", "the server answered HTTP 502"),
        (b"", "the server answered HTTP 502"),
        (b"[]", "the server answered HTTP 502"),
    ],
    ids=["json", "event", "html", "nothing", "list"],
)
def test_http_body(body: bytes, sentence: str) -> None:
    assert str(from_http(502, body)) == sentence


def test_connection_that_breaks_under_a_call_is_unavailable() -> None:
    error = from_grpc("INTERNAL", "Internal error from Core", "x:1")
    assert isinstance(error, Unavailable)
    assert str(error) == "the connection to x:1 was cut: send the request again"


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
            "Failed to connect to remote host: Connection refused",
            "Connection refused",
        ),
        (
            "errors resolving x:1: [field:hostname lookup error:address lookup failed for x:1: "
            "Domain name not found]",
            "Domain name not found",
        ),
    ],
    ids=["refused", "unknown host"],
)
def test_grpc_noise_of_a_connection_is_left_out(details: str, reason: str) -> None:
    error = from_grpc("UNAVAILABLE", details, "x:1")
    assert str(error) == f"can't reach x:1 ({reason}): start the server or give its url"
    assert isinstance(error, Unavailable)
