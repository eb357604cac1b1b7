"""Spans of a request's way through the engine, under the trace that Triton began for it.

Comes in: the trace context of a Triton request (a JSON object with `traceparent`) and the last
event of its completion. Goes out: the spans queue, prefill and decode, in batches and from a thread
of their own, to an OpenTelemetry collector over OTLP/HTTP. One that is down costs spans and nothing
else. Needs the extra `tracing`, and only when it is on. Knows nothing of Triton's objects.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanotriton.engine.events import Event, Failure, Times
from nanotriton.errors import ServerError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

# OpenTelemetry's own name for where traces go; `serve` sets it for the models' processes.
ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
SERVICE = "nanotriton"
EXPORT_TIMEOUT_S = 2.0
PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")

Attributes = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a request's life, in Unix nanoseconds."""

    name: str
    start_ns: int
    end_ns: int


class RequestSpans:
    """Sends spans to the collector at `url`; raises ServerError when the extra is not there."""

    def __init__(self, url: str) -> None:
        check_installed()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
        exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer(SERVICE)

    def add(self, context: str, event: Event, **attributes: str | int) -> None:
        """Tell what became of a request, from its last event; without a context it isn't traced."""
        if not context or event.times is None:
            return
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        parent = TraceContextTextMapPropagator().extract(json.loads(context))
        told = {**attributes, **attributes_of(event)}
        for phase in phases_of(event.times):
            span = self._tracer.start_span(
                phase.name, parent, attributes=told, start_time=phase.start_ns
            )
            if isinstance(event, Failure):
                span.set_status(Status(StatusCode.ERROR, str(event.error)))
            span.end(phase.end_ns)

    def close(self) -> None:
        """Send what is left, for as long as one export may take."""
        self._provider.shutdown()


def check_installed() -> None:
    """Raise ServerError when the packages that tracing needs are not there."""
    for name in PACKAGES:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ServerError(
                f"tracing needs {name}, which is not installed: pip install 'nanotriton[tracing]'"
            )


def phases_of(times: Times) -> Iterator[Phase]:
    """What a request went through: queue, then prefill, then decode, as far as it came."""
    starts = {
        "queue": times.submitted_ns,
        "prefill": times.started_ns,
        "decode": times.first_token_ns,
    }
    reached = [(name, start) for name, start in starts.items() if start is not None]
    ends = [start for _, start in reached[1:]] + [times.finished_ns]
    for (name, start), end in zip(reached, ends, strict=True):
        yield Phase(name, start, end)


def attributes_of(event: Event) -> Attributes:
    """What the last event tells of a request, as attributes of its spans."""
    if isinstance(event, Failure):
        return {"status": event.error.status}
    told: dict[str, str | int] = {"finish_reason": event.finish_reason or ""}
    if event.usage:
        told["prompt_tokens"] = event.usage.prompt_tokens
        told["completion_tokens"] = event.usage.completion_tokens
    if event.work:
        told["reused_tokens"] = event.work.reused_tokens
        told["drafted_tokens"] = event.work.drafted_tokens
        told["accepted_tokens"] = event.work.accepted_tokens
        told["steps"] = event.work.num_steps
    return told
