"""The door end to end: who may come in, how much, and what each is told, by a real gateway."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import jwt
import pytest
from running import RunningServer, wait_until

from gateway.storage.tables import KeyRow
from tests.gateway.gateways import error_of
from tests.gateway.keyed import LONG, SECRET, KeyedGateway, keyed_gateway


@pytest.fixture(scope="module")
def door(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedGateway]:
    """A gateway with keys, tokens and two names for its one Triton."""
    folder = tmp_path_factory.mktemp("door")
    with keyed_gateway(
        server, folder, "--backend", f"canary=127.0.0.1:{server.grpc_port}"
    ) as running:
        yield running


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token that is good unless `claims` say other."""
    now = datetime.now(timezone.utc)
    told = {"sub": "ada", "aud": "nanotriton", "iat": now, "exp": now + timedelta(hours=1)}
    return jwt.encode({**told, **claims}, secret, algorithm)


LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
REFUSED = {
    "none at all": "",
    "no key": "nt_nothing",
    "unknown key": f"nt_{'a' * 8}_{'b' * 43}",
    "SQL": "nt_' OR '1'='1",
    "very long": "nt_" + "a" * 5000,
    "expired token": token(exp=LONG_AGO),
    "token not yet good": token(nbf=datetime(2100, 1, 1, tzinfo=timezone.utc)),
    "other audience": token(aud="somebody else"),
    "other secret": token("another secret that is long enough for it"),
    "alg=none": token("", "none"),
    "alg=HS512": token(SECRET * 2, "HS512"),
    "subject of SQL": token(sub="'; DROP TABLE keys; --\n"),
    "made-up role": token(role="root"),
}


@pytest.mark.parametrize("key", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models", "/v1/events", "/admin/routes"])
def test_stranger_is_turned_away(door: KeyedGateway, key: str, path: str) -> None:
    with door.running.http(headers={"authorization": f"Bearer {key}"} if key else {}) as http:
        method = "GET" if path in ("/v1/models", "/admin/routes") else "POST"
        response = http.request(method, path, json={} if method == "POST" else None)
    assert response.status_code == 401
    assert error_of(response)["type"] == "authentication_error"
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert not key or key not in response.text + door.running.log()


def test_key_and_token_come_in(door: KeyedGateway) -> None:
    key = door.key()
    assert door.complete(key).status_code == 200
    assert door.complete(token()).status_code == 200
    with door.running.http(headers={"x-api-key": key}) as http:
        assert http.get("/v1/models").status_code == 200
    assert key not in door.running.log()


def test_key_that_is_revoked_is_turned_away_within_seconds(door: KeyedGateway) -> None:
    key = door.key()
    assert door.complete(key).status_code == 200
    with door.database.session() as session:
        row = session.query(KeyRow).filter_by(prefix=key[:11]).one()
        row.revoked = datetime.now(timezone.utc)
    wait_until(lambda: door.complete(key).status_code == 401, 7)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/admin/routes"), ("PUT", "/admin/routes"), ("GET", "/admin/audit")],
)
@pytest.mark.parametrize("kind", ["key", "token"])
def test_user_is_no_admin(door: KeyedGateway, method: str, path: str, kind: str) -> None:
    key = door.key() if kind == "key" else token(role="user")
    body = {"version": 0, "backends": [{"name": "mine", "url": "127.0.0.1:1"}]}
    with door.http(key) as http:
        response = http.request(method, path, json=body if method == "PUT" else None)
    assert response.status_code == 403
    assert error_of(response)["type"] == "permission_error"


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        ({"requests_per_minute": 3}, {}),
        ({"tokens_per_minute": 40}, {"max_tokens": 8, "ignore_eos": True, "temperature": 2}),
    ],
    ids=["requests", "tokens"],
)
def test_limit_of_a_minute_is_told_before_and_when_it_is_reached(
    door: KeyedGateway, limits: dict[str, int], body: dict[str, Any]
) -> None:
    key = door.key(**limits)
    ((name, limit),) = limits.items()
    kind = name.split("_")[0]
    answers = [door.complete(key, **body) for _ in range(8)]

    assert answers[0].headers[f"x-ratelimit-limit-{kind}"] == str(limit)
    left = [int(one.headers[f"x-ratelimit-remaining-{kind}"]) for one in answers]
    assert left == sorted(left, reverse=True)
    refused = [one for one in answers if one.status_code == 429]
    assert 3 <= len(refused) <= 6
    assert error_of(refused[0])["type"] == "rate_limit_error"
    assert 1 <= int(refused[0].headers["retry-after"]) <= 120
    assert refused[0].headers[f"x-ratelimit-reset-{kind}"].endswith("s")
    assert door.complete(door.key()).status_code == 200  # another key's limit is its own


