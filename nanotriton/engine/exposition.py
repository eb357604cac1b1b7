"""The engine's counts on a metrics page: samples in, families of Triton's /metrics out.

Comes in: the answer to the engine's "stats", once a second, and a way to make a family (Triton's
`pb_utils.MetricFamily`). Goes out: nothing; the families are updated. An update costs about 90 us,
so that only what changed is touched, and histograms come as counters by bucket: Triton's own
would take an update for every token. Knows nothing of the engine's socket.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nanotriton.engine.meter import Labels, Sample

PREFIX = "nanotriton_"
RESTARTS = "engine_restarts_total"
MODEL_INFO = "model_info"

GAUGES = {
    "requests_waiting": ("num_waiting", "Requests that wait for a KV slot"),
    "requests_running": ("num_running", "Requests that have a KV slot"),
    "kv_slots": ("num_slots", "KV slots, the most requests that run at once"),
    "kv_slots_free": ("num_free_slots", "KV slots that no running request has"),
    "kv_cache_bytes": ("kv_cache_bytes", "Bytes of the KV cache, all slots"),
    "native_attention": ("native_attention", "1 when attention is nanotriton's own, on a CPU"),
    "kv_tokens_used": ("num_cached_tokens", "Tokens of running requests in the KV cache"),
}
COUNTERS = {
    "requests_total": "Requests by outcome: a finish_reason, failed, unread, or refused with why",
    "tokens_total": "Tokens: prompt, completion, and completion tokens that nobody got (wasted)",
    "queue_seconds": "Time from submission to a KV slot",
    "time_to_first_token_seconds": "Time from submission to the first token",
    "inter_token_seconds": "Time between two tokens of a request",
    "request_seconds": "Time from submission to the last token",
    "step_seconds": "Time of an engine step by kind",
    "graph_steps_total": "Engine steps by the graph of the version that answered them",
    RESTARTS: "Engine processes that were started again, by why: died, or wedged in a step",
}
# Counters that `Engine.stats` holds itself, under their own names.
ENGINE_COUNTERS = {
    "prefix_lookup_tokens_total": ("prefix_lookup_tokens", "Prompt tokens looked up"),
    "prefix_hit_tokens_total": ("prefix_hit_tokens", "Prompt tokens whose KV was there already"),
    "prefix_evictions_total": ("num_evictions", "Kept sequences whose slot was taken"),
    "speculation_drafted_total": ("num_drafted", "Tokens that speculation guessed"),
    "speculation_accepted_total": ("num_accepted", "Guessed tokens that were right"),
}


class Metric(Protocol):
    """What Triton's `pb_utils.Metric` does."""

    def increment(self, value: float) -> None: ...

    def set(self, value: float) -> None: ...


class Family(Protocol):
    """What Triton's `pb_utils.MetricFamily` does."""

    def Metric(self, labels: dict[str, str]) -> Metric: ...


class Exposition:
    """The families of one model version; `make_family(name, description, is_gauge)` makes one."""

    def __init__(self, make_family: Callable[[str, str, bool], Family], labels: Labels) -> None:
        self._make_family = make_family
        self._labels = labels
        self._families: dict[str, Family] = {}
        self._metrics: dict[tuple[str, Labels], Metric] = {}
        self._shown: dict[tuple[str, Labels], float] = {}  # this engine's, to count on from
        self._pid: int | None = None

    def show_model(self, facts: Labels) -> None:
        """Show once what is served, as labels of a gauge that is always 1."""
        description = "What this version is: its precision, its checkpoint, its context"
        self._metric(MODEL_INFO, facts, description, is_gauge=True).set(1)

    def update(self, stats: Mapping[str, Any], restarts: Mapping[str, int]) -> None:
        """Show the newest counts; those of an engine that was started anew count on."""
        if stats["pid"] != self._pid:
            self._pid = stats["pid"]
            self._shown = {key: shown for key, shown in self._shown.items() if key[0] == RESTARTS}
        for name, (key, description) in GAUGES.items():
            if key in stats:
                self._set(name, description, float(stats[key]))
        for name, (key, description) in ENGINE_COUNTERS.items():
            if key in stats:
                self._raise((name, (), float(stats[key])), description)
        for name, labels, value in stats["samples"]:
            pairs = tuple((key, text) for key, text in labels)
            self._raise((name, pairs, value), _description(name))
        for reason, count in restarts.items():
            self._raise((RESTARTS, (("reason", reason),), float(count)), COUNTERS[RESTARTS])

    def _set(self, name: str, description: str, value: float) -> None:
        if self._shown.get((name, ())) != value:
            self._metric(name, (), description, is_gauge=True).set(value)
            self._shown[name, ()] = value

    def _raise(self, sample: Sample, description: str) -> None:
        name, labels, value = sample
        metric = self._metric(name, labels, description, is_gauge=False)
        if growth := value - self._shown.get((name, labels), 0.0):
            metric.increment(growth)
            self._shown[name, labels] = value

    def _metric(self, name: str, labels: Labels, description: str, is_gauge: bool) -> Metric:
        key = (name, labels)
        if key not in self._metrics:
            if name not in self._families:
                self._families[name] = self._make_family(PREFIX + name, description, is_gauge)
            self._metrics[key] = self._families[name].Metric(dict((*self._labels, *labels)))
        return self._metrics[key]


def _description(name: str) -> str:
    for suffix in ("_bucket", "_sum", "_count"):
        if name.removesuffix(suffix) in COUNTERS:
            return COUNTERS[name.removesuffix(suffix)]
    return COUNTERS[name]
