"""Metrics, log and trace of a request that the service served, through the real Triton."""

import asyncio
import io
import json

from collecting import path_up
from running import RunningServer

from benchmarks.timing.collector import Collector
from clients import ServerError
from gateway.flights import Flight
from gateway.insight.logs import RequestLog
from gateway.insight.metrics import Metrics
from gateway.insight.observer import Insight
from gateway.insight.traces import PassedOn, Traces, traces_to
from gateway.messages import CompletionRequest, Finished
from gateway.service import Service
from gateway.stages import Stages
from gateway.upstream import Upstream
from tests.gateway.finished import CALLER, finished
from tests.gateway.gateways import routes_to

PARENT = {"traceparent": f"00-{'c' * 32}-{'1' * 16}-01"}


async def serve_one(server: RunningServer, metrics: Metrics, traces: Traces) -> None:
    """One completion of 4 tokens through the service."""
    upstream = Upstream()
    stages = Stages(
        routes=routes_to(server),
        traces=traces,
        observers=(Insight(metrics, RequestLog()),),
    )
    settings = {"max_tokens": 4, "ignore_eos": True, "temperature": 0.0}
    request = CompletionRequest("cmpl-7", "def f(", settings, stream=True, timeout_s=20.0)
    flight = Flight(CALLER, request)
    flight.trace = traces.begin(PARENT)
    assert [chunk async for chunk in Service(stages, upstream).answer(flight)]
    await upstream.close()


def test_a_served_request_is_counted_logged_and_traced(
    server: RunningServer, log: io.StringIO
) -> None:
    metrics = Metrics()
    with Collector() as collector:
        traces = traces_to(collector.url)
        asyncio.run(serve_one(server, metrics, traces))
        traces.close()
        spans = collector.trace("c" * 32)
    stats = metrics.stats()
    assert (stats["requests"], stats["versions"]) == ({"ok": 1}, {"stable/nanotriton/1": 1})
    (line,) = [one for one in map(json.loads, log.getvalue().splitlines()) if "request_id" in one]
    assert (line["request_id"], line["completion_tokens"]) == ("cmpl-7", 4)
    assert "def f(" not in log.getvalue()
    assert path_up(spans, "upstream") == ["completion", "1" * 16]


class BrokenTrace(PassedOn):
    """One whose end has a bug."""

    def end(self, finished: Finished) -> None:
        raise ServerError(f"the exporter can't say {finished.outcome}")


def test_fault_of_insight_costs_no_request(log: io.StringIO) -> None:
    metrics = Metrics()
    Insight(metrics, RequestLog()).finish(finished(), BrokenTrace({}))
    assert metrics.stats()["requests"] == {"ok": 1}
    last = json.loads(log.getvalue().splitlines()[-1])
    assert "the exporter can't say ok" in last["exception"]
