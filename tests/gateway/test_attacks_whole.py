"""Attacks on the whole door with keys: injected texts, stalled callers, other tenants' caches."""

import json
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from metrics_page import page
from running import RunningServer, start_server, wait_until
from sqlalchemy import inspect

from gateway.storage.tables import Table
from tests.gateway.gateways import error_of
from tests.gateway.keyed import LONG, KeyedGateway, bearer, keyed_gateway
from tests.gateway.redis_server import running_redis

NASTY = {
    "SQL": "'; DROP TABLE usage; DELETE FROM keys; --",
    "SQL's or": '" OR 1=1 --',
    "log line": '\n{"level": "info", "event": "forged"}\n',
    "headers": "a\r\nx-forged: 1\r\n\r\n<script>",
    "format": "%s%n{0}{key.hash}${jndi:ldap://x}",
    "escapes": "\x1b[2J\x1b]0;title\x07\u2028\u202e",
}
# Each field that takes a text, in a body that is good but for it.
FIELDS: dict[str, tuple[str, str, Any]] = {
    "prompt": ("POST", "/v1/completions", lambda text: {"prompt": text}),
    "suffix": ("POST", "/v1/completions", lambda text: {"prompt": "a", "suffix": text}),
    "user": ("POST", "/v1/completions", lambda text: {"prompt": "a", "user": text}),
    "session": ("POST", "/v1/completions", lambda text: {"prompt": "a", "session": text}),
    "model": ("POST", "/v1/completions", lambda text: {"prompt": "a", "model": text}),
    "stop": ("POST", "/v1/completions", lambda text: {"prompt": "a", "stop": [text]}),
    "an option's name": ("POST", "/v1/completions", lambda text: {"prompt": "a", text: 1}),
    "short form": ("POST", "/complete", lambda text: {"prompt": text, "user": text}),
    "event id": (
        *("POST", "/v1/events"),
        lambda text: {"events": [{"id": text, "kind": "shown"}]},
    ),
    "event kind": ("POST", "/v1/events", lambda text: {"events": [{"id": "a", "kind": text}]}),
    "infill": ("POST", "/infill", lambda text: {"input_prefix": text, "input_suffix": text}),
    "route's name": (
        *("PUT", "/admin/routes"),
        lambda text: {"version": 0, "backends": [{"name": text, "url": "127.0.0.1:1"}]},
    ),
    "route's address": (
        *("PUT", "/admin/routes"),
        lambda text: {"version": 0, "backends": [{"name": "stable", "url": text}]},
    ),
}
NO_REQUESTS = {
    "deep": b'{"events": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "NaN": b'{"events": NaN, "version": NaN, "backends": NaN, "prompt": NaN}',
    "huge number": b'{"version": 1%s, "backends": []}' % (b"0" * 5000),
    "surrogate": b'{"events": [{"id": "\\ud800", "kind": "shown"}], "prompt": "\\ud800"}',
    "no UTF-8": b'{"prompt": "\xff", "events": [{"id": "\xff"}]}',
    "cut off": b'{"prompt": "a", "events": [{',
    "empty": b"",
}


@pytest.fixture(scope="module")
def door(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedGateway]:
    """A gateway with keys."""
    with keyed_gateway(server, tmp_path_factory.mktemp("attacked")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(door: KeyedGateway) -> str:
    """An admin's key, so that nothing is refused for want of a role."""
    return door.key("admin")


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_text_is_a_text_wherever_it_stands(
    door: KeyedGateway, admin: str, field: tuple[str, str, Any], text: str
) -> None:
    method, path, body = field
    with door.http(admin) as http:
        response = http.request(method, path, json=body(text))
    assert response.status_code in (200, 400, 404)
    assert response.status_code == 200 or error_of(response)
    check_nothing_happened(door, response.headers)


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize(
    "name", ["x-request-id", "traceparent", "tracestate", "user-agent", "x-forwarded-for", "cookie"]
)
def test_header_is_a_text(door: KeyedGateway, admin: str, name: str, text: str) -> None:
    value = text.encode().replace(b"\r", b"").replace(b"\n", b" ")
    head = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %s\r\n"
    with door.running.socket() as connection:
        lines = b"connection: close\r\n%s: %s\r\n\r\n" % (name.encode(), value)
        connection.sendall(head % admin.encode() + lines)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
    check_nothing_happened(door, {})


def check_nothing_happened(door: KeyedGateway, headers: Any) -> None:
    """No header, log line or table is another than before."""
    assert "x-forged" not in headers
    assert {*inspect(door.database.engine).get_table_names()} >= {*Table.metadata.tables}
    lines = [json.loads(line) for line in door.running.log().splitlines()]
    assert "forged" not in {line["event"] for line in lines}
    assert "Traceback" not in door.running.log()


@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS)
@pytest.mark.parametrize(
    "path", ["/complete", "/v1/generate/stream", "/infill", "/v1/events", "/admin/routes"]
)
def test_body_that_is_no_request_is_refused_on_every_path(
    door: KeyedGateway, admin: str, path: str, body: bytes
) -> None:
    method = "PUT" if path.startswith("/admin") else "POST"
    with door.http(admin) as http:
        response = http.request(
            method, path, content=body, headers={"content-type": "application/json"}
        )
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


