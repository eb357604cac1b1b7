"""Spans of a request's way through the gateway, and the context that Triton's spans hang under.

Comes in: a request's headers (W3C `traceparent`), its stages, its end. Goes out: a server span with
one child a stage, in batches and from a thread of their own, to an OpenTelemetry collector over
OTLP/HTTP; and the headers for Triton. A collector that is down costs spans and nothing else.
Without a collector's address nothing of OpenTelemetry is imported, and a caller's own context goes
on to Triton as it came. Knows nothing of the stages' work.

    trace = traces.begin(headers)
    with trace.stage("queue"):
        ...
    with trace.stage("upstream"):
        client.stream(prompt, headers=trace.headers())
    trace.end(finished)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from gateway.messages import Finished

SERVICE = "nanotriton-gateway"
EXPORT_TIMEOUT_S = 2.0
FAILURES = frozenset({"failed", "timeout", "interrupted"})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Trace(Protocol):
    """The trace of one request; `end` it once, in whatever way the request ended."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A span for one stage."""

    def headers(self) -> dict[str, str]:
        """What tells the next one that it works for the stage that is under way."""

    def end(self, finished: Finished) -> None:
        """Send the request's span."""


class Traces(Protocol):
    """Where traces begin."""

    def begin(self, headers: Mapping[str, str], name: str = "completion") -> Trace:
        """The trace of a request that came with these headers, lower-case or case-blind."""

    def close(self) -> None:
        """Send what is left."""


def traces_to(url: str | None, rate: int = 1) -> Traces:
    """Traces to the collector at `url`, such as http://localhost:4318/v1/traces; none without.

    Of the requests that bring no context one in `rate` is traced; with one, its caller decides.
    """
    return CollectedTraces(url, rate) if url else NoTraces()


class NoTraces:
    """Tracing that is off."""

    def begin(self, headers: Mapping[str, str], name: str = "completion") -> Trace:
        del name
        return PassedOn(headers)

    def close(self) -> None:
        """Nothing is left."""


class PassedOn:
    """The trace of others, to which the gateway adds nothing."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        parent = headers.get("traceparent", "")
        self._headers = {"traceparent": parent} if _TRACEPARENT.fullmatch(parent) else {}

    def stage(self, name: str) -> AbstractContextManager[None]:
        del name
        return nullcontext()

    def headers(self) -> dict[str, str]:
        return self._headers

    def end(self, finished: Finished) -> None:
        """Nobody waits for it."""


class CollectedTraces:
    """Traces that go to a collector."""

    def __init__(self, url: str, rate: int = 1) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(1 / rate),
            resource=Resource.create({"service.name": SERVICE}),
        )
        exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer(SERVICE)

    def begin(self, headers: Mapping[str, str], name: str = "completion") -> Trace:
        return Collected(self._tracer, headers, name)

    def close(self) -> None:
        self._provider.shutdown()


class Collected:
    """A trace whose spans are sent; stages may lie within stages."""

    def __init__(self, tracer: Tracer, headers: Mapping[str, str], name: str) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._within = set_span_in_context
        parent = self._propagator.extract({**headers})
        self._span: Span = tracer.start_span(name, parent, SpanKind.SERVER)
        self._context: Context = self._within(self._span)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        # No context variables: a stage may begin in one task and end in another.
        around = self._context
        span = self._tracer.start_span(name, around)
        self._context = self._within(span)
        try:
            yield
        except BaseException as error:
            _set_failed(span, type(error).__name__)
            raise
        finally:
            self._context = around
            span.end()

    def headers(self) -> dict[str, str]:
        told: dict[str, str] = {}
        self._propagator.inject(told, self._context)
        return told

    def end(self, finished: Finished) -> None:
        told: dict[str, str | int] = {
            "request_id": finished.request.id,
            "outcome": finished.outcome,
            "prompt_tokens": finished.usage.prompt_tokens,
            "completion_tokens": finished.usage.completion_tokens,
        }
        if finished.caller:
            told["key"] = finished.caller.prefix
        if served := finished.served:
            told |= {"route": served.backend, "model": served.model, "version": served.version}
        self._span.set_attributes(told)
        if finished.outcome in FAILURES:
            _set_failed(self._span, finished.error or finished.outcome)
        self._span.end()


def _set_failed(span: Span, why: str) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    span.set_status(Status(StatusCode.ERROR, why))
