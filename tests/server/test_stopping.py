"""Streams that are stopped tell exactly what was written, which is what the engine counted."""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from metrics_page import settled_page
from running import RunningServer, wait_until
from tritonclient.grpc import service_pb2_grpc

from clients import AsyncCompletionClient, AsyncStream, Chunk
from clients.grpc_wire import decode_stream, encode_stop, encode_stream
from clients.tensors import request_tensors
from nanotriton.engine.client import EngineClient

# Hot, so that speculation shortens nothing.
LONG = {"max_tokens": 480, "ignore_eos": True, "temperature": 2.0}
TOKENS = 'nanotriton_tokens_total{kind="completion",version="1"}'
REQUESTS = "nanotriton_requests_total"
# What decides how many tokens are written beside those that a client has heard of.
KINDS = (
    LONG,
    {**LONG, "n": 3},
    {**LONG, "n": 2, "temperature": 0.0},
    {**LONG, "stop": ["\n\n\n\n never"], "temperature": 0.8},
    {**LONG, "max_tokens": 60, "n": 1, "best_of": 3, "in_pieces": False},
    {**LONG, "max_tokens": 12},
)


@contextmanager
def engine_of(server: RunningServer) -> Iterator[EngineClient]:
    """A connection to the engine behind the server."""
    engine = server.engine()
    try:
        engine.wait_ready(30)
        yield engine
    finally:
        engine.close()


async def write(client: AsyncCompletionClient, number: int, draw: random.Random) -> Chunk | None:
    """The last chunk of a stream that is stopped somewhere, if it began at all."""
    stream = client.stream(f"def f{number}(", **KINDS[number % len(KINDS)])
    stop_at = draw.choice([0, 1, 2, 10, 40])
    pause_s = draw.choice([0, 0.001, 0.01])

    async def stop_soon() -> None:
        await asyncio.sleep(pause_s)
        await stream.stop()

    waiting = [asyncio.create_task(stop_soon())] if stop_at == 0 else []
    last, count = None, 0
    async with stream:
        async for last in stream:  # noqa: B007
            count += 1
            if count == stop_at:
                await stream.stop()
    await asyncio.gather(*waiting)
    return last


def test_hundred_streams_stopped_anywhere_count_what_the_engine_counted(
    server: RunningServer,
) -> None:
    draw = random.Random(7)
    before = settled_page(server)

    async def write_all() -> list[Chunk | None]:
        gate = asyncio.Semaphore(16)
        async with AsyncCompletionClient(f"localhost:{server.grpc_port}") as client:

            async def one(number: int) -> Chunk | None:
                async with gate:
                    return await write(client, number, draw)

            return await asyncio.gather(*(one(number) for number in range(100)))

    ended = [chunk for chunk in asyncio.run(write_all()) if chunk is not None]
    after = settled_page(server)

    assert all(chunk.is_last for chunk in ended)
    assert {"cancelled", "length"} == {chunk.finish_reason for chunk in ended}
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    num_requests = sum(value for name, value in grown.items() if name.startswith(REQUESTS))
    num_canaries = num_requests - len(ended)  # the watchdog's, each of exactly one token
    assert grown[TOKENS] == sum(chunk.completion_tokens or 0 for chunk in ended) + num_canaries


def test_stopped_stream_frees_its_slot_at_once(server: RunningServer) -> None:
    with engine_of(server) as engine, server.client() as client:
        with client.stream("def f(", **LONG) as stream:
            next(stream)
            stream.stop()
            *_, last = stream
        assert last.finish_reason == "cancelled"
        assert last.completion_tokens in range(1, 480)
        assert engine.stats()["num_running"] == 0
        assert engine.stats()["num_free_slots"] == engine.stats()["num_slots"]


def test_reader_that_waits_hears_the_end(server: RunningServer) -> None:
    async def read() -> Chunk:
        async with AsyncCompletionClient(f"localhost:{server.grpc_port}") as client:
            stream = client.stream("def f(", **LONG)
            reader = asyncio.create_task(last_of(stream))
            await asyncio.sleep(0.1)
            await stream.stop()
            return await asyncio.wait_for(reader, 2)

    async def last_of(stream: AsyncStream) -> Chunk:
        return [chunk async for chunk in stream][-1]

    assert asyncio.run(read()).finish_reason == "cancelled"


@pytest.fixture
def stub(server: RunningServer) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(f"localhost:{server.grpc_port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.mark.parametrize("name", ["nobody", ""], ids=["unknown id", "no id"])
def test_stop_of_nothing_is_answered_with_nothing(
    server: RunningServer, stub: service_pb2_grpc.GRPCInferenceServiceStub, name: str
) -> None:
    assert list(stub.ModelStreamInfer(iter([encode_stop(name)]), timeout=5)) == []
    with server.client() as client:
        assert client.complete("def f(", max_tokens=2, ignore_eos=True).completion_tokens == 2


def test_stop_that_overtook_its_request_ends_it(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    request = encode_stream(request_tensors("def f(", LONG), "overtaken")
    list(stub.ModelStreamInfer(iter([encode_stop("overtaken")]), timeout=5))
    *_, last = stub.ModelStreamInfer(iter([request]), timeout=5)
    (chunk,) = decode_stream(last.infer_response)
    assert chunk.finish_reason == "cancelled"


def test_stop_and_request_may_come_on_one_call(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    request = encode_stream(request_tensors("def f(", LONG), "together")

    def both() -> Iterator[object]:
        yield request
        time.sleep(0.05)
        yield encode_stop("together")

    *_, last = stub.ModelStreamInfer(both(), timeout=5)
    (chunk,) = decode_stream(last.infer_response)
    assert chunk.finish_reason == "cancelled"


def test_id_of_another_request_is_left_alone(server: RunningServer) -> None:
    with server.client() as client, client.stream("def f(", **LONG | {"max_tokens": 60}) as other:
        next(other)
        with client.stream("def g(", **LONG) as stream:
            next(stream)
            stream.stop()
            wait_until(lambda: next(stream).is_last, 5)
        *_, last = other
    assert last.finish_reason == "length"
    assert last.completion_tokens == 60