def test_thousand_half_open_connections_keep_nobody_out(door: KeyedGateway) -> None:
    with ExitStack() as stack:
        for _ in range(1000):
            connection = stack.enter_context(door.running.socket())
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx: ")
        assert door.complete(door.key()).status_code == 200


def test_readers_that_never_read_hurt_nobody_and_end(
    door: KeyedGateway, server: RunningServer
) -> None:
    key, other = door.key(), door.key()
    body = json.dumps({"prompt": "x = ", "stream": True, "n": 4, "logprobs": 5, **LONG}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", door.running.port))
            lines = b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(head + lines % (key.encode(), len(body)) + body)
        wait_until(lambda: door.stats()["queue"]["running"] >= 3, 10)
        with door.http(other) as http:
            stream = http.post(
                "/v1/completions", json={"prompt": "def f(", "stream": True, "max_tokens": 16}
            )
        assert stream.text.endswith("data: [DONE]\n\n")
    wait_until(lambda: door.stats()["active"] == 0, 10)
    wait_until(lambda: len(door.rows(key_prefix=key[:11])) == 3, 5)
    engine = server.engine()
    engine.wait_ready(10)
    assert engine.stats()["num_running"] == 0
    engine.close()


def how(door: KeyedGateway, key: str, prompt: str) -> str | None:
    """Which cache answered, if one did."""
    answer = door.complete(key, prompt=prompt, max_tokens=24, temperature=0)
    assert answer.status_code == 200
    return answer.headers.get("x-nanotriton-cache")


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "redis"])
def test_caches_answer_nobody_with_another_tenants_text(
    server: RunningServer, tmp_path: Path, shared: bool
) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(tmp_path)) if shared else None
        words = ("--redis", redis.url) if redis else ()
        doors = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            doors.append(stack.enter_context(keyed_gateway(server, tmp_path / name, *words)))
        one, two = doors
        prompt = "def mean(values):\n    total = "
        ann = one.key()
        text = one.complete(ann, prompt=prompt, max_tokens=24, temperature=0).json()
        typed = prompt + text["choices"][0]["text"][:3]

        assert [how(one, ann, prompt), how(one, ann, typed)] == ["cached", "typeahead"]
        for other in (one, two):
            assert how(other, other.key(), prompt) is None
            assert how(other, other.key(), typed) is None
        # A team's gateways share what Redis keeps, and what each has in memory they don't.
        ada, eve = one.key(tenant="team"), two.key(tenant="team")
        assert how(one, ada, prompt) is None
        assert how(two, eve, prompt) == ("cached" if shared else None)


def test_engine_is_told_whose_prompt_it_is(demo_repository: Path, tmp_path: Path) -> None:
    repository = Path(shutil.copytree(demo_repository, tmp_path / "repository"))
    config = repository / "gpt" / "config.pbtxt"
    told, changed = re.subn(
        r'("isolate_users" value \{ string_value: )"off"', r'\1"on"', config.read_text()
    )
    assert changed == 1
    config.write_text(told)
    server = start_server(repository, tmp_path / "triton")
    prompt = "\n".join(f"line_{number} = {number}" for number in range(20))

    def hits() -> float:
        found = page(server)
        return sum(value for name, value in found.items() if "prefix_hit_tokens" in name)

    try:
        with keyed_gateway(server, tmp_path, "--cache-bytes", "0") as door:
            ann, ben = door.key(), door.key()
            # The same name of a user, told by two keys, is two people's.
            for key in (ann, ben):
                assert door.complete(key, prompt=prompt, user="ada").status_code == 200
            with pytest.raises(AssertionError, match="nothing after"):
                wait_until(lambda: hits() > 0, 3)
            assert door.complete(ben, prompt=prompt, user="ada").status_code == 200
            wait_until(lambda: hits() > 0, 10)
    finally:
        server.stop()


def test_key_in_the_address_opens_nothing(door: KeyedGateway) -> None:
    key = door.key()
    with door.running.http() as http:
        for name in ("key", "api_key", "access_token"):
            assert http.get("/v1/models", params={name: key}).status_code == 401
        assert http.get("/v1/models", cookies=None, headers=bearer(key)).status_code == 200
    assert key not in door.running.log()
