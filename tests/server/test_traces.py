"""One trace from the client's `traceparent` through Triton's spans to the engine's."""

import json
import secrets
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from collecting import path_up
from running import RunningServer, free_ports, start_server, wait_until

from benchmarks.timing.collector import Collector

PHASES = ["queue", "prefill", "decode"]


@dataclass
class Traced:
    """A server that traces, and where its spans arrive."""

    server: RunningServer
    collector: Collector

    def complete(self, door: str) -> str:
        """One completion of 8 tokens under a trace of its own, whose id this is."""
        trace_id = secrets.token_hex(16)
        body = {"text_input": "class Stack:\n", "max_tokens": 8, "ignore_eos": True}
        post(self.server, door, body, {"traceparent": f"00-{trace_id}-{'1' * 16}-01"})
        return trace_id


def post(server: RunningServer, door: str, body: object, headers: dict[str, str]) -> None:
    """Ask one door over HTTP and read the whole answer."""
    how = "generate_stream" if door == "completion_stream" else "generate"
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}/v2/models/{door}/{how}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


@pytest.fixture
def traced(traced_server: RunningServer, collector: Collector) -> Traced:
    """A server that traces every request."""
    return Traced(traced_server, collector)


@pytest.mark.parametrize("door", ["completion", "completion_stream"])
def test_engine_spans_lie_under_those_of_triton_in_the_clients_trace(
    traced: Traced, door: str
) -> None:
    trace_id = traced.complete(door)

    wait_until(lambda: {*PHASES, "InferRequest"} <= traced.collector.trace(trace_id).keys(), 30)
    spans = traced.collector.trace(trace_id)
    for name in PHASES:
        *above, client = path_up(spans, name)
        assert above[-1] == "InferRequest", spans.keys()
        assert client == "1" * 16
    marks = [spans["queue"].start_time_unix_nano]
    for name in PHASES:
        assert spans[name].start_time_unix_nano == marks[-1]
        marks.append(spans[name].end_time_unix_nano)
    assert marks == sorted(marks)
    assert abs(marks[-1] - time.time_ns()) < 60e9


def test_spans_tell_what_the_request_took(traced: Traced) -> None:
    trace_id = traced.complete("completion_stream")
    wait_until(lambda: traced.collector.trace(trace_id).keys() >= {*PHASES}, 30)
    span = traced.collector.trace(trace_id)["decode"]
    told = {one.key: one.value for one in span.attributes}
    assert told["finish_reason"].string_value == "length"
    assert told["completion_tokens"].int_value == 8
    assert told["prompt_tokens"].int_value > 0
    assert 1 <= told["steps"].int_value <= 8
    assert {"reused_tokens", "drafted_tokens", "accepted_tokens"} <= told.keys()


def test_collector_that_is_down_slows_and_fails_nothing(
    demo_repository: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/v1/traces"
    server = start_server(demo_repository, tmp_path / "log", "--trace-url", url)
    try:
        with server.client(retries=0) as client:
            for _ in range(20):
                assert client.complete("def f(", max_tokens=4, timeout_s=5).finish_reason
                with client.stream("def f(", max_tokens=4, timeout_s=5) as stream:
                    assert list(stream)
    finally:
        assert server.stop() == 0
