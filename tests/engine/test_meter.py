"""Counts of the engine: what is submitted and what steps bring adds up, whatever the order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.events import Failure, Key, Times, TokenEvent, Usage
from nanotriton.engine.exposition import Exposition
from nanotriton.engine.meter import Histogram, Meter
from nanotriton.errors import RunnerError

A: Key = (b"peer", 1)
B: Key = (b"peer", 2)


def token(key: Key, reason: str | None = None, num_tokens: int = 1) -> TokenEvent:
    """A token; the last one of a request that had so many when a reason is given."""
    usage = Usage(5, num_tokens) if reason else None
    return TokenEvent(key, (7,), "x", reason, usage)


def value(meter: Meter, name: str, **labels: str) -> float:
    return next(
        (number for one, pairs, number in meter.samples() if one == name and dict(pairs) == labels),
        0.0,
    )


def test_times_of_a_request_are_told_apart() -> None:
    meter = Meter()
    meter.submitted(A, 5, now_s=10.0)
    meter.stepped("prefill", 0.5, [A], [token(A)], now_s=12.0)
    meter.stepped("decode", 0.25, [A], [token(A, "length", 2)], now_s=12.25)
    meter.answered("model.onnx")
    meter.answered("")  # a step that failed

    assert value(meter, "queue_seconds_sum") == 1.5  # until the step that started it
    assert value(meter, "time_to_first_token_seconds_sum") == 2.0
    assert value(meter, "inter_token_seconds_sum") == 0.25
    assert value(meter, "request_seconds_sum") == 2.25
    assert value(meter, "step_seconds_sum", kind="prefill") == 0.5
    assert value(meter, "tokens_total", kind="prompt") == 5
    assert value(meter, "tokens_total", kind="completion") == 2
    assert value(meter, "requests_total", outcome="length") == 1
    assert value(meter, "graph_steps_total", graph="model.onnx") == 1
    assert meter.take_times(A) == Times(10 * 10**9, 11_500 * 10**6, 12 * 10**9, 12_250 * 10**6)
    assert meter.take_times(A) is None


def test_tokens_that_nobody_got_are_wasted() -> None:
    meter = Meter()
    for key in (A, B, (b"gone", 1)):
        meter.submitted(key, 1, now_s=0.0)
        meter.stepped("decode", 0.1, [key], [token(key)], now_s=0.1)
    cancelled = TokenEvent(A, (), "", "cancelled", Usage(1, 1))
    meter.happened([cancelled, Failure(B, RunnerError("no"))], now_s=0.2)
    meter.dropped(b"gone", "cancelled")

    assert value(meter, "tokens_total", kind="wasted") == 3
    assert value(meter, "requests_total", outcome="cancelled") == 2
    assert value(meter, "requests_total", outcome="failed") == 1


def test_refused_request_has_no_times() -> None:
    meter = Meter()
    meter.refused("UNAVAILABLE")
    meter.happened([Failure(A, RunnerError("full"))], now_s=1.0)

    assert value(meter, "requests_total", outcome="refused:UNAVAILABLE") == 1
    assert value(meter, "request_seconds_count") == 0


@given(st.lists(st.floats(0, 3)))
def test_buckets_cumulate_as_prometheus_wants(seconds: list[float]) -> None:
    histogram = Histogram((0.5, 1.0, 2.0))
    for one in seconds:
        histogram.observe(one)
    *buckets, total, count = histogram.samples("x_seconds")

    assert [dict(labels)["le"] for _, labels, _ in buckets] == ["0.5", "1", "2", "+Inf"]
    limits = (0.5, 1.0, 2.0, float("inf"))
    assert [number for _, _, number in buckets] == [
        sum(one <= limit for one in seconds) for limit in limits
    ]
    assert total[2] == pytest.approx(sum(seconds))
    assert count[2] == len(seconds)


class Page:
    """Families as Triton has them: a counter that falls is an error there too."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}
        self.num_updates = 0

    def make_family(self, name: str, description: str, is_gauge: bool) -> "PageFamily":
        assert description
        return PageFamily(self, name, is_gauge)


class PageFamily:
    def __init__(self, page: Page, name: str, is_gauge: bool) -> None:
        self.page, self.name, self.is_gauge = page, name, is_gauge

    def Metric(self, labels: dict[str, str]) -> "PageMetric":
        return PageMetric(self, tuple(labels.values()))


class PageMetric:
    def __init__(self, family: PageFamily, labels: tuple[str, ...]) -> None:
        self.family, self.key = family, (family.name, labels)
        family.page.values[self.key] = 0.0

    def increment(self, value: float) -> None:
        assert value > 0
        assert not self.family.is_gauge
        self.family.page.num_updates += 1
        self.family.page.values[self.key] += value

    def set(self, value: float) -> None:
        assert self.family.is_gauge
        self.family.page.values[self.key] = value


def stats(pid: int, num_stopped: int, num_waiting: int = 0) -> dict[str, object]:
    sample = ["requests_total", [["outcome", "stop"]], num_stopped]
    return {"pid": pid, "num_waiting": num_waiting, "samples": [sample]}


def test_counters_count_on_when_the_engine_was_started_anew() -> None:
    page = Page()
    exposition = Exposition(page.make_family, (("version", "3"),))
    exposition.update(stats(pid=1, num_stopped=5, num_waiting=2), {"died": 0})
    exposition.update(stats(pid=1, num_stopped=7), {"died": 0})
    exposition.update(stats(pid=2, num_stopped=1), {"died": 1})

    assert page.values["nanotriton_requests_total", ("3", "stop")] == 8
    assert page.values["nanotriton_requests_waiting", ("3",)] == 0
    assert page.values["nanotriton_engine_restarts_total", ("3", "died")] == 1


def test_what_stands_still_costs_no_update() -> None:
    page = Page()
    exposition = Exposition(page.make_family, ())
    exposition.update(stats(pid=1, num_stopped=5), {"died": 0})
    before = page.num_updates
    exposition.update(stats(pid=1, num_stopped=5), {"died": 0})

    assert page.num_updates == before
