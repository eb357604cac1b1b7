"""Stages of completions, from the spans of real servers."""

import asyncio
import time

import pytest
from collecting import Collector
from running import RunningServer

from benchmarks import waterfall
from benchmarks.stages import STREAM, UNARY, WHOLE, Traced, stages_of, summarize
from benchmarks.waterfall import Users, ask_all, wait_for_spans
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
CLOCK_MS = 1.0  # how far two processes' readings of one clock may lie apart


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
def stages(asked: list[Traced], collector: Collector) -> list[dict[str, float]]:
    """Milliseconds of each of them."""
    return wait_for_spans(collector, asked)


def test_every_request_has_the_stages_of_its_way(asked, stages):
    assert sorted(one.way for one in asked) == [STREAM] * 6 + [UNARY] * 6
    assert all(list(found) == STAGES[one.way] for one, found in zip(asked, stages, strict=True))


def test_stages_follow_each_other_and_sum_up_to_the_whole(stages):
    for found in stages:
        whole = found.pop(WHOLE)
        assert min(found.values()) > -CLOCK_MS, found
        assert sum(found.values()) == pytest.approx(whole)
        found[WHOLE] = whole


def test_rows_are_medians_of_each_way_the_whole_last(asked, stages):
    rows = summarize(3, asked, stages)

    assert [(row.way, row.stage) for row in rows] == [
        (way, stage) for way, names in STAGES.items() for stage in names
    ]
    assert all(row.num_requests == 6 and row.median_ms <= row.p95_ms for row in rows)


def test_request_whose_spans_have_not_come_is_named_by_the_missing_one(collector, monkeypatch):
    monkeypatch.setattr(waterfall, "SPANS_TIMEOUT_S", 0.0)
    lost = Traced(UNARY, "f" * 32, time.time_ns(), time.time_ns())

    with pytest.raises(LookupError, match="preprocessing"):
        stages_of(lost, [])
    with pytest.raises(ValueError, match="the span preprocessing did not come within"):
        wait_for_spans(collector, [lost])
