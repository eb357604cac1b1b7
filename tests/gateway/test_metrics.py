"""What /metrics and /stats tell of requests."""

import dataclasses
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from gateway.errors import Busy, RateLimited
from gateway.insight.metrics import Metrics
from gateway.insight.recent import SLOT_S, WINDOW_S, RecentTimes
from gateway.messages import Outcome, Usage
from tests.gateway.finished import SERVED, finished, request

NAME = "nanotriton_gateway_"
STABLE = {"route": "stable", "model": "gpt", "version": "1"}


def values(metrics: Metrics) -> dict[tuple[Any, ...], float]:
    """Every sample by its name without the prefix and its labels, as a scrape reads it."""
    families = text_families(metrics.exposition().body.decode())
    samples = [sample for family in families for sample in family.samples]
    return {
        (one.name.removeprefix(NAME), *sorted(one.labels.items())): one.value for one in samples
    }


def key(name: str, **labels: str) -> tuple[Any, ...]:
    return (name, *sorted(labels.items()))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_a_request_is_counted_and_timed_under_its_version(metrics: Metrics) -> None:
    metrics.observe(finished(cost=0.25))
    seen = values(metrics)
    assert seen[key("requests_total", **STABLE, outcome="ok")] == 1
    assert seen[key("tokens_total", **STABLE, kind="prompt")] == 10
    assert seen[key("tokens_total", **STABLE, kind="completion")] == 21
    assert seen[key("cost_total", **STABLE)] == 0.25
    assert seen[key("time_to_first_text_seconds_sum", **STABLE)] == pytest.approx(0.2)
    assert seen[key("inter_token_seconds_sum", **STABLE)] == pytest.approx(0.05)
    assert seen[key("request_seconds_sum", **STABLE)] == pytest.approx(1.2)


@pytest.mark.parametrize("outcome", ["superseded", "disconnected", "timeout", "failed"])
def test_tokens_that_nobody_read_are_waste(metrics: Metrics, outcome: Outcome) -> None:
    metrics.observe(finished(outcome))
    seen = values(metrics)
    assert seen[key("wasted_tokens_total", outcome=outcome)] == 21
    assert key("request_seconds_sum", **STABLE) not in seen, "a part isn't timed as a whole"


@pytest.mark.parametrize(
    ("outcome", "cache"), [("cached", "responses"), ("typeahead", "typeahead")]
)
def test_cached_tokens_are_not_the_engines(metrics: Metrics, outcome: Outcome, cache: str) -> None:
    metrics.observe(finished(outcome))
    seen = values(metrics)
    assert seen[key("cached_tokens_total", cache=cache)] == 21
    assert seen[key("cached_request_seconds_count", cache=cache)] == 1
    assert not [name for name, *_ in seen if name in {"tokens_total", "request_seconds_count"}]


def test_callers_words_make_no_series(metrics: Metrics) -> None:
    for number in range(50):
        asked = request(id=f"cmpl-{number}", model=f"m{number}", user=f"u{number}")
        one = finished("refused", served=None, usage=Usage())
        metrics.observe(dataclasses.replace(one, request=asked))
    counted = [
        one for one, count in values(metrics).items() if one[0] == "requests_total" and count
    ]
    assert counted == [
        key("requests_total", route="none", model="none", version="none", outcome="refused")
    ]


def test_every_name_has_the_prefix(metrics: Metrics) -> None:
    metrics.observe(finished())
    lines = metrics.exposition().body.decode().splitlines()
    assert [line for line in lines if line[0] != "#" and not line.startswith(NAME)] == []


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain", text_families),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics", open_families),
    ],
    ids=["text", "OpenMetrics"],
)
def test_exposition_follows_the_accept_header(
    metrics: Metrics, accept: str, content_type: str, parse: Any
) -> None:
    metrics.observe(finished())
    made = metrics.exposition(accept)
    assert made.content_type.startswith(content_type)
    assert NAME + "requests" in {one.name for one in parse(made.body.decode())}


def test_stats_tell_totals_states_and_quantiles(metrics: Metrics) -> None:
    metrics.observe(finished(cost=0.5))
    metrics.observe(finished("superseded"))
    metrics.refused(RateLimited("slow down"))
    metrics.refused(Busy("full"))
    metrics.looked_up("typeahead", hit=True)
    metrics.looked_up("typeahead", hit=False)
    metrics.breaker_changed("stable", "open")
    metrics.event("accepted")
    metrics.watch_queue(lambda: 3, lambda: 4)
    metrics.watch_ledger(lambda: 5)
    metrics.watch_requests(lambda: 7)
    told: Any = metrics.stats()
    assert told["requests"] == {"ok": 1, "superseded": 1}
    assert told["versions"] == {"stable/gpt/1": 2}
    assert told["tokens"] == {
        **{"prompt": 20, "completion": 42},
        **{"wasted": {"superseded": 21}, "cached": {}},
    }
    assert told["errors"] == {"rate_limit_error": 1, "overloaded_error": 1}
    assert told["caches"] == {"typeahead": {"hit": 1, "miss": 1}}
    assert told["breakers"] == {"stable": "open"}
    assert (told["queue"], told["ledger_bytes_waiting"]) == ({"running": 3, "waiting": 4}, 5)
    assert told["active"] == 7
    assert 1.0 <= told["latency"]["total_s"]["p50"] <= 1.5


def test_two_versions_of_a_model_are_told_apart(metrics: Metrics) -> None:
    metrics.observe(finished())
    metrics.observe(finished(served=dataclasses.replace(SERVED, backend="canary", version="2")))
    assert metrics.stats()["versions"] == {"stable/gpt/1": 1, "canary/gpt/2": 1}


def test_quantiles_lie_in_the_bucket_of_their_share() -> None:
    recent = RecentTimes((1.0, 2.0, 4.0), clock=lambda: 0.0)
    for seconds in [0.5] * 90 + [1.5] * 8 + [3.0, 99.0]:
        recent.add(seconds)
    told = recent.summary()
    assert told["count"] == 100
    assert told["p50"] == pytest.approx(50 / 90, abs=1e-5)
    assert told["p95"] == pytest.approx(1 + 5 / 8)
    assert told["p99"] == pytest.approx(3.0)


def test_quantiles_forget_what_is_older_than_the_window() -> None:
    now = [0.0]
    recent = RecentTimes((1.0, 2.0), clock=lambda: now[0])
    recent.add(0.5)
    now[0] = WINDOW_S - 1
    recent.add(1.5)
    assert recent.summary()["count"] == 2
    now[0] = WINDOW_S + SLOT_S
    assert recent.summary()["count"] == 1
    now[0] = 9 * WINDOW_S
    assert recent.summary() == {"count": 0, "p50": None, "p95": None, "p99": None}
