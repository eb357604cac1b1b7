"""Stages of completions, from the spans of real servers."""

import asyncio

import pytest
from running import RunningServer

from benchmarks.timing import waterfall
from benchmarks.timing.collector import Collector
from benchmarks.timing.stages import STREAM, UNARY, WHOLE, Stages, Traced, summarize
from benchmarks.timing.waterfall import Users, ask_all, wait_for_stages
from tests.gateway.gateways import running_gateway

STAGES = {
    STREAM: [
        *("client to gateway", "gateway", "gateway to Triton", "Triton queue", "tokenize"),
        *("engine wait", "prefill", "decode", "back to the client", WHOLE),
    ],
    UNARY: [
        *("client to Triton", "Triton queue", "tokenize", "to the engine", "engine wait"),
        *("prefill", "decode", "back to Triton", "detokenize", "back to the client", WHOLE),
    ],
}
LOST = Traced(UNARY, "f" * 32, 0, 1)
CLOCK_MS = 50.0  # Triton may note a model's end after its client has the answer, on a busy machine


@pytest.fixture(scope="module")
def asked(
    traced_server: RunningServer, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> list[Traced]:
    """What three users asked, two times each way."""
    words = ("--open", "--cache-bytes", "0", "--trace-url", collector.url)
    with running_gateway(traced_server, tmp_path_factory.mktemp("gateway"), *words) as gateway:
        grpc_url = f"127.0.0.1:{traced_server.grpc_port}"
        return asyncio.run(ask_all(grpc_url, f"127.0.0.1:{gateway.port}", Users(3, 2, 4)))


@pytest.fixture(scope="module")
def stages(asked: list[Traced], collector: Collector) -> list[Stages]:
    """What each of them took."""
    return wait_for_stages(collector, asked)


def test_every_request_has_the_stages_of_its_way(stages):
    assert {one.way for one in stages} == {STREAM, UNARY}  # a busy Triton may lose a span
    assert all([*one.lengths_ms] == STAGES[one.way] for one in stages)


def test_stages_follow_each_other_and_sum_up_to_the_whole(stages):
    for one in stages:
        *lengths, whole = one.lengths_ms.values()
        assert min(lengths) > -CLOCK_MS, one
        assert sum(lengths) == pytest.approx(whole)


def test_rows_are_medians_of_each_way_the_whole_last(stages):
    rows = summarize(3, stages)

    assert [(row.way, row.stage) for row in rows] == [
        (way, stage) for way, names in STAGES.items() for stage in names
    ]
    assert all(row.num_requests and row.median_ms <= row.p95_ms for row in rows)


def test_request_whose_spans_are_lost_is_left_out(asked, stages, collector, monkeypatch):
    monkeypatch.setattr(waterfall, "SPANS_TIMEOUT_S", 0.0)

    assert wait_for_stages(collector, [*asked, LOST]) == stages


def test_too_few_whole_traces_are_told_with_the_missing_span(collector, monkeypatch):
    monkeypatch.setattr(waterfall, "SPANS_TIMEOUT_S", 0.0)

    with pytest.raises(ValueError, match=r"of 1 requests 0 left .* span preprocessing is missing"):
        wait_for_stages(collector, [LOST])
