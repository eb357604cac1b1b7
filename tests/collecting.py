"""An OpenTelemetry collector for tests: it takes OTLP/HTTP and keeps the spans."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(ThreadingHTTPServer):
    """What an OTLP/HTTP collector does, as far as a test needs it: it keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.spans: list[Span] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where traces go."""
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def trace(self, trace_id: str) -> dict[str, Span]:
        """The spans of one trace so far, by name."""
        return {one.name: one for one in self.spans if one.trace_id.hex() == trace_id}


def export_of(body: bytes, content_type: str) -> ExportTraceServiceRequest:
    """What was sent: the models' exporter writes protobuf, Triton's writes JSON with hex ids."""
    if content_type == "application/x-protobuf":
        return ExportTraceServiceRequest.FromString(body)
    message = json.loads(
        re.sub(
            rb'("(?:traceId|spanId|parentSpanId)"\s*:\s*")([0-9a-f]*)"',
            lambda found: found[1] + base64.b64encode(bytes.fromhex(found[2].decode())) + b'"',
            body,
        )
    )
    return json_format.ParseDict(message, ExportTraceServiceRequest(), ignore_unknown_fields=True)


class CollectorHandler(BaseHTTPRequestHandler):
    """Takes POST /v1/traces."""

    server: Collector

    def do_POST(self) -> None:
        """Keep the spans of one export."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = export_of(body, self.headers["Content-Type"])
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def path_up(spans: dict[str, Span], name: str) -> list[str]:
    """Names from a span up to where the trace came from."""
    by_id = {one.span_id: one for one in spans.values()}
    found, now = [], spans[name]
    while now.parent_span_id in by_id:
        now = by_id[now.parent_span_id]
        found.append(now.name)
    return [*found, now.parent_span_id.hex()]
