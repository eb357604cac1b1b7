"""What stands behind the gateway dies in mid-traffic and comes back: callers are told, once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from postgres import Postgres
from running import RunningServer, wait_until

from tests.gateway.gateways import error_of, events
from tests.gateway.keyed import LONG, KeyedGateway, keyed_gateway
from tests.gateway.redis_server import running_redis
from tests.gateway.traffic import traffic


def breaker_of(door: KeyedGateway) -> str:
    """The state that /stats and /metrics tell; they agree."""
    with door.running.http() as http:
        state = str(http.get("/stats").json()["breakers"]["stable"])
        page = http.get("/metrics").text
    assert state in {"closed", "open", "half-open"}
    assert "breaker_state" in page
    return state


def is_ready(door: KeyedGateway) -> bool:
    """What a load balancer sees."""
    with door.running.http() as http:
        return http.get("/health/ready").status_code == 200


def test_redis_that_dies_and_returns_costs_no_request(
    server: RunningServer, tmp_path: Path
) -> None:
    with (
        running_redis(tmp_path) as redis,
        keyed_gateway(server, tmp_path, "--redis", redis.url) as door,
        traffic(door, door.key(requests_per_minute=100_000)) as seen,
    ):
        seen.wait(4)
        redis.kill()
        wait_until(lambda: "redis_down" in door.running.log(), 10)
        away = len(seen.answers)
        seen.wait(8)
        limited = door.key(requests_per_minute=2)
        counted = [door.complete(limited).status_code for _ in range(4)]
        redis.start()
        wait_until(lambda: "redis_up" in door.running.log(), 15)
        seen.wait(4)

    assert seen.statuses().keys() == {200}
    assert not seen.errors
    assert counted == [200, 200, 429, 429]  # each gateway counts for itself meanwhile
    assert all("x-ratelimit-remaining-requests" in one.headers for one in seen.answers[away:])
    assert "Traceback" not in door.running.log()


def test_database_that_dies_and_returns_loses_and_doubles_nothing(
    server: RunningServer, tmp_path: Path, fragile_postgres: Postgres
) -> None:
    url = fragile_postgres.new_url()
    with keyed_gateway(server, tmp_path, database=url) as door:
        stranger, key, admin = door.key(), door.key(), door.key("admin")
        assert door.complete(admin).status_code == 200
        with traffic(door, key) as seen:
            seen.wait(6)
            fragile_postgres.kill()
            seen.wait(12)
            unknown = door.complete(stranger)
            with door.http(admin) as http:
                document = http.get("/admin/routes").json()
                change = http.put("/admin/routes", json=document)
                told = http.post(
                    "/v1/events", json={"events": [{"id": seen.ids()[0], "kind": "shown"}]}
                )
            fragile_postgres.restart()
            seen.wait(6)
        wait_until(lambda: len(door.rows(key_prefix=key[:11])) >= len(seen.ids()), 20)
        booked = sorted(row.id for row in door.rows(key_prefix=key[:11]))
        wait_until(lambda: door.complete(stranger).status_code == 200, 10)

    assert seen.statuses().keys() == {200}
    assert not seen.errors
    assert booked == seen.ids()
    for refused in (unknown, change, told):
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "database" in error_of(refused)["message"]
    assert "Traceback" not in door.running.log()


@pytest.fixture(scope="module")
def frail(
    fragile_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedGateway]:
    """A gateway whose Triton the tests may kill."""
    with keyed_gateway(fragile_server, tmp_path_factory.mktemp("frail")) as door:
        yield door


def test_triton_that_dies_and_returns_opens_and_closes_the_breaker(
    frail: KeyedGateway, fragile_server: RunningServer
) -> None:
    with traffic(frail, frail.key(), callers=4) as seen:
        seen.wait(8)
        assert breaker_of(frail) == "closed"
        assert is_ready(frail)
        os.kill(fragile_server.triton_pid, signal.SIGKILL)
        wait_until(lambda: breaker_of(frail) == "open", 30)
        wait_until(lambda: not is_ready(frail), 10)
        wait_until(lambda: breaker_of(frail) == "closed", 90)  # by itself, once Triton is back
        wait_until(lambda: is_ready(frail), 10)
        again = len(seen.answers)
        seen.wait(8)

    refused = [one for one in seen.answers if one.status_code != 200]
    assert {one.status_code for one in refused} == {503}
    assert {error_of(one)["type"] for one in refused} == {"service_unavailable"}
    assert "breaker_open" in {error_of(one)["code"] for one in refused}
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert seen.statuses(since=again).keys() == {200}
    assert "Traceback" not in frail.running.log()


def test_engine_that_dies_ends_a_stream_with_an_error(
    frail: KeyedGateway, fragile_server: RunningServer
) -> None:
    wait_until(lambda: frail.complete(frail.key()).status_code == 200, 30)
    key = frail.key()
    body = {"prompt": "def f(", "stream": True, **LONG}
    with frail.http(key) as http, http.stream("POST", "/v1/completions", json=body) as response:
        parts = response.iter_text()
        text = next(parts)
        os.kill(fragile_server.engine_pid, signal.SIGKILL)
        text += "".join(parts)
    *begun, last = events(httpx.Response(200, text=text))
    wait_until(lambda: bool(frail.rows(key_prefix=key[:11])), 10)
    (row,) = frail.rows(key_prefix=key[:11])

    assert begun
    assert last["error"]["type"] == "service_unavailable"
    assert "engine" in last["error"]["message"]
    assert (row.id, row.outcome, row.finished) == (begun[0]["id"], "failed", True)
    wait_until(lambda: frail.complete(key).status_code == 200, 30)
