"""Streams, over each protocol, from threads and from asyncio."""

import asyncio
import time

import pytest

from clients import (
    AsyncCompletionClient,
    Chunk,
    ClientError,
    CompletionClient,
    InvalidRequest,
    ServerError,
    Stream,
    Timeout,
    Unavailable,
)
from tests.clients.drivers import Driver
from tests.clients.playback import SEVERAL, Break, End, Fail, Garbage, Playback, Text, Wait

SLOW = [Text("one "), Wait(5), Text("two"), End()]
FULL = Fail("UNAVAILABLE", "[UNAVAILABLE] the engine is full")


def test_chunks_come_in_order_and_the_last_one_has_the_counts(driver: Driver) -> None:
    assert driver.stream() == [Chunk("one "), Chunk("two"), Chunk("", "stop", 3, 2)]
    assert [chunk.is_last for chunk in driver.seen] == [False, False, True]


def test_pieces_of_several_texts_come_with_their_number_until_all_have_ended(
    driver: Driver,
) -> None:
    driver.playback.replies = [SEVERAL]
    assert driver.stream(n=2) == [
        *(Chunk("a"), Chunk("b", index=1), Chunk("", "length", index=1), Chunk("c")),
        Chunk("", "stop", 3, 2),
    ]


def test_chunks_come_as_they_are_made(driver: Driver) -> None:
    driver.playback.replies = [[Text("one "), Wait(1), Text("two"), End()]]
    started = time.monotonic()
    driver.stream(take=1)
    assert time.monotonic() - started < 0.9


def test_leaving_early_reaches_the_server(driver: Driver) -> None:
    driver.playback.replies = [SLOW]
    driver.stream(take=1)
    assert driver.playback.is_left.wait(1)


def test_cancel_from_elsewhere_wakes_the_reader_and_reaches_the_server(driver: Driver) -> None:
    driver.playback.replies = [SLOW]
    started = time.monotonic()
    assert driver.cancel_from_elsewhere() == [Chunk("one ")]
    assert time.monotonic() - started < 1
    assert driver.playback.is_left.wait(1)


def test_cancelled_task_reaches_the_server(playback: Playback, protocol: str) -> None:
    playback.replies = [SLOW]

    async def ask() -> None:
        async with AsyncCompletionClient(playback.urls[protocol], protocol) as client:
            chunks = client.stream("hi")
            await anext(chunks)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(chunks), 0.05)

    asyncio.run(ask())
    assert playback.is_left.wait(1)


def test_forgotten_stream_reaches_the_server(playback: Playback, protocol: str) -> None:
    playback.replies = [SLOW]
    with CompletionClient(playback.urls[protocol], protocol) as client:
        chunk = next(client.stream("hi"))
        assert playback.is_left.wait(1)
    assert chunk == Chunk("one ")


def test_cancel_before_the_first_chunk_sends_nothing(playback: Playback, protocol: str) -> None:
    with CompletionClient(playback.urls[protocol], protocol) as client:
        stream = client.stream("hi")
        stream.cancel()
        assert list(stream) == []
    assert playback.requests == []


def test_cancel_after_the_end_is_harmless(playback: Playback, protocol: str) -> None:
    with CompletionClient(playback.urls[protocol], protocol) as client:
        with client.stream("hi") as stream:
            assert len(list(stream)) == 3
            stream.cancel()
        assert list(stream) == []
        assert client.complete("hi").text == "one two"


def test_deadline_covers_the_whole_stream(driver: Driver) -> None:
    driver.playback.replies = [[Text("x"), Wait(0.15)] * 20]
    started = time.monotonic()
    with pytest.raises(Timeout, match=r"had no whole answer within 0.4 s$"):
        driver.stream(timeout_s=0.4)
    assert 0.35 < time.monotonic() - started < 0.9
    assert driver.seen
    assert driver.playback.is_left.wait(1)


def test_deadline_before_the_first_chunk(driver: Driver) -> None:
    driver.playback.replies = [[Wait(2), End()]]
    with pytest.raises(Timeout):
        driver.stream(timeout_s=0.1)


@pytest.mark.parametrize(
    "first",
    [FULL, Break()],
    ids=["refused", "connection lost"],
)
def test_unavailable_before_the_first_chunk_is_tried_again(driver: Driver, first: object) -> None:
    driver.playback.replies = [[first], [first], [Text("ok"), End()]]
    assert driver.stream()[0] == Chunk("ok")
    assert driver.pauses == [0.25, 0.5]


