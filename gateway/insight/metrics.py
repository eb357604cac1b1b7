"""What the gateway counts and times: Prometheus' text for /metrics, a few figures for /stats.

Comes in: one `observe` for each finished request, and what single stages tell. Goes out: the text
or the dictionary. Labels are names that the gateway itself knows (routes, models, versions,
outcomes), never a caller's words or keys, so that no request can add a time series.

The registry is this process's own: a replica is one process, and Prometheus adds replicas up.
"""

import importlib.metadata
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.process_collector import ProcessCollector

from gateway.errors import GatewayError
from gateway.insight.recent import WINDOW_S, RecentTimes
from gateway.messages import WASTED, Finished, Outcome, Times, Usage

NAMESPACE = "nanotriton_gateway"
UNSERVED = ("none", "none", "none")  # refused before a version was chosen
BREAKER_STATES = ("closed", "half-open", "open")
CACHES: Mapping[Outcome, str] = {"cached": "responses", "typeahead": "typeahead"}

# From a cache's answer to what a person at an editor still waits for, then to long completions.
REQUEST_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
TOKEN_BUCKETS_S = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.2, 0.5, 1.0, 5.0),
)
_VERSION = ("route", "model", "version")


@dataclass(frozen=True, slots=True)
class Exposition:
    """The body of a scrape and its content type."""

    body: bytes
    content_type: str


