"""Callers that leave, and a gateway that is told to stop: nothing runs on, nothing is cut off."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running import RunningServer, wait_until

from nanotriton.engine.client import EngineClient
from tests.gateway.gateways import RunningGateway, events, running_gateway

LONG = {"max_tokens": 480, "ignore_eos": True, "temperature": 2, "top_k": 50}
# An engine's step and the 50 ms in which the model asks whether a caller is there, many times over.
SOON_S = 3.0
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def engine(server: RunningServer) -> Iterator[EngineClient]:
    """The engine behind the gateway."""
    engine = server.engine()
    engine.wait_ready(10)
    yield engine
    engine.close()


def is_idle(engine: EngineClient) -> bool:
    """Whether nothing runs."""
    return engine.stats()["num_running"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n": 4},
        {"best_of": 4},
        {"stream": True},
        {"stream": True, "n": 4},
    ],
    ids=["whole", "whole, n", "whole, best_of", "stream", "stream, n"],
)
def test_caller_that_leaves_frees_its_slots(
    gateway: RunningGateway, engine: EngineClient, options: dict[str, int]
) -> None:
    wait_until(lambda: is_idle(engine), 10)
    with gateway.socket() as connection:
        body = json.dumps({"prompt": "def f(", **LONG, **options}).encode()
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_until(lambda: not is_idle(engine), 10)

    wait_until(lambda: is_idle(engine), SOON_S)


def test_hundred_callers_that_leave_at_once_leave_nothing(
    gateway: RunningGateway, engine: EngineClient
) -> None:
    def leave() -> None:
        try:
            with gateway.http() as http:
                http.post("/v1/completions", json={"prompt": "x = ", **LONG}, timeout=0.2)
        except httpx.TimeoutException:
            pass

    threads = [threading.Thread(target=leave) for _ in range(100)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    wait_until(lambda: is_idle(engine), 10)
    assert gateway.complete().status_code == 200
    assert "Traceback" not in gateway.log()


def test_stop_lets_streams_end_and_takes_no_new_work(server: RunningServer, tmp_path: Path) -> None:
    with running_gateway(server, tmp_path, "--open", "--drain-delay-s", "1") as gateway:
        with gateway.http() as http:
            body = {"prompt": "def f(", "stream": True, **LONG, "max_tokens": 300}
            with http.stream("POST", "/v1/completions", json=body) as response:
                parts = response.iter_text()
                text = next(parts)
                gateway.terminate()
                wait_until(lambda: "stopping: 1 requests" in gateway.log(), 5)

                refused = gateway.complete()
                with gateway.http() as other:
                    ready, live = other.get("/health/ready"), other.get("/health/live")
                text += "".join(parts)
        exit_code = gateway.process.wait(30)

    assert (refused.status_code, ready.status_code, live.status_code) == (503, 503, 200)
    assert int(refused.headers["retry-after"]) >= 1
    assert text.endswith("data: [DONE]\n\n")
    assert '"finish_reason": "length"' in text
    assert exit_code == 0
    assert "Traceback" not in gateway.log()


def test_second_signal_ends_it_at_once(server: RunningServer, tmp_path: Path) -> None:
    with running_gateway(server, tmp_path, "--open", "--drain-delay-s", "60") as gateway:
        gateway.terminate()
        wait_until(lambda: "stopping" in gateway.log(), 5)
        gateway.terminate()
        assert gateway.process.wait(10) == 0


def test_requests_on_one_connection_are_answered_in_turn(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        for stream in (True, False, True):
            body = {"prompt": "def f(", "max_tokens": 4, "stream": stream}
            response = http.post("/v1/completions", json=body)
            assert response.status_code == 200
            assert not stream or events(response)[-1] == "[DONE]"


def test_ready_asks_once_for_many(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        told = [http.get("/health/ready") for _ in range(50)]
    assert {one.status_code for one in told} == {200}
    assert told[0].json() == {"status": "ready", "backends": {"stable": "ready"}}
