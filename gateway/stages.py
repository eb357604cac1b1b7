"""What the service asks of each stage of a request's way; the rooms have what fits.

A stage that is None is left out. Knows nothing of how any of them works.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.errors import GatewayError
from gateway.messages import Answer, Caller, CompletionRequest, Finished, Outcome, Served


class Allowance(Protocol):
    """What a key may still ask for."""

    def headers(self) -> dict[str, str]:
        """The answer's x-ratelimit-... headers."""


class RateLimiter(Protocol):
    """Requests and tokens a minute (gateway.limits)."""

    async def take(self, caller: Caller, tokens: int) -> Allowance:
        """Reserve; raises RateLimited."""

    async def settle(self, allowance: Any, used_tokens: int) -> None:
        """Count what was used instead of what was reserved."""


class Budgets(Protocol):
    """Money a month (gateway.account)."""

    def check(self, caller: Caller) -> Mapping[str, str]:
        """Headers that warn of the soft limit, or none; raises BudgetSpent."""


class Sessions(Protocol):
    """One request at a time for each typing person (gateway.sessions)."""

    def begin(self, caller: Caller, session: str | None, cancel: Callable[[], None]) -> Any:
        """Take the place; `cancel` is called when a newer request takes it. Gives a ticket."""

    def end(self, ticket: Any) -> None:
        """Give it back."""


class Cache(Protocol):
    """Answers that need no engine (gateway.caches)."""

    async def get(
        self, caller: Caller, request: CompletionRequest, served: Served
    ) -> Answer | None:
        """The answer, if it is known."""

    async def put(
        self, caller: Caller, request: CompletionRequest, served: Served, answer: Answer
    ) -> None:
        """Keep an answer that is whole."""


class Admission(Protocol):
    """The queue in front of Triton (gateway.admission)."""

    def enter(self, caller: Caller, deadline_s: float) -> AbstractAsyncContextManager[object]:
        """A place among those that run; raises Busy, RateLimited or Timeout."""


class Call(Protocol):
    """One request that a breaker watches."""

    def answered(self) -> None:
        """The first chunk is there: Triton lives."""


class Breaker(Protocol):
    """Stops asking a Triton that fails (gateway.breaker)."""

    def guard(self) -> AbstractAsyncContextManager[Call]:
        """Raises Unavailable while it is open; notes the client's errors that pass through."""


class Backend(Protocol):
    """One Triton that serves one model version (gateway.routing)."""

    @property
    def name(self) -> str:
        """Its name in the routes."""

    @property
    def url(self) -> str:
        """HOST:PORT of its gRPC front."""

    @property
    def model(self) -> str:
        """What callers call its model."""

    @property
    def version(self) -> str:
        """The model's version."""

    @property
    def precision(self) -> str:
        """What it computes in."""


class Routes(Protocol):
    """Which backend answers whom (gateway.routing)."""

    def pick(
        self, caller: Caller, request: CompletionRequest, *, without: Collection[str] = ()
    ) -> Backend:
        """Raises NotFound for a model that isn't there, Unavailable when all are `without`."""

    def shadow(self, caller: Caller, request: CompletionRequest) -> Backend | None:
        """Who else gets a copy, whose answer is thrown away."""

    def backends(self) -> Sequence[Backend]:
        """All that may be asked."""


class Shadows(Protocol):
    """Copies for a backend on trial (gateway.routing)."""

    def begin(self, backend: Any, caller: Caller, request: CompletionRequest) -> None:
        """Send one, and wait for nothing."""


class Trace(Protocol):
    """The trace of one request (gateway.insight)."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A span around a part of its way."""

    def headers(self) -> Mapping[str, str]:
        """What Triton's spans hang under."""

    def end(self, finished: Finished) -> None:
        """Send the request's span; once, however it ended."""


class Traces(Protocol):
    """Where traces begin."""

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """The trace of a request that came with these headers."""


class Observer(Protocol):
    """Who is told of every request: the ledger, metrics, the log, traces.

    Both calls are cheap: they stand in the way of the answer's first and last byte.
    """

    def begin(self, caller: Caller, request: CompletionRequest, served: Served) -> None:
        """The request goes to the engine; raises GatewayError when it must not."""

    def finish(self, finished: Finished, trace: Trace | None) -> None:
        """The request ended; called once, before its caller has the answer's last byte."""


@dataclass(slots=True)
class Stages:
    """What stands between the door and Triton; `caches` by the outcome of a hit."""

    routes: Routes
    limiter: RateLimiter | None = None
    budgets: Budgets | None = None
    sessions: Sessions | None = None
    caches: Mapping[Outcome, Cache] = field(default_factory=dict)
    admission: Admission | None = None
    breaker_of: Callable[[Backend], Breaker] | None = None
    shadows: Shadows | None = None
    traces: Traces | None = None
    price: Callable[[Finished], Finished] | None = None  # the same with its cost
    observers: Sequence[Observer] = ()
    on_lookup: Callable[[Outcome, bool], None] | None = None  # a cache was asked; whether it knew
    on_refusal: Callable[[GatewayError], None] | None = None  # a caller is told of an error
