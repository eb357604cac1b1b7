"""Clients that open, send and read as slowly as they can, against a real uvicorn."""

import asyncio
import json
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress

import pytest
import uvicorn
from running import wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from gateway.connections import ConnectionLimits, Connections
from gateway.http_protocol import protocol_of

PATIENT = 60.0
QUICK = b"GET /quick HTTP/1.1\r\nhost: x\r\n\r\n"


class App:
    """Routes that read and write; it counts the streams that go on."""

    def __init__(self) -> None:
        self.streams = 0
        routes = [
            Route("/quick", self.quick),
            Route("/read", self.read, methods=["POST"]),
            Route("/refuse", self.quick, methods=["POST"]),
            Route("/endless", self.endless),
        ]
        self.asgi = Starlette(routes=routes)

    async def quick(self, _request: Request) -> PlainTextResponse:
        return PlainTextResponse("quick")

    async def read(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def endless(self, _request: Request) -> StreamingResponse:
        async def texts():
            self.streams += 1
            try:
                while True:
                    yield b"x" * 16384
                    await asyncio.sleep(0)
            finally:
                self.streams -= 1

        return StreamingResponse(texts())


class Door:
    """A running server and its connections."""

    def __init__(self, loop: str, **limits: float) -> None:
        self.connections = Connections(ConnectionLimits(**limits))
        self.app = App()
        self._config = uvicorn.Config(
            self.app.asgi,
            port=0,
            loop=loop,
            ws="none",
            http=protocol_of(self.connections),
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(self._config)
        self._thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> "Door":
        self._thread.start()
        wait_until(lambda: self.server.started, 20)
        self.address = self.server.servers[0].sockets[0].getsockname()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def connect(self, data: bytes = b"", timeout_s: float = 20.0) -> socket.socket:
        one = socket.create_connection(self.address, timeout_s)
        one.sendall(data)
        return one

    def ended(self, reason: str) -> int:
        return self.connections.traffic.ended.get(reason, 0)


def read_until(one: socket.socket, end: bytes) -> None:
    """Read what comes until it ends so; a server that ends it earlier fails the test."""
    text = b""
    while not text.endswith(end):
        part = one.recv(65536)
        assert part, text
        text += part


def answer(one: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    try:
        while part := one.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def serves(door: Door) -> bool:
    with door.connect(QUICK) as one:
        return one.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_thousand_half_open_connections_leave_the_door_open(loop):
    limits = {"max_connections": 300, "header_timeout_s": PATIENT}
    with Door(loop, **limits) as door, ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(door.connect(b"POST /read HTTP/1.1\r\nho"))
        assert serves(door)
        assert door.connections.traffic.open <= 300
        assert door.ended("evicted") >= 700


def test_thousand_silent_connections_are_gone_after_the_header_timeout(loop):
    with Door(loop, max_connections=2000, header_timeout_s=2) as door, ExitStack() as stack:
        silent = [stack.enter_context(door.connect()) for _ in range(1000)]
        assert {answer(one) for one in silent} == {b""}
        assert door.ended("slow_headers") == 1000
        assert door.connections.traffic.open == 0


@pytest.mark.parametrize(
    "start",
    [b"GET /quick HTTP/1.1\r\n", QUICK + b"GET /quick HTTP/1.1\r\n", b"\r\n"],
    ids=["first request", "second request", "empty lines"],
)
def test_headers_that_trickle_in_end_with_408(loop, start):
    with Door(loop, header_timeout_s=1) as door, door.connect(start) as one:
        trickle(one, b"x-a: b\r\n" if start.endswith(b"1\r\n") else b"\r\n")
        last = b"HTTP" + answer(one).split(b"HTTP")[-1]
    assert last.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(last.split(b"\r\n\r\n")[1])["error"]["type"] == "invalid_request_error"
    assert door.ended("slow_headers") == 1


def trickle(one: socket.socket, data: bytes) -> None:
    """Send again and again until the server has had enough."""
    started = time.monotonic()
    with suppress(OSError):
        while time.monotonic() - started < PATIENT:
            one.sendall(data)
            time.sleep(0.05)
            if select.select([one], [], [], 0)[0] and b" 408 " in one.recv(65536, socket.MSG_PEEK):
                return


def send_headers_without_end(one: socket.socket) -> None:
    while True:
        one.sendall(b"x-a: " + b"a" * 8192)


def test_headers_without_end_are_cut_off(loop):
    with Door(loop, header_timeout_s=PATIENT) as door, door.connect(b"GET / HTTP/1.1\r\n") as one:
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_headers_without_end(one)
        assert door.ended("large_headers") == 1
        assert serves(door)


def test_body_that_trickles_in_ends_with_408(loop):
    head = b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    with Door(loop, body_timeout_s=1) as door, door.connect(head) as one:
        trickle(one, b"x")
        assert answer(one).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert door.ended("slow_body") == 1


def test_body_that_goes_on_after_its_refusal_is_cut_off(loop):
    head = b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    with Door(loop, body_timeout_s=1) as door, door.connect(head) as one:
        assert b" 200 " in one.recv(65536)
        answer(one)
        assert door.ended("slow_body") == 1


def test_reader_that_stops_reading_ends_the_stream(loop):
    with Door(loop, write_timeout_s=1) as door:
        with door.connect(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n") as one:
            wait_until(lambda: door.app.streams == 1, 20)
            wait_until(lambda: door.app.streams == 0, 20)
            assert door.ended("slow_reader") == 1
            assert not answer(one).endswith(b"0\r\n\r\n")  # the client knows that it isn't whole
        assert serves(door)


def test_reader_that_reads_on_keeps_the_stream(loop):
    with Door(loop, write_timeout_s=1, body_timeout_s=1, header_timeout_s=1) as door:
        with door.connect(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n") as one:
            started = time.monotonic()
            while time.monotonic() - started < 3:
                assert one.recv(65536)
        wait_until(lambda: door.app.streams == 0, 20)
        assert door.connections.traffic.ended == {}


def test_reader_gone_ends_the_stream(loop):
    with Door(loop) as door:
        with door.connect(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n"):
            wait_until(lambda: door.app.streams == 1, 20)
        wait_until(lambda: door.app.streams == 0, 20)
        wait_until(lambda: door.connections.traffic.open == 0, 20)


def test_connections_at_work_are_not_evicted_and_one_more_is_told_to_come_back(loop):
    with Door(loop, max_connections=2) as door, ExitStack() as stack:
        for _ in range(2):
            one = door.connect(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
            stack.enter_context(one)
        wait_until(lambda: door.app.streams == 2, 20)
        refused = answer(stack.enter_context(door.connect()))
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1\r\n" in refused
        assert door.app.streams == 2


def test_connection_whose_answer_is_whole_makes_room(loop):
    with Door(loop, max_connections=1) as door, door.connect(QUICK) as idle:
        read_until(idle, b"quick")
        assert serves(door)
        assert door.ended("evicted") == 1


def test_address_with_too_many_connections_loses_its_own(loop):
    with Door(loop, max_per_address=3) as door, ExitStack() as stack:
        ours = [stack.enter_context(door.connect()) for _ in range(3)]
        other = stack.enter_context(socket.socket())
        other.bind(("127.0.0.2", 0))
        other.connect(door.address)
        stack.enter_context(door.connect())
        assert answer(ours[0]) == b""
        other.sendall(QUICK)
        assert other.recv(4096).startswith(b"HTTP/1.1 200")
        assert door.ended("evicted") == 1


def test_requests_that_follow_each_other_on_one_connection_are_served(loop):
    with Door(loop, header_timeout_s=1, body_timeout_s=1, write_timeout_s=1) as door:
        with door.connect(QUICK * 2) as one:
            wait_until(lambda: one.recv(65536, socket.MSG_PEEK).count(b"quick") == 2, 20)
            read_until(one, b"quick")
            for _ in range(2):  # longer than each of the timeouts, and shorter than keep-alive
                time.sleep(1.5)
                one.sendall(QUICK)
                read_until(one, b"quick")
        assert door.connections.traffic.ended == {}


def test_who_came_before_the_door_closed_is_heard(loop):
    with Door(loop) as door, door.connect() as early, door.connect(QUICK) as idle:
        read_until(idle, b"quick")
        door.server.should_exit = True
        assert answer(idle) == b""  # it had its answer: the door is closed, and it goes
        early.sendall(QUICK)
        assert answer(early).endswith(b"quick")


@pytest.mark.parametrize(
    ("hard", "told"),
    [(2000, "1128 of 2000"), (1000, "need 1128 open files, the process may have 1000")],
    ids=["it may", "it may not"],
)
def test_process_gets_a_file_for_each_connection(hard, told):
    code = (
        "import resource\n"
        "from gateway.connections import *\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (512, {hard}))\n"
        "allow_files(ConnectionLimits(max_connections=1000))\n"
        "print('%d of %d' % resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told in run.stdout + run.stderr