def test_budget_warns_and_then_ends(door: KeyedGateway) -> None:
    key = door.key(soft_budget=0.00002, hard_budget=0.00012)
    answers = [door.complete(key, **LONG | {"max_tokens": 200}) for _ in range(5)]
    assert [one.status_code for one in answers[:2]] == [200, 200]
    assert "x-budget-warning" not in answers[0].headers
    assert "spent this month" in answers[1].headers["x-budget-warning"]
    assert answers[-1].status_code == 429
    assert error_of(answers[-1])["type"] == "insufficient_quota"


def test_key_runs_no_more_at_once_than_it_may(door: KeyedGateway) -> None:
    key = door.key(max_concurrent=1)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: door.complete(key, **LONG), range(4))
    assert {one.status_code for one in answers} == {200, 429}


def test_newest_of_twenty_requests_is_answered(door: KeyedGateway, server: RunningServer) -> None:
    key = door.key()
    with ThreadPoolExecutor(20) as pool:
        asked = []
        for _ in range(20):
            asked.append(pool.submit(door.complete, key, session="editor", **LONG))
            time.sleep(0.02)
        answers = [one.result() for one in asked]

    superseded = [one for one in answers if one.status_code == 409]
    assert sorted(one.status_code for one in answers) == [200] + 19 * [409]
    assert {error_of(one)["type"] for one in superseded} == {"superseded"}
    engine = server.engine()
    engine.wait_ready(10)
    wait_until(lambda: engine.stats()["num_running"] == 0, 1)  # its 19 elders left no work
    engine.close()


def test_session_of_another_key_is_another(door: KeyedGateway) -> None:
    keys = [door.key() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda key: door.complete(key, session="editor", **LONG), keys)
    assert [one.status_code for one in answers] == [200, 200, 200]


def test_routes_change_while_it_runs_and_tell_who_did_it(door: KeyedGateway) -> None:
    admin, key = door.key("admin"), door.key()

    def put(**weights: dict[str, float]) -> None:
        with door.http(admin) as http:
            document = http.get("/admin/routes").json()
            backends = [{**one, **weights[one["name"]]} for one in document["backends"]]
            answer = http.put("/admin/routes", json={**document, "backends": backends})
        assert answer.status_code == 200, answer.text

    def served(user: str) -> str:
        answer = door.complete(key, user=user, temperature=1)  # no cache answers for it
        (row,) = wait_for_row(door, answer.json()["id"])
        return str(row.backend)

    put(stable={"weight": 1}, canary={"weight": 0})
    assert {served(f"user {number}") for number in range(6)} == {"stable"}
    put(stable={"weight": 1}, canary={"weight": 1})
    spread = {f"user {number}": served(f"user {number}") for number in range(16)}
    assert set(spread.values()) == {"stable", "canary"}
    assert all(served(user) == spread[user] for user in list(spread)[:4])  # sticky
    put(stable={"weight": 0}, canary={"weight": 1})
    assert {served(user) for user in list(spread)[:6]} == {"canary"}
    put(stable={"weight": 1}, canary={"weight": 0, "shadow": 1})
    assert served("user 0") == "stable"
    wait_until(lambda: door.stats()["shadows"] == {"answered": 1}, 10)

    with door.http(admin) as http:
        newest, *others = http.get("/admin/audit").json()
    assert newest["action"].startswith("routes")
    assert newest["key_prefix"] == admin[:11]
    assert newest["before"] != newest["after"]
    assert len(others) >= 3


def wait_for_row(door: KeyedGateway, request_id: str) -> list[Any]:
    """The ledger's row of a request, once it is in the database."""
    wait_until(lambda: bool(door.rows(id=request_id)), 5)
    return door.rows(id=request_id)
