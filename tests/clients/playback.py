"""Two real servers, gRPC and HTTP, that play back what a test tells them.

They speak as tritonserver 2.51.0 does (unary errors with a status, stream errors without), see
clients/http_wire.py; and as the gateway does at the gateway's paths. A reply is a list of steps;
the last reply is repeated.
"""

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.clients import openai_shapes
from tests.clients.tensor_shapes import read_request, response_of

HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "INTERNAL": 500, "UNAVAILABLE": 503}


@dataclass(frozen=True)
class Text:
    """A chunk, or a part of the unary text; `index` is the text's number."""

    text: str
    index: int = 0


@dataclass(frozen=True)
class End:
    """The last chunk of a text; of the answer too, unless more follow."""

    finish_reason: str = "stop"
    index: int = 0
    is_last: bool = True


@dataclass(frozen=True)
class Fail:
    """An error of the model."""

    code: str
    message: str
    retry_after: str | None = None  # the gateway's header


@dataclass(frozen=True)
class Wait:
    """Wait, but note a client that leaves, and stop then."""

    seconds: float


@dataclass(frozen=True)
class Garbage:
    """An answer that isn't one."""


@dataclass(frozen=True)
class Break:
    """The connection is lost."""


Reply = list[Any]
# Two texts whose pieces are mixed; the first one ends last.
SEVERAL: Reply = [Text("a"), Text("b", 1), End("length", 1, is_last=False), Text("c"), End()]


@dataclass
class Playback:
    """What the servers answer, and what they were asked."""

    replies: list[Reply] = field(default_factory=lambda: [[Text("one "), Text("two"), End()]])
    requests: list[dict[str, Any]] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    num_connections: int = 0
    is_asked: threading.Event = field(default_factory=threading.Event)
    is_left: threading.Event = field(default_factory=threading.Event)
    urls: dict[str, str] = field(default_factory=dict)

    def next_reply(
        self, inputs: dict[str, Any], request_id: str, headers: Iterable[tuple[str, Any]]
    ) -> Reply:
        """The reply to one more request."""
        self.requests.append(inputs)
        self.request_ids.append(request_id)
        self.headers.append(dict(headers))
        self.is_asked.set()
        return self.replies[min(len(self.requests), len(self.replies)) - 1]

    def wait(self, seconds: float, is_gone: Any) -> bool:
        """Wait; True if the client left before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if is_gone():
                self.is_left.set()
                return True
            time.sleep(0.005)
        return False


class Stage:
    """The running servers and what they play now; a request keeps the playback it began with."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}
        self.playback = self.new_playback()

    def new_playback(self) -> Playback:
        """A fresh one for the next test."""
        self.playback = Playback(urls=dict(self.urls))
        return self.playback


