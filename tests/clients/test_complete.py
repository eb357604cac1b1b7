"""Unary completions, over each protocol, from threads and from asyncio."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from clients import (
    Choice,
    ClientError,
    Completion,
    CompletionClient,
    InvalidRequest,
    ServerError,
    Timeout,
    Unavailable,
)
from tests.clients.drivers import Driver
from tests.clients.playback import SEVERAL, Break, End, Fail, Garbage, Playback, Text, Wait, serve

FULL = Fail("UNAVAILABLE", "in ensemble 'completion', the engine is full")


def test_completion_has_text_reason_and_counts(driver: Driver) -> None:
    assert driver.complete() == Completion("one two", "stop", 3, 2)


def test_completion_has_all_texts_in_order(driver: Driver) -> None:
    driver.playback.replies = [SEVERAL]
    answer = driver.complete(n=2)
    assert answer == Completion("ac", "stop", 3, 2, others=(Choice("b", "length"),))
    assert answer.texts == ("ac", "b")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", InvalidRequest),
        ("UNAVAILABLE", Unavailable),
        ("INTERNAL", ServerError),
        ("NOT_FOUND", ServerError),
    ],
)
def test_status_decides_the_error(driver: Driver, code: str, kind: type[ClientError]) -> None:
    driver.playback.replies = [[Fail(code, "in ensemble 'completion', top_k is -1: give 0 to 64")]]
    with pytest.raises(kind) as caught:
        driver.complete()
    assert type(caught.value) is kind
    assert str(caught.value) == "top_k is -1: give 0 to 64"


def test_unavailable_is_tried_again_after_longer_and_longer_pauses(driver: Driver) -> None:
    driver.playback.replies = [[FULL], [FULL], [Text("ok"), End()]]
    assert driver.complete().text == "ok"
    assert driver.pauses == [0.25, 0.5]


def test_retries_end(driver: Driver) -> None:
    driver.playback.replies = [[FULL]]
    with pytest.raises(Unavailable, match=r"^the engine is full$"):
        driver.complete()
    assert len(driver.playback.requests) == 3


def test_lost_connection_is_tried_again(driver: Driver) -> None:
    driver.playback.replies = [[Break()], [Text("ok"), End()]]
    assert driver.complete().text == "ok"


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "INTERNAL"])
def test_other_errors_are_final(driver: Driver, code: str) -> None:
    driver.playback.replies = [[Fail(code, "no")], [Text("ok"), End()]]
    with pytest.raises(ClientError, match=r"^no$"):
        driver.complete()
    assert len(driver.playback.requests) == 1


def test_deadline_is_final(driver: Driver) -> None:
    driver.playback.replies = [[Wait(2), Text("late"), End()]]
    with pytest.raises(Timeout, match=r"had no whole answer within 0.1 s$"):
        driver.complete(timeout_s=0.1)
    assert len(driver.playback.requests) == 1


def test_no_retry_that_would_pass_the_deadline(driver: Driver) -> None:
    driver.playback.replies = [[FULL]]
    with pytest.raises(Unavailable):
        driver.complete(timeout_s=0.2)
    assert driver.pauses == []


def test_deadline_of_no_length_is_refused(driver: Driver) -> None:
    with pytest.raises(InvalidRequest, match="timeout_s is 0: give seconds above 0"):
        driver.complete(timeout_s=0)


def test_garbage_is_a_server_error(driver: Driver) -> None:
    driver.playback.replies = [[Garbage()]]
    with pytest.raises(ServerError, match="isn't a completion"):
        driver.complete()


def test_dead_port_is_unavailable(driver: Driver, dead_url: str) -> None:
    driver.playback.urls[driver.protocol] = dead_url
    with pytest.raises(Unavailable, match=rf"^can't reach (http://)?{dead_url} \("):
        driver.complete()
    assert driver.pauses == [0.25, 0.5]


def test_readiness(driver: Driver, dead_url: str) -> None:
    assert driver.is_ready()
    driver.playback.urls[driver.protocol] = dead_url
    assert not driver.is_ready()


def test_prompt_crosses_the_wire_unchanged(driver: Driver) -> None:
    prompt = 'a\0"\\\r\n\u2028\x85é🙂\ufeff'
    driver.complete(prompt)
    (sent,) = driver.playback.requests
    assert (sent.get("text_input") or sent["prompt"]) in (prompt, ("BYTES", [1, 1], [prompt]))


def test_threads_share_a_client(playback: Playback, protocol: str) -> None:
    playback.replies = [[Wait(0.02), Text("x"), End()]]
    with CompletionClient(playback.urls[protocol], protocol) as client:

        def ask(number: int) -> str:
            return client.complete(str(number)).text + next(client.stream(str(number))).text

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(32))) == ["xx"] * 32


def test_http_connection_serves_many_requests(playback: Playback) -> None:
    with CompletionClient(playback.urls["http"], "http") as client:
        for _ in range(3):
            client.complete("hi")
            list(client.stream("hi"))
    assert playback.num_connections == 1


def test_grpc_finds_a_server_that_starts_during_the_shortest_pause(dead_url: str) -> None:
    pauses: list[float] = []
    with ExitStack() as servers:

        def start_server(pause_s: float) -> None:
            pauses.append(pause_s)
            servers.enter_context(serve(int(dead_url.split(":")[1])))
            time.sleep(pause_s)

        with CompletionClient(dead_url, sleep=start_server, random=lambda: 1.0) as client:
            assert client.complete("hi").text == "one two"
    assert pauses == [0.125]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "ftp"}, "protocol is ftp: give grpc, http, gateway"),
        ({"url": "http://localhost:8001"}, "gRPC wants HOST:PORT"),
    ],
    ids=["protocol", "url"],
)
def test_wrong_client_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        CompletionClient(**options)  # type: ignore[arg-type]
