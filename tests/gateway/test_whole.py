"""The whole gateway with keys: made by its own command, asked with, limited, accounted for."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from running import ROOT, RunningServer

from tests.gateway.gateways import RunningGateway, error_of, running_gateway


def gateway_command(state: Path, *words: str) -> Any:
    """What `python -m gateway WORDS` prints, read as JSON."""
    command = [sys.executable, "-m", "gateway", *words, "--state", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the gateway keeps its keys in."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def closed(server: RunningServer, state: Path) -> Iterator[RunningGateway]:
    """A gateway that asks who is there."""
    with running_gateway(server, state, "--timeout-s", "30") as running:
        yield running


def key_of(state: Path, *words: str) -> str:
    """A new key's text."""
    told = gateway_command(state / "state", "keys", "create", "--name", "test", "--json", *words)
    return str(told["key"])


def test_servers_own_bound_on_requests_at_once_holds_for_keys_without_one(
    server: RunningServer, tmp_path: Path
) -> None:
    with running_gateway(server, tmp_path, "--open", "--max-concurrent", "0") as none:
        response = none.complete()
    assert response.status_code == 429
    assert error_of(response)["code"] == "max_concurrent"


def test_nobody_gets_in_without_a_key(closed: RunningGateway) -> None:
    response = closed.complete()
    assert response.status_code == 401
    assert error_of(response)["type"] == "authentication_error"
    assert "www-authenticate" in response.headers
    with closed.http() as http:
        assert http.get("/v1/models").status_code == 401
        assert http.get("/health/ready").status_code == 200


def test_key_opens_the_door_for_openais_client(closed: RunningGateway, state: Path) -> None:
    with closed.openai(api_key=key_of(state)) as client:
        answer = client.completions.create(model="nanotriton", prompt="def f(", max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_keys_own_limit_is_told_and_held(closed: RunningGateway, state: Path) -> None:
    key = key_of(state, "--requests-per-minute", "2")
    with closed.openai(api_key=key) as client:
        ask = client.completions.with_raw_response.create
        first = ask(model="nanotriton", prompt="def f(", max_tokens=1)
        ask(model="nanotriton", prompt="def f(", max_tokens=1)
        with pytest.raises(openai.RateLimitError) as caught:
            ask(model="nanotriton", prompt="def f(", max_tokens=1)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert int(caught.value.response.headers["retry-after"]) > 0


def test_operators_paths_are_for_admins(closed: RunningGateway, state: Path) -> None:
    for role, status in (("user", 403), ("admin", 200)):
        key = key_of(state, "--role", role)
        told = {"authorization": f"Bearer {key}", "x-forwarded-for": "203.0.113.9"}
        with closed.http(headers=told) as http:
            told = [http.get(path) for path in ("/metrics", "/stats", "/admin/routes")]
        assert {one.status_code for one in told} == {status}


def test_what_was_written_stands_in_the_months_account(
    server: RunningServer, tmp_path: Path
) -> None:
    with (
        running_gateway(server, tmp_path) as gateway,
        gateway.openai(api_key=key_of(tmp_path)) as client,
    ):
        ask = client.completions.create
        usages = [
            ask(model="nanotriton", prompt=f"def f{index}(", max_tokens=5).usage
            for index in range(3)
        ]
    told = gateway_command(tmp_path / "state", "usage", "--format", "json")
    written = sum(one.completion_tokens for one in usages if one)
    assert json.dumps(told).count(f'"completion_tokens": {written}') >= 1, told