@contextmanager
def serve(grpc_port: int = 0) -> Iterator[Stage]:
    """Run both servers."""
    stage = Stage()
    grpc_server = grpc.server(ThreadPoolExecutor(32))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(stage), grpc_server)
    stage.urls["grpc"] = f"localhost:{grpc_server.add_insecure_port(f'127.0.0.1:{grpc_port}')}"
    grpc_server.start()
    handler = type("Handler", (_Handler,), {"stage": stage})
    http_server = _HttpServer(("127.0.0.1", 0), handler)
    stage.urls["http"] = stage.urls["gateway"] = f"localhost:{http_server.server_port}"
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stage
    finally:
        grpc_server.stop(None).wait()
        http_server.shutdown()
        thread.join()
        http_server.server_close()


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def ModelReady(self, request: Any, _: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name in _MODELS)

    def ModelInfer(self, request: Any, context: Any) -> Any:
        playback = self._stage.playback
        reply = playback.next_reply(*read_request(request, context))
        for step in reply:
            match step:
                case Fail(code, message):
                    context.abort(grpc.StatusCode[code], message)
                case Break():
                    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                case Wait(seconds):
                    playback.wait(seconds, lambda: not context.is_active())
                case Garbage():
                    return service_pb2.ModelInferResponse(model_name="completion")
        return response_of(_joined(reply), rows=1)

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[Any]:
        wrap = service_pb2.ModelStreamInferResponse
        playback = self._stage.playback
        context.add_callback(playback.is_left.set)  # a stream that ended sets it too
        for step in playback.next_reply(*read_request(next(requests), context)):
            match step:
                case Text() | End():
                    yield wrap(infer_response=response_of(_piece(step)))
                case Fail(_, message):
                    yield wrap(error_message=message)
                    return
                case Break():
                    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                case Garbage():
                    response = response_of(_piece(End()))
                    response.raw_output_contents[0] = b"\x09\x00\x00\x00x"
                    yield wrap(infer_response=response)
                case Wait(seconds):
                    if playback.wait(seconds, lambda: not context.is_active()):
                        return


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 64  # of 5, a burst waits a second for its SYN to be sent again

    def handle_error(self, *_: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients may leave
            super().handle_error(*_)


class _Handler(BaseHTTPRequestHandler):
    stage: Stage
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.stage.playback.num_connections += 1

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._answer(200, json.dumps({"object": "list", "data": [{"id": "gpt"}]}).encode())
        else:
            is_ready = self.path == "/health/ready" or self.path.split("/")[3] in _MODELS
            self._answer(200 if is_ready else 404, b"")

    def do_POST(self) -> None:
        self.playback = self.stage.playback
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.is_gateway = self.path == "/v1/completions"
        if self.path.endswith("/infer") or (self.is_gateway and "stream" not in body):
            self._infer(body)
        else:
            try:
                self._generate_stream(body)
            except ConnectionError:
                self.playback.is_left.set()
                self.close_connection = True

    def _infer(self, body: Any) -> None:
        tensors = body
        if not self.is_gateway:
            tensors = {i["name"]: (i["datatype"], i["shape"], i["data"]) for i in body["inputs"]}
        reply = self.playback.next_reply(tensors, self._request_id(body), self.headers.items())
        for step in reply:
            match step:
                case Fail():
                    self._fail(step)
                    return
                case Break():
                    self.close_connection = True
                    return
                case Wait(seconds):
                    self.playback.wait(seconds, self._is_gone)
                case Garbage():
                    self._answer(200, b"<html>")
                    return
        joined = _joined(reply)
        outputs = [{"name": name, "data": values} for name, values in joined.items()]
        answer = openai_shapes.answer_of(joined) if self.is_gateway else {"outputs": outputs}
        self._answer(200, json.dumps(answer).encode())

    def _request_id(self, body: Any) -> str:
        return self.headers.get("x-request-id", "") if self.is_gateway else body.pop("id", "")

    def _fail(self, step: Fail) -> None:
        status, told = HTTP_STATUS.get(step.code, 500), json.dumps({"error": step.message})
        if self.is_gateway:
            status = openai_shapes.status_of(step.code, step.message)
            told = openai_shapes.error_of(step.code, step.message)
        headers = {"Retry-After": step.retry_after} if step.retry_after else {}
        self._answer(status, told.encode(), headers)

    def _generate_stream(self, body: Any) -> None:
        has_begun = False
        request_id = self._request_id(body)
        for step in self.playback.next_reply(body, request_id, self.headers.items()):
            if isinstance(step, Break):
                self.close_connection = True
                return
            if isinstance(step, Wait):
                if self.playback.wait(step.seconds, self._is_gone):
                    self.close_connection = True
                    return
                continue
            if isinstance(step, Fail) and self.is_gateway and not has_begun:
                self._fail(step)
                return
            if not has_begun:
                self._head(400 if isinstance(step, Fail) else 200)
                has_begun = True
            self._event(step)
        if not has_begun:
            self._head(200)
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _event(self, step: Any) -> None:
        match step:
            case Text() | End() if self.is_gateway:
                events = openai_shapes.events_of(_piece(step))
            case Text() | End():
                outputs = {name: value for name, (value,) in _piece(step).items()}
                events = [json.dumps(outputs, ensure_ascii=False)]
            case Fail(code, message) if self.is_gateway:
                events = [openai_shapes.error_of(code, message)]
            case Fail(_, message):
                events = [json.dumps({"error": message})]
            case _:
                events = ["<html>"]
        data = "".join(f"data: {event}\n\n" for event in events).encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _is_gone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""


_MODELS = ("completion", "completion_stream")


def _piece(step: Text | End) -> dict[str, list[Any]]:
    """The outputs of one streamed response."""
    is_end = isinstance(step, End)
    return {
        "text_output": ["" if isinstance(step, End) else step.text],
        "finish_reason": [step.finish_reason if isinstance(step, End) else ""],
        "prompt_tokens": [3 if is_end and step.is_last else 0],
        "completion_tokens": [2 if is_end and step.is_last else 0],
        "index": [step.index],
    }


def _joined(reply: Reply) -> dict[str, list[Any]]:
    """The outputs of the unary response."""
    texts = [step for step in reply if isinstance(step, Text)]
    ends = sorted((step for step in reply if isinstance(step, End)), key=lambda one: one.index)
    return {
        "text_output": [
            "".join(one.text for one in texts if one.index == end.index) for end in ends
        ],
        "finish_reason": [end.finish_reason for end in ends],
        "prompt_tokens": [3],
        "completion_tokens": [2],
    }
