"""What a gateway is made of: every stage built from the configuration, in one place.

Comes in: a Config. Goes out: Parts, with what is done once before the first request in `starting`,
what goes on beside requests in `running`, and what is ended, the last one first, in `closing`.
Knows nothing of HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.account.account import Account
from gateway.account.budget import Budgets
from gateway.account.events import Events
from gateway.account.ledger import Ledger
from gateway.account.prices import load_prices
from gateway.admission import Admission
from gateway.breaker import Breaker
from gateway.caches.responses import ResponseCache
from gateway.caches.store import MemoryStore, SharedStore, Store
from gateway.caches.typeahead import TypeAhead
from gateway.canary import Canary
from gateway.config import Config
from gateway.connections import ConnectionLimits, Connections
from gateway.errors import Unavailable
from gateway.identity.guard import Guard
from gateway.insight.logs import RequestLog
from gateway.insight.metrics import CACHES, Metrics
from gateway.insight.observer import Insight
from gateway.insight.traces import traces_to
from gateway.limits import RateLimiter
from gateway.messages import Outcome
from gateway.redis_link import RedisLink
from gateway.routing.book import RoutesBook
from gateway.routing.discovery import Discovery
from gateway.routing.document import Backend, Document, read_document
from gateway.routing.routes import Routes
from gateway.routing.shadow import Shadows
from gateway.service import Service
from gateway.sessions import Sessions
from gateway.stages import Cache, Stages
from gateway.storage import Database
from gateway.storage.options import upgraded_database
from gateway.upstream import Upstream


@dataclass(slots=True)
class Parts:
    """One gateway; routes find it as `app.state.parts`."""

    config: Config
    stages: Stages
    service: Service
    guard: Guard
    canary: Canary
    metrics: Metrics
    events: Events
    book: RoutesBook
    connections: Connections
    starting: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    running: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    is_draining: bool = False


class Breakers:
    """One breaker for each backend, told to the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._breakers: dict[str, Breaker] = {}

    def of(self, backend: Any) -> Breaker:
        """By its name and address: a backend that moved begins anew."""
        name = f"{backend.name}={backend.url}"
        if name not in self._breakers:
            told = partial(self._metrics.breaker_changed, backend.name)
            self._breakers[name] = Breaker(on_change=told)
            told("closed")
        return self._breakers[name]

    def may_ask(self, backend: Backend) -> bool:
        """Whether a call would be let through."""
        return self.of(backend).may_call


def build_parts(config: Config) -> Parts:
    """Every stage; raises ConfigError, and Unavailable for a database that doesn't answer."""
    prices = load_prices(config.prices) if config.prices else load_prices()
    database = upgraded_database(config.database, config.state)
    metrics, link = Metrics(), RedisLink(config.redis) if config.redis else None
    breakers, upstream = Breakers(metrics), Upstream()
    ledger = Ledger(database, config.state)
    account = Account(ledger, prices, _budgets(config, database, prices.currency, metrics))
    guard = Guard(database, config.jwt, config.is_open)
    routes = Routes(_document(config), breakers.may_ask, config.model)
    shadows: Shadows[Any] = Shadows(upstream.send, metrics.shadowed)
    traces = traces_to(config.tracing.url, config.tracing.rate)
    crowding, at_once = config.crowding, config.key_limits.max_concurrent
    admission = Admission(crowding.max_running, crowding.max_waiting, at_once)
    stages = Stages(
        routes=routes,
        limiter=RateLimiter(config.key_limits, link),
        budgets=account,
        sessions=Sessions(),
        caches=_caches(config, link),
        admission=admission,
        breaker_of=breakers.of,
        shadows=shadows,
        traces=traces,
        price=account.priced,
        observers=(account, Insight(metrics, RequestLog(log_prompts=config.log_prompts))),
        on_lookup=lambda cache, hit: metrics.looked_up(CACHES[cache], hit=hit),
        on_refusal=metrics.refused,
    )
    parts = Parts(
        config,
        stages,
        Service(stages, upstream),
        guard,
        Canary(upstream, routes, config.canary_ttl_s),
        metrics,
        Events(database, ledger, metrics.event),
        RoutesBook(database, routes),
        Connections(ConnectionLimits(config.max_connections)),
    )
    metrics.watch_queue(lambda: admission.crowd.running, lambda: admission.crowd.waiting)
    metrics.watch_ledger(lambda: ledger.num_unread_bytes)
    metrics.watch_requests(lambda: parts.service.num_running)
    traffic = parts.connections
    metrics.watch_connections(lambda: traffic.traffic.open, lambda: traffic.traffic.silent)
    if link:
        metrics.watch_redis(lambda: link.is_up)
    discovery = Discovery(routes, upstream.client)
    parts.starting = [partial(_reload, parts.book), discovery.ask_all]
    parts.running = [discovery.watch, parts.book.watch]
    parts.closing = [
        partial(asyncio.to_thread, database.close),
        partial(asyncio.to_thread, traces.close),
        partial(asyncio.to_thread, account.close),
        guard.close,
        upstream.close,
        *([link.close] if link else []),
        shadows.close,
    ]
    return parts


def _document(config: Config) -> Document:
    backends = [{"name": one.name, "url": one.url} for one in config.backends]
    return read_document({"backends": backends})


def _budgets(config: Config, database: Database, currency: str, metrics: Metrics) -> Budgets:
    return Budgets(
        database,
        currency,
        soft=config.key_limits.soft_budget,
        hard=config.key_limits.hard_budget,
        on_warning=metrics.budget_warned,
    )


def _caches(config: Config, link: RedisLink | None) -> dict[Outcome, Cache]:
    """By the outcome of a hit; asked in this order."""
    caching = config.caching
    if not caching.max_bytes:
        return {}
    near = MemoryStore(caching.max_bytes, caching.ttl_s)
    store: Store = SharedStore(near, link, caching.ttl_s) if link else near
    return {"cached": ResponseCache(store), "typeahead": TypeAhead(store)}


async def _reload(book: RoutesBook) -> None:
    """The kept routes; those of the command line while the database doesn't answer."""
    with suppress(Unavailable):
        await book.reload()
