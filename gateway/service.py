"""The way of one request, from who asks to Triton and back; every stage in its order.

Comes in: a Flight. Goes out: chunks, or one GatewayError; and, whatever happens, one Finished to
the observers, before the caller has the last byte. Knows nothing of HTTP.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)

from clients import Chunk
from gateway.errors import (
    Disconnected,
    GatewayError,
    InvalidRequest,
    RateLimited,
    Superseded,
    Timeout,
    Unauthorized,
    Unavailable,
)
from gateway.flights import Flight, chunks_of
from gateway.messages import Answer, Outcome, Served
from gateway.stages import Backend, Call, Stages
from gateway.upstream import GRACE_S, Upstream, client_errors

_OUTCOMES: dict[type[GatewayError], Outcome] = {
    Superseded: "superseded",
    Disconnected: "disconnected",
    Timeout: "timeout",
    InvalidRequest: "refused",
    RateLimited: "refused",
    Unauthorized: "refused",
}


class Service:
    """Serves requests through its stages."""

    def __init__(self, stages: Stages, upstream: Upstream) -> None:
        self.stages = stages
        self.num_running = 0
        self._upstream = upstream

    async def answer(self, flight: Flight) -> AsyncGenerator[Chunk, None]:
        """The answer's chunks; raises GatewayError. To be closed where it isn't read to its end."""
        with self._told(flight), self._timed(flight):
            async with self._allowed(flight):
                with self._newest(flight):
                    backend = self.stages.routes.pick(flight.caller, flight.request)
                    flight.served = served_by(backend)
                    outcome, known = await self._cached(flight, flight.served)
                    if known is not None:
                        for chunk in chunks_of(known):
                            self._pass(flight, chunk, outcome)
                            yield chunk
                        return
                    # Closed before the observers are told: what the engine counted is theirs.
                    async with aclosing(self._asked(flight, backend)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    await self._keep(flight)

    @contextmanager
    def _told(self, flight: Flight) -> Iterator[None]:
        """Whatever happens, the observers are told once; a stopped flight raises its reason."""
        self.num_running += 1
        error: GatewayError | None = None
        try:
            flight.board()
            yield
        except asyncio.CancelledError:
            error = flight.landed()
            if error is None:
                raise  # the process ends
            raise error from None
        except GatewayError as one:
            error = one
            raise
        except GeneratorExit:
            error = flight.reason or Disconnected("the caller left")
            raise
        finally:
            self.num_running -= 1
            self._finish(flight, outcome_of(error), error.message if error else None)

    @contextmanager
    def _timed(self, flight: Flight) -> Iterator[None]:
        """Nothing outlives the deadline for long, wherever it waits."""
        timer = asyncio.get_running_loop().call_later(
            flight.left_s() + 2 * GRACE_S, flight.stop, Timeout("the request's deadline is over")
        )
        try:
            yield
        finally:
            timer.cancel()

    @asynccontextmanager
    async def _allowed(self, flight: Flight) -> AsyncIterator[None]:
        """Within the key's limits and budget; what was reserved and not used is given back."""
        limiter, caller = self.stages.limiter, flight.caller
        if self.stages.budgets:
            flight.headers.update(self.stages.budgets.check(caller))
        if limiter is None:
            yield
            return
        with self.stage(flight, "limits"):
            most = flight.request.most_usage
            reserved = most.prompt_tokens + most.completion_tokens
            allowance = await limiter.take(caller, reserved)
        flight.headers.update(allowance.headers())
        try:
            yield
        finally:
            used = flight.usage.prompt_tokens + flight.usage.completion_tokens
            await limiter.settle(allowance, used)

    @contextmanager
    def _newest(self, flight: Flight) -> Iterator[None]:
        """Until a newer request of the same session comes."""
        sessions, session = self.stages.sessions, flight.request.session
        if sessions is None or session is None:
            yield
            return
        superseded = Superseded("a newer request of this session took this one's place")
        ticket = sessions.begin(flight.caller, session, lambda: flight.stop(superseded))
        try:
            yield
        finally:
            sessions.end(ticket)

    async def _cached(self, flight: Flight, served: Served) -> tuple[Outcome, Answer | None]:
        for outcome, cache in self.stages.caches.items():
            with self.stage(flight, "cache"):
                answer = await cache.get(flight.caller, flight.request, served)
            if self.stages.on_lookup:
                self.stages.on_lookup(outcome, answer is not None)
            if answer is not None:
                flight.headers["x-nanotriton-cache"] = outcome
                return outcome, answer
        return "ok", None

    def _room(self, flight: Flight) -> AbstractAsyncContextManager[object]:
        if self.stages.admission is None:
            return nullcontext()
        return self.stages.admission.enter(flight.caller, flight.left_s())

    def _breaker(self, backend: Backend) -> AbstractAsyncContextManager[Call | None]:
        return self.stages.breaker_of(backend).guard() if self.stages.breaker_of else nullcontext()

    async def _asked(self, flight: Flight, backend: Backend) -> AsyncGenerator[Chunk, None]:
        """The engine's own answer in this request's turn, from the first that can be asked."""
        failed: set[str] = set()
        async with AsyncExitStack() as stack:
            with self.stage(flight, "queue"):
                await stack.enter_async_context(self._room(flight))
            while True:
                try:
                    async with aclosing(self._asked_of(flight, backend)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    return
                except Unavailable as error:
                    failed.add(backend.name)
                    backend = self._other(flight, failed, error)
                    flight.served = served_by(backend)

    async def _asked_of(self, flight: Flight, backend: Backend) -> AsyncGenerator[Chunk, None]:
        with client_errors():
            async with AsyncExitStack() as stack:
                call = await stack.enter_async_context(self._breaker(backend))
                self._begin(flight, served_by(backend))
                stack.enter_context(self.stage(flight, "upstream"))
                chunks = self._upstream.chunks(backend, flight)
                async for chunk in await stack.enter_async_context(aclosing(chunks)):
                    if call:
                        call.answered()
                    self._pass(flight, chunk, "ok")
                    yield chunk

    def _begin(self, flight: Flight, served: Served) -> None:
        """Tell that it goes to the engine, once."""
        if not flight.has_begun:
            for observer in self.stages.observers:
                observer.begin(flight.caller, flight.request, served)
            flight.has_begun = True
            self._shadow(flight)

    def _other(self, flight: Flight, failed: set[str], error: Unavailable) -> Backend:
        """Who may be asked instead, as long as the caller has seen nothing."""
        if flight.has_text:
            raise error
        try:
            return self.stages.routes.pick(flight.caller, flight.request, without=failed)
        except Unavailable:
            raise error from None

    def _pass(self, flight: Flight, chunk: Chunk, outcome: Outcome) -> None:
        """Note a chunk; the last one is told of before it is handed on."""
        flight.note(chunk)
        if chunk.is_last:
            self._finish(flight, "timeout" if flight.is_cut_short else outcome, None)

    async def _keep(self, flight: Flight) -> None:
        if flight.served is not None and not flight.is_cut_short:
            for cache in self.stages.caches.values():
                await cache.put(flight.caller, flight.request, flight.served, flight.answer())

    def _finish(self, flight: Flight, outcome: Outcome, error: str | None) -> None:
        if flight.outcome is None:
            finished = flight.finished(outcome, error)
            if self.stages.price:
                finished = self.stages.price(finished)
                flight.cost = finished.cost
            for observer in self.stages.observers:
                observer.finish(finished, flight.trace)

    def _shadow(self, flight: Flight) -> None:
        """Another version may get a copy, whose answer nobody reads."""
        if self.stages.shadows is None:
            return
        backend = self.stages.routes.shadow(flight.caller, flight.request)
        if backend is not None:
            self.stages.shadows.begin(backend, flight.caller, flight.request)

    def refused(self, error: GatewayError) -> None:
        """Tell that a caller is told of an error, here or before its request got here."""
        if self.stages.on_refusal:
            self.stages.on_refusal(error)

    @staticmethod
    def stage(flight: Flight, name: str) -> AbstractContextManager[None]:
        """A span of the request's trace, if it has one."""
        return flight.trace.stage(name) if flight.trace else nullcontext()


def served_by(backend: Backend) -> Served:
    """What accounts and headers say of a backend."""
    return Served(backend.name, backend.model, backend.version, backend.precision)


def outcome_of(error: GatewayError | None) -> Outcome:
    """How a request ended that ended with an error, or with none."""
    if error is None:
        return "failed"  # the last chunk never came, and neither did a reason
    return next((told for kind, told in _OUTCOMES.items() if isinstance(error, kind)), "failed")
