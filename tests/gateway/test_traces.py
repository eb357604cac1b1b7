"""Traces from a caller's `traceparent` through the gateway's stages to the engine's spans."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest
from collecting import path_up
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from running import RunningServer, free_ports, wait_until

from benchmarks.timing.collector import Collector
from clients import AsyncCompletionClient
from gateway.insight.traces import CollectedTraces, NoTraces, Traces, traces_to
from gateway.messages import Outcome
from tests.gateway.finished import finished

CALLER = "1" * 16


@pytest.fixture
def traces(collector: Collector) -> Iterator[Traces]:
    made = traces_to(collector.url)
    assert isinstance(made, CollectedTraces)
    yield made
    made.close()


def parent_of(trace_id: str, flags: str = "01") -> dict[str, str]:
    """A caller's headers."""
    return {"traceparent": f"00-{trace_id}-{CALLER}-{flags}"}


def run_stages(traces: Traces, headers: dict[str, str], outcome: Outcome = "ok") -> None:
    """A request of two stages that asks nobody."""
    trace = traces.begin(headers)
    with trace.stage("limits"):
        pass
    with trace.stage("queue"):
        pass
    trace.end(finished(outcome, error="Triton is gone" if outcome == "failed" else None))


async def ask(server: RunningServer, traces: Traces, headers: dict[str, str]) -> None:
    """A request that Triton answers."""
    trace = traces.begin(headers)
    async with AsyncCompletionClient(f"127.0.0.1:{server.grpc_port}") as client:
        with trace.stage("upstream"):
            stream = client.stream("def f(", max_tokens=4, headers=trace.headers())
            async with stream:
                assert [chunk async for chunk in stream]
    trace.end(finished())


def test_spans_of_triton_and_engine_lie_under_the_gateways(
    traced_server: RunningServer, collector: Collector, traces: Traces
) -> None:
    trace_id = secrets.token_hex(16)
    asyncio.run(ask(traced_server, traces, parent_of(trace_id)))
    traces.close()
    wait_until(lambda: {"decode", "InferRequest", "completion"} <= {*collector.trace(trace_id)}, 30)
    for name in ("queue", "prefill", "decode"):
        way = path_up(collector.trace(trace_id), name)
        assert way[-4:] == ["InferRequest", "upstream", "completion", CALLER]


def test_stages_are_children_of_the_request(collector: Collector, traces: Traces) -> None:
    trace_id = secrets.token_hex(16)
    run_stages(traces, parent_of(trace_id))
    traces.close()
    spans = collector.trace(trace_id)
    assert path_up(spans, "limits") == path_up(spans, "queue") == ["completion", CALLER]
    assert spans["completion"].kind == Span.SpanKind.SPAN_KIND_SERVER
    told = {one.key: one.value for one in spans["completion"].attributes}
    assert told["completion_tokens"].int_value == 21
    assert told["route"].string_value == "stable"


def test_failed_request_and_stage_say_why(collector: Collector, traces: Traces) -> None:
    trace_id = secrets.token_hex(16)
    trace = traces.begin(parent_of(trace_id))
    with pytest.raises(ConnectionError), trace.stage("upstream"):
        raise ConnectionError("10.0.0.7 refused")
    trace.end(finished("failed", error="Triton is gone"))
    traces.close()
    spans = collector.trace(trace_id)
    assert spans["completion"].status.code == Status.StatusCode.STATUS_CODE_ERROR
    assert spans["completion"].status.message == "Triton is gone"
    assert spans["upstream"].status.message == "ConnectionError"


def test_headers_name_the_stage_under_way(traces: Traces) -> None:
    trace = traces.begin(parent_of("a" * 32))
    before = trace.headers()["traceparent"]
    with trace.stage("upstream"):
        inside = trace.headers()["traceparent"]
    assert before.split("-")[1] == inside.split("-")[1] == "a" * 32
    assert before != inside
    assert trace.headers()["traceparent"] == before


def test_caller_decides_that_its_request_is_not_traced(
    collector: Collector, traces: Traces
) -> None:
    trace_id = secrets.token_hex(16)
    run_stages(traces, parent_of(trace_id, flags="00"))
    traces.close()
    assert collector.trace(trace_id) == {}


def test_one_request_in_so_many_is_traced(collector: Collector) -> None:
    traces, before = traces_to(collector.url, rate=4), len(collector.spans)
    for _ in range(400):
        traces.begin({}).end(finished())
    traces.close()
    # 100 expected of a binomial: 5 standard deviations of 8.7 are left once in 2 million runs.
    assert 55 < len(collector.spans) - before < 145


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        (parent_of("a" * 32), parent_of("a" * 32)),
        ({}, {}),
        ({"traceparent": "00-zz\r\nx: y"}, {}),
    ],
    ids=["good", "none", "forged"],
)
def test_gateway_that_does_not_trace_passes_the_callers_context_on(
    sent: dict[str, str], passed_on: dict[str, str]
) -> None:
    trace = NoTraces().begin(sent)
    with trace.stage("queue"):
        assert trace.headers() == passed_on
    trace.end(finished())


@pytest.mark.parametrize(
    "sent", ["", "00-" + "0" * 32 + "-" + CALLER + "-01", "\udc80", "x" * 9999]
)
def test_bad_context_begins_a_trace_of_its_own(traces: Traces, sent: str) -> None:
    own = traces.begin({"traceparent": sent}).headers()["traceparent"].split("-")[1]
    assert len(own) == 32
    assert int(own, 16) != 0


def test_collector_that_is_down_costs_spans_alone() -> None:
    (port,) = free_ports(1)
    traces = traces_to(f"http://127.0.0.1:{port}/v1/traces")
    for _ in range(50):
        run_stages(traces, {})
    traces.close()


def test_without_a_collector_opentelemetry_is_not_imported() -> None:
    program = (
        "import sys; from gateway.insight.traces import traces_to; traces_to(None).begin({});"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