class Metrics:
    """All metrics of one gateway; to be told from its event loop, tens of microseconds each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._started = clock()
        self._define_requests()
        self._define_stages()
        ProcessCollector(namespace=NAMESPACE, registry=self.registry)
        build = Info("build", "What runs.", namespace=NAMESPACE, registry=self.registry)
        build.info({"version": _version()})
        self._recent = {
            "first_text_s": RecentTimes(REQUEST_BUCKETS_S, clock),
            "inter_token_s": RecentTimes(TOKEN_BUCKETS_S, clock),
            "total_s": RecentTimes(REQUEST_BUCKETS_S, clock),
            "cached_s": RecentTimes(REQUEST_BUCKETS_S, clock),
        }

    def observe(self, finished: Finished) -> None:
        """Count one finished request."""
        served, usage, outcome = finished.served, finished.usage, finished.outcome
        version = (served.backend, served.model, served.version) if served else UNSERVED
        self._requests.labels(*version, outcome).inc()
        if finished.cost:
            self._cost.labels(*version).inc(finished.cost)
        if cache := CACHES.get(outcome):
            self._saved.labels(cache).inc(usage.completion_tokens)
            self._cached_s.labels(cache).observe(finished.times.total_s)
            self._recent["cached_s"].add(finished.times.total_s)
            return
        self._count_tokens(version, usage, outcome)
        self._time(version, usage, outcome, finished.times)

    def refused(self, error: GatewayError) -> None:
        """Count an error that a caller is told by its type, such as rate_limit_error."""
        self._errors.labels(error.type).inc()

    def looked_up(self, cache: str, *, hit: bool) -> None:
        """Count one look into a cache: "responses" or "typeahead"."""
        self._lookups.labels(cache, "hit" if hit else "miss").inc()

    def breaker_changed(self, route: str, state: str) -> None:
        """Tell the state of a route's breaker; one of BREAKER_STATES."""
        self._breaker.labels(route).state(state.replace("_", "-"))

    def event(self, kind: str, count: int = 1) -> None:
        """Count what an editor did with completions: "shown", "accepted" or "dismissed"."""
        self._events.labels(kind).inc(count)

    def budget_warned(self) -> None:
        """Count an answer whose caller is over the soft budget."""
        self._warnings.inc()

    def shadowed(self, route: str, end: str, num_tokens: int) -> None:
        """Count a copy for a shadow: "answered" with its tokens, "failed" or "left_out"."""
        self._shadows.labels(route, end).inc()
        self._shadow_tokens.labels(route).inc(num_tokens)

    def watch_requests(self, active: Callable[[], float]) -> None:
        """Where the number of requests under way is read from, at each scrape."""
        self._active.set_function(active)

    def watch_queue(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Where the queue's gauges are read from, at each scrape."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)

    def watch_ledger(self, num_bytes: Callable[[], float]) -> None:
        """Where the bytes of the journal are read from that the database doesn't have yet."""
        self._ledger_bytes.set_function(num_bytes)

    def watch_connections(self, opened: Callable[[], float], silent: Callable[[], float]) -> None:
        """Where the connections are read from: all, and those without a request."""
        self._connections.labels("open").set_function(opened)
        self._connections.labels("silent").set_function(silent)

    def watch_redis(self, is_up: Callable[[], float]) -> None:
        """Where it is read whether Redis answers; without Redis there is no such series."""
        gauge = self._gauge("redis_up", "1 while Redis answers; else each gateway counts alone.")
        gauge.set_function(is_up)

    def exposition(self, accept: str = "") -> Exposition:
        """The body for /metrics: OpenMetrics where the Accept header asks for it, else text."""
        encode, content_type = choose_encoder(accept)
        return Exposition(encode(self.registry), content_type)

    def stats(self) -> dict[str, object]:
        """The figures for /stats: totals since the start, quantiles of the last minutes."""
        caches: dict[str, dict[str, int]] = defaultdict(dict)
        for (cache, result), count in _totals(self._lookups, "cache", "result").items():
            caches[cache][result] = int(count)
        versions = _totals(self._requests, *_VERSION)
        return {
            "version": _version(),
            "uptime_s": round(self._clock() - self._started, 3),
            "requests": _by_one(self._requests, "outcome"),
            "versions": {"/".join(one): int(count) for one, count in versions.items()},
            "window_s": WINDOW_S,
            "latency": {name: recent.summary() for name, recent in self._recent.items()},
            "tokens": {
                **_by_one(self._tokens, "kind"),
                "wasted": _by_one(self._wasted, "outcome"),
                "cached": _by_one(self._saved, "cache"),
            },
            "cost": sum(_totals(self._cost).values()),
            "queue": {
                "running": int(_value(self._running)),
                "waiting": int(_value(self._waiting)),
            },
            "active": int(_value(self._active)),
            "breakers": {
                route: state
                for (route, state), is_now in _totals(
                    self._breaker, "route", f"{NAMESPACE}_breaker_state"
                ).items()
                if is_now
            },
            "caches": caches,
            "errors": _by_one(self._errors, "type"),
            "budget_warnings": int(_value(self._warnings)),
            "shadows": _by_one(self._shadows, "end"),
            "events": _by_one(self._events, "kind"),
            "ledger_bytes_waiting": int(_value(self._ledger_bytes)),
        }

    def _count_tokens(self, version: tuple[str, ...], usage: Usage, outcome: Outcome) -> None:
        if usage.prompt_tokens:
            self._tokens.labels(*version, "prompt").inc(usage.prompt_tokens)
        if usage.completion_tokens:
            self._tokens.labels(*version, "completion").inc(usage.completion_tokens)
            if outcome in WASTED:
                self._wasted.labels(outcome).inc(usage.completion_tokens)

    def _time(self, version: tuple[str, ...], usage: Usage, outcome: Outcome, times: Times) -> None:
        if (first_text_s := times.first_text_s) is not None:
            self._first_text_s.labels(*version).observe(first_text_s)
            self._recent["first_text_s"].add(first_text_s)
        if outcome != "ok":
            return
        self._total_s.labels(*version).observe(times.total_s)
        self._recent["total_s"].add(times.total_s)
        if (inter_token_s := times.inter_token_s(usage.completion_tokens)) is not None:
            self._inter_token_s.labels(*version).observe(inter_token_s)
            self._recent["inter_token_s"].add(inter_token_s)

    def _define_requests(self) -> None:
        self._requests = self._counter("requests", "Finished requests.", *_VERSION, "outcome")
        self._tokens = self._counter("tokens", "Tokens of the engine.", *_VERSION, "kind")
        self._wasted = self._counter("wasted_tokens", "Tokens nobody read.", "outcome")
        self._saved = self._counter("cached_tokens", "Tokens that a cache answered.", "cache")
        self._cost = self._counter("cost", "In the price table's currency.", *_VERSION)
        self._first_text_s = self._histogram(
            "time_to_first_text", "From a request to its first text.", REQUEST_BUCKETS_S, *_VERSION
        )
        self._inter_token_s = self._histogram(
            "inter_token", "A request's mean after its first text.", TOKEN_BUCKETS_S, *_VERSION
        )
        self._total_s = self._histogram(
            "request", "From a request to its whole answer.", REQUEST_BUCKETS_S, *_VERSION
        )
        self._cached_s = self._histogram(
            "cached_request", "From a request to a cache's answer.", REQUEST_BUCKETS_S, "cache"
        )

    def _define_stages(self) -> None:
        self._errors = self._counter("errors", "Errors that callers were told.", "type")
        self._lookups = self._counter("cache_lookups", "Looks into caches.", "cache", "result")
        self._events = self._counter("events", "What became of completions shown.", "kind")
        self._warnings = self._counter("budget_warnings", "Answers over a soft budget.")
        self._shadows = self._counter("shadow_requests", "Copies for shadows.", "route", "end")
        self._shadow_tokens = self._counter("shadow_tokens", "Tokens of copies.", "route")
        self._active = self._gauge("active_requests", "Requests under way, waiting or streamed.")
        self._running = self._gauge("queue_running", "Requests that Triton works on.")
        self._waiting = self._gauge("queue_waiting", "Requests that wait their turn.")
        self._connections = self._gauge("connections", "Of callers.", "state")
        self._ledger_bytes = self._gauge("ledger_bytes_waiting", "Journal not in the database yet.")
        self._breaker = Enum(
            "breaker_state",
            "A route's circuit breaker.",
            ["route"],
            namespace=NAMESPACE,
            registry=self.registry,
            states=BREAKER_STATES,
        )

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(name, told, labels, namespace=NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        return Gauge(name, told, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(
        self, name: str, told: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"{name}_seconds",
            told,
            labels,
            namespace=NAMESPACE,
            registry=self.registry,
            buckets=buckets,
        )


def _totals(metric: MetricWrapperBase, *labels: str) -> dict[tuple[str, ...], float]:
    """A metric's values, added up over every label but these."""
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for family in metric.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found[tuple(sample.labels[label] for label in labels)] += sample.value
    return dict(found)


def _by_one(metric: MetricWrapperBase, label: str) -> dict[str, int]:
    return {name: int(value) for (name,), value in _totals(metric, label).items()}


def _value(metric: MetricWrapperBase) -> float:
    return _totals(metric).get((), 0.0)


def _version() -> str:
    try:
        return importlib.metadata.version("nanotriton")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that isn't installed
        return "unknown"
