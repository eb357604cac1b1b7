"""The way of a request through its stages, with a real Triton at its end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from running import RunningServer

from gateway.config import BackendAddress, Config
from gateway.errors import (
    BudgetSpent,
    Disconnected,
    GatewayError,
    RateLimited,
    Superseded,
    Timeout,
    Unavailable,
)
from gateway.flights import Flight, chunks_of
from gateway.messages import Answer, Caller, CompletionRequest, Finished, Served, Usage
from gateway.service import Service
from gateway.stages import Stages, Trace
from gateway.upstream import Upstream
from gateway.wiring import FirstBackend

CALLER = Caller("id", "nt_test", "tenant")
GREEDY = {"temperature": 0.0, "max_tokens": 6}
LONG = {"temperature": 0.0, "max_tokens": 480, "ignore_eos": True}


@dataclass
class Notes:
    """An observer that keeps what it is told; it may forbid a request to begin."""

    refusal: GatewayError | None = None
    begun: list[str] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)

    def begin(self, caller: Caller, request: CompletionRequest, served: Served) -> None:
        del caller, served
        if self.refusal:
            raise self.refusal
        self.begun.append(request.id)

    def finish(self, finished: Finished, trace: Trace | None) -> None:
        del trace
        self.finished.append(finished)


@dataclass
class Shelf:
    """A cache of whatever is put into it."""

    answers: dict[str, Answer] = field(default_factory=dict)

    async def get(
        self, caller: Caller, request: CompletionRequest, served: Served
    ) -> Answer | None:
        del caller, served
        return self.answers.get(request.prompt)

    async def put(
        self, caller: Caller, request: CompletionRequest, served: Served, answer: Answer
    ) -> None:
        del caller, served
        self.answers[request.prompt] = answer


@dataclass
class Full:
    """A limiter, budget or queue that lets nobody in."""

    error: GatewayError

    async def take(self, *_: object) -> Any:
        raise self.error

    def check(self, *_: object) -> dict[str, str]:
        raise self.error

    @asynccontextmanager
    async def enter(self, *_: object) -> AsyncIterator[None]:
        raise self.error
        yield

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[Any]:
        raise self.error
        yield


@dataclass
class Meter:
    """A limiter without limits that counts."""

    reserved: int = 0
    used: int = 0

    async def take(self, caller: Caller, tokens: int) -> "Meter":
        del caller
        self.reserved = tokens
        return self

    def headers(self) -> dict[str, str]:
        return {"x-ratelimit-limit-tokens": "9"}

    async def settle(self, allowance: "Meter", used_tokens: int) -> None:
        allowance.used = used_tokens


@pytest.fixture
def run(server: RunningServer) -> Callable[..., Any]:
    """Runs one coroutine function with a service that has some stages."""
    config = Config(backends=(BackendAddress("stable", f"127.0.0.1:{server.grpc_port}"),))

    def run(test: Callable[[Service, Notes], Any], **stages: Any) -> Any:
        async def within() -> Any:
            upstream, notes = Upstream(), stages.pop("notes", Notes())
            service = Service(Stages(FirstBackend(config), observers=[notes], **stages), upstream)
            try:
                return await test(service, notes)
            finally:
                await upstream.close()

        return asyncio.run(within())

    return run


def flight_of(stream: bool = True, timeout_s: float = 30, **settings: Any) -> Flight:
    """A request on its way."""
    settings = settings or GREEDY
    request = CompletionRequest("cmpl-1", "def f(", settings, stream, timeout_s)
    return Flight(CALLER, request)


async def read(service: Service, flight: Flight) -> Answer:
    """Everything that comes."""
    async with aclosing(service.answer(flight)) as chunks:
        async for _ in chunks:
            pass
    return flight.answer()


def test_request_is_told_before_its_caller_has_the_last_chunk(run: Any) -> None:
    async def test(service: Service, notes: Notes) -> None:
        flight = flight_of()
        async with aclosing(service.answer(flight)) as chunks:
            async for chunk in chunks:
                assert notes.begun == ["cmpl-1"]
                assert bool(notes.finished) is chunk.is_last
        (told,) = notes.finished
        assert told.outcome == "ok"
        assert told.usage == Usage(3, 6)
        assert told.served == Served("stable", "nanotriton", "1", "unknown")
        assert 0 < (told.times.first_text_s or 0) < told.times.total_s

    run(test)


def test_second_time_the_answer_comes_from_the_cache(run: Any) -> None:
    async def test(service: Service, notes: Notes) -> None:
        first, second = flight_of(), flight_of()
        assert await read(service, first) == await read(service, second)
        assert [one.outcome for one in notes.finished] == ["ok", "cached"]
        assert notes.begun == ["cmpl-1"]
        assert lookups == [("cached", False), ("cached", True)]
        assert second.headers == {"x-nanotriton-cache": "cached"}

    lookups: list[tuple[str, bool]] = []
    run(test, caches={"cached": Shelf()}, on_lookup=lambda *told: lookups.append(told))


def test_answer_that_was_cut_by_its_deadline_is_not_kept(run: Any) -> None:
    async def test(service: Service, notes: Notes) -> None:
        answer = await read(service, flight_of(timeout_s=0.15, **LONG))
        assert answer.finish_reasons == ("timeout",)
        assert notes.finished[0].outcome == "timeout"
        assert shelf.answers == {}

    shelf = Shelf()
    run(test, caches={"cached": shelf})


@pytest.mark.parametrize("stage", ["limiter", "budgets", "admission", "breaker_of", "notes"])
def test_stage_that_refuses_ends_the_request_before_the_engine(run: Any, stage: str) -> None:
    async def test(service: Service, notes: Notes) -> None:
        with pytest.raises(RateLimited):
            await read(service, flight_of())
        (told,) = notes.finished
        assert (told.outcome, told.error) == ("refused", "no more")
        assert notes.begun == []
        assert service.num_running == 0

    full = Full(BudgetSpent("no more"))
    built = {"breaker_of": lambda _: full, "notes": Notes(full.error)}
    run(test, **{stage: built.get(stage, full)})


def test_what_was_reserved_and_not_used_is_given_back(run: Any) -> None:
    async def test(service: Service, notes: Notes) -> None:
        del notes
        flight = flight_of()
        await read(service, flight)
        assert meter.reserved >= meter.used == 9
        assert flight.headers == {"x-ratelimit-limit-tokens": "9"}

    meter = Meter()
    run(test, limiter=meter)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Superseded("newer"), "superseded"),
        (Disconnected("left"), "disconnected"),
        (Timeout("late"), "timeout"),
    ],
    ids=["superseded", "disconnected", "timeout"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_flight_that_is_stopped_ends_with_its_reason(
    run: Any, reason: GatewayError, outcome: str, stream: bool
) -> None:
    async def test(service: Service, notes: Notes) -> None:
        flight = flight_of(stream, **LONG)
        asyncio.get_running_loop().call_later(0.1, flight.stop, reason)
        asyncio.get_running_loop().call_later(0.1, flight.stop, Unavailable("too late"))
        with pytest.raises(type(reason)):
            await read(service, flight)
        assert [one.outcome for one in notes.finished] == [outcome]
        assert service.num_running == 0
        await asyncio.sleep(0)  # the task lives on, and no cancellation is left in it

    run(test)


def test_flight_that_was_stopped_before_it_began_asks_nobody(run: Any) -> None:
    async def test(service: Service, notes: Notes) -> None:
        flight = flight_of()
        flight.stop(Superseded("newer"))
        with pytest.raises(Superseded):
            await read(service, flight)
        assert notes.begun == []
        assert notes.finished[0].outcome == "superseded"

    run(test)


def test_answer_that_is_not_read_to_its_end_is_a_caller_that_left(run: Any) -> None:
    async def test(service: Service, notes: Notes) -> None:
        flight = flight_of(**LONG)
        async with aclosing(service.answer(flight)) as chunks:
            await anext(chunks)
        assert notes.finished[0].outcome == "disconnected"

    run(test)


@pytest.mark.parametrize("num_texts", [1, 3])
def test_kept_answer_comes_as_chunks_that_make_it_again(num_texts: int) -> None:
    texts = tuple(f"text {index}" for index in range(num_texts))
    answer = Answer(texts, ("stop",) * num_texts, Usage(3, 9), ((),) * num_texts)
    flight = flight_of()
    chunks = chunks_of(answer)
    for chunk in chunks:
        flight.note(chunk)
    assert flight.answer() == answer
    assert [one.is_last for one in chunks] == [False] * (num_texts - 1) + [True]