@pytest.mark.parametrize("then", [FULL, Break()], ids=["refused", "connection lost"])
def test_unavailable_after_a_chunk_is_final(driver: Driver, then: object) -> None:
    driver.playback.replies = [[Text("one"), Wait(0.05), then]]
    with pytest.raises(Unavailable):
        driver.stream()
    assert driver.seen == [Chunk("one")]
    assert len(driver.playback.requests) == 1


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[INVALID_ARG] top_k is -1", InvalidRequest),
        ("[UNAVAILABLE] top_k is -1", Unavailable),
        ("[INTERNAL] top_k is -1", ServerError),
    ],
)
def test_mark_decides_the_error(driver: Driver, message: str, kind: type[ClientError]) -> None:
    driver.playback.replies = [[Fail("INTERNAL", message)]]
    with pytest.raises(kind) as caught:
        driver.stream()
    assert type(caught.value) is kind
    assert str(caught.value) == "top_k is -1"


def test_error_without_a_mark_keeps_its_message(driver: Driver) -> None:
    driver.playback.replies = [[Text("one"), Wait(0.05), Fail("INTERNAL", "the engine died")]]
    with pytest.raises(ServerError, match=r"^the engine died$"):
        driver.stream()


@pytest.mark.parametrize("reply", [[Text("one")], []], ids=["some text", "nothing"])
def test_stream_without_an_end_is_a_server_error(driver: Driver, reply: list[object]) -> None:
    driver.playback.replies = [reply]
    with pytest.raises(ServerError, match="ended without its last chunk"):
        driver.stream()


def test_garbage_is_a_server_error(driver: Driver) -> None:
    driver.playback.replies = [[Text("one"), Garbage()]]
    with pytest.raises(ServerError, match="isn't a completion"):
        driver.stream()


def test_dead_port_is_unavailable(driver: Driver, dead_url: str) -> None:
    driver.playback.urls[driver.protocol] = dead_url
    with pytest.raises(Unavailable, match=r"^can't reach "):
        driver.stream()
    assert driver.pauses == [0.25, 0.5]


def test_text_with_separators_that_json_leaves_alone(driver: Driver) -> None:
    text = 'a\u2028b\u2029c\x85d\x0ce\x1ef"\\\r\n🙂'
    driver.playback.replies = [[Text(text), End()]]
    assert driver.stream()[0].text == text


def test_many_streams_at_once_in_one_client(playback: Playback, protocol: str) -> None:
    playback.replies = [[Text("x"), Wait(0.1), End()]]

    async def ask() -> list[int]:
        async with AsyncCompletionClient(playback.urls[protocol], protocol) as client:

            async def count() -> int:
                return len([chunk async for chunk in client.stream("hi")])

            return await asyncio.gather(*(count() for _ in range(24)))

    assert asyncio.run(ask()) == [2] * 24


def test_wrong_settings_are_refused_before_anything_is_sent(driver: Driver) -> None:
    with pytest.raises(InvalidRequest, match="there is no setting topk"):
        driver.stream(topk=3)
    assert driver.playback.requests == []


def test_cancel_during_a_pause_ends_the_retries(playback: Playback, protocol: str) -> None:
    playback.replies = [[FULL]]
    streams: list[Stream] = []
    url = playback.urls[protocol]
    with CompletionClient(url, protocol, sleep=lambda _: streams[0].cancel()) as client:
        streams.append(client.stream("hi"))
        assert list(streams[0]) == []
    assert len(playback.requests) == 1


def test_stop_before_the_first_chunk_sends_nothing(playback: Playback, protocol: str) -> None:
    with CompletionClient(playback.urls[protocol], protocol) as client:
        stream = client.stream("hi")
        stream.stop()
        assert list(stream) == []
    assert playback.requests == []


def test_stop_over_http_leaves(playback: Playback) -> None:
    playback.replies = [SLOW]
    with CompletionClient(playback.urls["http"], "http") as client:
        stream = client.stream("hi")
        assert next(stream) == Chunk("one ")
        stream.stop()
        assert list(stream) == []
    assert playback.is_left.wait(1)


def test_stop_that_the_server_does_not_take_leaves(playback: Playback) -> None:
    playback.replies = [SLOW, [Fail("INTERNAL", "unexpected inference input 'cancel'")]]

    async def ask() -> list[Chunk]:
        async with AsyncCompletionClient(playback.urls["grpc"]) as client:
            stream = client.stream("hi")
            await anext(stream)
            await stream.stop()
            return [chunk async for chunk in stream]

    assert asyncio.run(ask()) == []
    assert playback.is_left.wait(1)
