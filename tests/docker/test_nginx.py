"""docker/nginx/nginx.conf on a real nginx: TLS, limits, streams, and gateways that go."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from running import RunningServer, free_ports

from tests.docker.proxies import RunningProxy, running_proxy
from tests.gateway.gateways import RunningGateway, error_of, events, running_gateway
from tests.gateway.keyed import LONG

BODY = {"prompt": "def f(", "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def gateway(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """An open gateway, the one that stays."""
    with running_gateway(server, tmp_path_factory.mktemp("gateway"), "--open") as running:
        yield running


@pytest.fixture(scope="module")
def proxy(
    gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """In front of it."""
    with running_proxy(tmp_path_factory.mktemp("nginx"), gateway.port) as running:
        yield running


def test_completion_comes_over_tls(proxy: RunningProxy) -> None:
    with proxy.http() as http:
        answer = http.post("/v1/completions", json=BODY)

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["text"]


def test_plain_http_is_sent_to_tls(proxy: RunningProxy) -> None:
    answer = httpx.get(f"http://127.0.0.1:{proxy.plain_port}/v1/models?x=1", trust_env=False)

    assert answer.status_code == 308
    assert answer.headers["location"] == "https://127.0.0.1/v1/models?x=1"


def test_large_body_is_refused_by_the_proxy_in_words_of_the_api(proxy: RunningProxy) -> None:
    with proxy.http() as http:
        answer = http.post("/v1/completions", content=b"x" * (1 << 20) + b"x")

    assert answer.status_code == 413
    assert error_of(answer)["code"] == "body_too_large"
    assert "x-request-id" not in answer.headers  # which a gateway gives


def test_stream_is_passed_on_while_it_is_written(
    proxy: RunningProxy, gateway: RunningGateway
) -> None:
    body = {"prompt": "def f(", **LONG, "stream": True}
    with gateway.http() as direct, proxy.http() as http:
        assert direct.get("/stats").json()["active"] == 0  # and the connections are there
        assert http.get("/health/live").status_code == 200
        with http.stream("POST", "/v1/completions", json=body) as answer:
            first = next(answer.iter_raw())
            active = direct.get("/stats").json()["active"]

    assert first.startswith(b"data: ")
    assert active == 1


def test_figures_are_not_for_the_world(proxy: RunningProxy) -> None:
    with proxy.http() as http:
        assert http.get("/metrics").status_code == 403  # an open door's user is no admin


def test_flood_of_one_address_is_told_429_and_others_are_served(proxy: RunningProxy) -> None:
    with proxy.http(address="127.0.0.2") as flood, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: flood.get("/health/live"), range(400)))
    with proxy.http() as other:
        assert other.get("/health/live").status_code == 200

    refused = [one for one in answers if one.status_code != 200]
    assert {one.status_code for one in refused} == {429}
    assert error_of(refused[0])["code"] == "address_limit"
    assert refused[0].headers["retry-after"] == "1"


def test_chunked_body_comes_whole_and_addresses_are_not_believed(tmp_path: Path) -> None:
    said = {"x-forwarded-for": "10.9.9.9", "forwarded": "for=x"}
    with (
        Recorder() as recorder,
        running_proxy(tmp_path, recorder.port) as proxy,
        proxy.http(headers=said) as http,
    ):
        http.post("/", content=iter([b"one", b"two"]))

    head, body = recorder.seen.lower().split(b"\r\n\r\n")
    assert body == b"onetwo"
    assert b"content-length: 6" in head
    assert b"x-forwarded-for: 127.0.0.1\r\n" in head
    assert b"transfer-encoding" not in head
    assert b"\r\nforwarded" not in head


def test_without_any_gateway_the_answer_is_503_to_be_tried_again(tmp_path: Path) -> None:
    with running_proxy(tmp_path, *free_ports(2)) as proxy, proxy.http() as http:
        answers = [http.post("/v1/completions", json=BODY) for _ in range(3)]

    assert {one.status_code for one in answers} == {503}
    assert {error_of(one)["code"] for one in answers} == {"no_gateway"}
    assert answers[0].headers["retry-after"] == "1"


def test_log_tells_requests_and_no_query(proxy: RunningProxy) -> None:
    with proxy.http() as http:
        request_id = http.get("/health/live?key=nt_secret").headers["x-request-id"]
    told = [json.loads(line) for line in proxy.log().splitlines() if line.startswith("{")]

    (line,) = [one for one in told if one["request_id"] == request_id]
    assert (line["path"], line["status"]) == ("/health/live", 200)
    assert "nt_secret" not in proxy.log()


def test_killed_gateway_costs_no_request_that_had_no_answer(
    server: RunningServer, gateway: RunningGateway, tmp_path: Path
) -> None:
    body = {**BODY, "max_tokens": 60, "ignore_eos": True}
    with (
        running_gateway(server, tmp_path, "--open") as killed,
        running_proxy(tmp_path, killed.port, gateway.port) as proxy,
        proxy.http() as http,
        ThreadPoolExecutor(8) as threads,
    ):
        answers = [threads.submit(http.post, "/v1/completions", json=body) for _ in range(32)]
        answers[0].result()
        killed.process.kill()

        assert {one.result().status_code for one in answers} == {200}


def test_stopping_gateway_lets_its_streams_end_and_the_other_takes_what_is_new(
    server: RunningServer, gateway: RunningGateway, tmp_path: Path
) -> None:
    body = {**BODY, "max_tokens": 200, "ignore_eos": True, "stream": True}
    with (
        running_gateway(server, tmp_path, "--open", "--drain-delay-s", "2") as stopped,
        running_proxy(tmp_path, stopped.port, gateway.port) as proxy,
        proxy.http() as http,
        ExitStack() as stack,
    ):
        streams = [
            stack.enter_context(http.stream("POST", "/v1/completions", json=body)) for _ in range(4)
        ]
        stopped.terminate()
        answers = [http.post("/v1/completions", json=BODY) for _ in range(8)]
        ends = [events(one)[-1] for one in streams if one.read()]

    assert ends == ["[DONE]"] * 4
    assert {one.status_code for one in answers} == {200}


class Recorder:
    """Listens, keeps the one request that comes, and answers it with nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.port: int = self._socket.getsockname()[1]
        self.seen = b""

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._socket.close()

    def _serve(self) -> None:
        self._socket.settimeout(20)
        connection, _ = self._socket.accept()
        with connection:
            while not self.seen.endswith(b"onetwo"):
                self.seen += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
