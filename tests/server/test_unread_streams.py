"""Clients that ask for a stream and read nothing, or freeze: what they cost, and for how long.

Triton keeps what a client doesn't read, and tells nobody. So a stream's own length is the bound:
measured are 2.3 KB a token over gRPC (1.1 MB for 480), and 0.2 KB over HTTP.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from running import ROOT, RunningServer, start_server, wait_until
from tritonclient.grpc import service_pb2_grpc

from clients.grpc_wire import encode_stream
from clients.tensors import stream_tensors
from nanotriton.engine.client import EngineClient

# Hot, so that speculation shortens nothing.
LONG = {"max_tokens": 480, "ignore_eos": True, "temperature": 2.0}
NUM_STREAMS = 8
# Seconds, not the 10 s that `serve` gives a client that answers no ping.
IMPATIENT = ("--grpc-keepalive-time=1000", "--grpc-keepalive-timeout=1000")


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


@contextmanager
def unread_grpc(port: int, num_streams: int = NUM_STREAMS) -> Iterator[None]:
    """Streams on one connection, none of whose answers is taken: flow control stops them."""
    request = encode_stream(stream_tensors("def f(", LONG, in_pieces=True))
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelStreamInfer(iter([request])) for _ in range(num_streams)]
        yield
        for call in calls:
            call.cancel()


@contextmanager
def unread_http(port: int) -> Iterator[None]:
    """The same over HTTP: sockets with a small buffer that nobody reads."""
    body = json.dumps({"text_input": "def f(", **LONG}).encode()
    head = (
        "POST /v2/models/completion_stream/generate_stream HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(NUM_STREAMS):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            one.connect(("127.0.0.1", port))
            one.sendall(head.encode() + body)
        yield


@contextmanager
def engine_of(server: RunningServer) -> Iterator[EngineClient]:
    """A connection to the engine behind the server."""
    engine = server.engine()
    try:
        engine.wait_ready(30)
        yield engine
    finally:
        engine.close()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_unread_streams_end_by_themselves_and_harm_nobody(
    server: RunningServer, protocol: str
) -> None:
    before = resident_mb(server.triton_pid)
    unread = unread_grpc if protocol == "grpc" else unread_http
    port = server.grpc_port if protocol == "grpc" else server.http_port
    with engine_of(server) as engine, unread(port):
        wait_until(lambda: engine.stats()["num_running"] == NUM_STREAMS, 10)
        with server.client(retries=0) as client:
            assert client.complete("def g(", max_tokens=4).finish_reason
        wait_until(lambda: engine.stats()["num_running"] == 0, 60)
        assert resident_mb(server.triton_pid) - before < 2.0 * NUM_STREAMS
        assert engine.stats()["num_free_slots"] == engine.stats()["num_slots"]


def outcomes(engine: EngineClient) -> dict[str, float]:
    """Requests by how they ended."""
    samples = engine.stats()["samples"]
    return {dict(labels)["outcome"]: n for name, labels, n in samples if name == "requests_total"}


def test_client_that_freezes_is_noticed_and_its_requests_end(
    demo_repository: Path, tmp_path: Path
) -> None:
    server = start_server(demo_repository, tmp_path / "log", "--", *IMPATIENT)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    words = [sys.executable, __file__, str(server.grpc_port)]
    frozen = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": paths})
    try:
        with engine_of(server) as engine:
            wait_until(lambda: engine.stats()["num_running"] == 4 * NUM_STREAMS, 20)
            frozen.send_signal(signal.SIGSTOP)
            wait_until(lambda: engine.stats()["num_running"] == 0, 30)
            assert outcomes(engine)["cancelled"] == 4 * NUM_STREAMS
    finally:
        frozen.kill()
        frozen.wait()
        server.stop()


if __name__ == "__main__":
    with unread_grpc(int(sys.argv[1]), 4 * NUM_STREAMS):
        time.sleep(600)
