"""An OpenTelemetry collector in this process: spans come in over OTLP/HTTP, and are kept.

Comes in: exports of Triton (JSON), of its models and of the gateway (protobuf). Goes out: their
spans, by trace. An export is only kept as it comes and read when somebody asks, so that whoever
measures here is disturbed little. Knows nothing of what the spans mean.
"""

import base64
import json
import re
import threading
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PROTOBUF = "application/x-protobuf"
# Ids, which Triton writes in hexadecimal, as OTLP says, and protobuf's JSON reads in base 64.
_HEX_ID = re.compile(rb'("(?:traceId|spanId|parentSpanId)"\s*:\s*")([0-9a-f]*)"')


class Collector(ThreadingHTTPServer):
    """Takes spans at `url`; a context manager."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._unread: deque[tuple[bytes, str]] = deque()
        self._traces: defaultdict[str, list[Span]] = defaultdict(list)
        self._reading = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where traces go."""
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    @property
    def spans(self) -> list[Span]:
        """All that came so far."""
        self._read()
        return [span for spans in self._traces.values() for span in spans]

    def spans_of(self, trace_id: str) -> list[Span]:
        """Those of one trace, whose id is in hexadecimal."""
        self._read()
        return list(self._traces.get(trace_id, ()))

    def trace(self, trace_id: str) -> dict[str, Span]:
        """The same by name, the last one of each."""
        return {one.name: one for one in self.spans_of(trace_id)}

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def keep(self, body: bytes, content_type: str) -> None:
        """Take an export as it came."""
        self._unread.append((body, content_type))

    def _read(self) -> None:
        with self._reading:
            while self._unread:
                for resource in export_of(*self._unread.popleft()).resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            self._traces[span.trace_id.hex()].append(span)


def export_of(body: bytes, content_type: str) -> ExportTraceServiceRequest:
    """What was sent: the models' exporter writes protobuf, Triton's writes JSON with hex ids."""
    request = ExportTraceServiceRequest()
    if content_type == PROTOBUF:
        request.ParseFromString(body)
        return request
    message = json.loads(
        _HEX_ID.sub(
            lambda found: found[1] + base64.b64encode(bytes.fromhex(found[2].decode())) + b'"',
            body,
        )
    )
    json_format.ParseDict(message, request, ignore_unknown_fields=True)
    return request


class _Handler(BaseHTTPRequestHandler):
    """Takes POST /v1/traces."""

    server: Collector

    def do_POST(self) -> None:
        """Keep one export."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keep(body, self.headers["Content-Type"])
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", PROTOBUF)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
