"""Admins change the routes while gateways run: whole, one at a time, audited, seen by all."""

import asyncio
import threading

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from running import wait_until

from gateway.api.admin import EXAMPLE, router
from gateway.errors import Conflict, Forbidden, GatewayError, Unavailable
from gateway.messages import Caller
from gateway.routing.book import RELOAD_S, RoutesBook
from gateway.routing.document import Backend, Document, document_json
from gateway.routing.routes import Routes
from gateway.storage import Database

ADMIN = Caller("key", "nt_admin", "acme", "admin")
START = Document((Backend("stable", "a:1"),))
OTHER = Document((Backend("stable", "a:1", 9), Backend("canary", "b:1", 1)))


@pytest.fixture
def book(database):
    return RoutesBook(database, Routes(START))


def test_change_is_kept_and_audited(book):
    after = book.change(OTHER, ADMIN)
    (entry,) = book.audit(10)

    assert (after.version, after.backends) == (1, OTHER.backends)
    assert book.newest() == after
    assert (entry["key_prefix"], entry["action"]) == ("nt_admin", "routes.changed")
    assert (entry["before"], entry["after"]) == (document_json(START), document_json(after))


def test_change_to_an_old_version_is_a_conflict(book):
    book.change(OTHER, ADMIN)
    with pytest.raises(Conflict, match="are version 1, this change was made to 0"):
        book.change(OTHER, ADMIN)

    assert len(book.audit(10)) == 1


def test_of_changes_at_the_same_moment_one_is_kept(book):
    outcomes: list[str] = []

    def change() -> None:
        try:
            book.change(OTHER, ADMIN)
            outcomes.append("kept")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=change) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(outcomes) == ["conflict"] * 7 + ["kept"]
    assert len(book.audit(10)) == 1


def test_audit_is_read_on_from_an_entry(book):
    document = START
    for _ in range(5):
        document = book.change(document, ADMIN)
    first = book.audit(2)

    versions = [one["after"]["version"] for one in first + book.audit(9, first[-1]["id"])]
    assert versions == [5, 4, 3, 2, 1]


def test_other_gateway_follows(book, database):
    other = RoutesBook(database, Routes(START))

    async def scenario() -> None:
        watching = asyncio.create_task(other.watch())
        await asyncio.to_thread(book.change, OTHER, ADMIN)
        seen = lambda: len(other.routes.backends()) == 2  # noqa: E731
        await asyncio.to_thread(wait_until, seen, RELOAD_S + 10)
        watching.cancel()

    asyncio.run(scenario())


def test_routes_stay_while_the_database_is_gone(fragile_postgres):
    database = Database(fragile_postgres.new_url())
    database.upgrade()
    book = RoutesBook(database, Routes(START))
    book.follow(book.change(OTHER, ADMIN))
    fragile_postgres.kill()

    with pytest.raises(Unavailable):
        asyncio.run(book.reload())
    with pytest.raises(Unavailable):
        book.change(book.routes.document, ADMIN)
    assert book.routes.document.backends == OTHER.backends
    database.close()


@pytest.fixture
def client(book):
    app = FastAPI()

    def require_admin(request: Request) -> Caller:
        if request.headers.get("authorization") != "Bearer admin":
            raise Forbidden("the key's role is user: use an admin's")
        return ADMIN

    async def refuse(_: Request, error: GatewayError) -> JSONResponse:
        return JSONResponse(error.body(), error.status)

    app.include_router(router(require_admin, book))
    app.add_exception_handler(GatewayError, refuse)
    with TestClient(app, headers={"authorization": "Bearer admin"}) as one:
        yield one


def test_admin_changes_the_routes_over_http(client, book):
    document = {**EXAMPLE, "version": client.get("/admin/routes").json()["version"]}
    answer = client.put("/admin/routes", json=document)
    (entry,) = client.get("/admin/audit", params={"limit": 5}).json()

    assert answer.status_code == 200
    assert client.get("/admin/routes").json() == answer.json() == entry["after"]
    assert [one.name for one in book.routes.backends()] == ["stable", "canary", "trial"]
    assert client.put("/admin/routes", json=document).status_code == 409


@pytest.mark.parametrize(
    "fault",
    [{"backends": []}, {"extra": 1}, {"backends": [{"name": "a", "url": "file:///etc"}]}],
    ids=str,
)
def test_faulty_document_changes_nothing(client, book, fault):
    answer = client.put("/admin/routes", json={**EXAMPLE, "version": 0, **fault})

    assert 400 <= answer.status_code < 500
    assert book.routes.document == book.newest() == START


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/admin/routes"), ("PUT", "/admin/routes"), ("GET", "/admin/audit")],
)
def test_users_are_no_admins(client, book, method, path):
    answer = client.request(
        method, path, json={**EXAMPLE, "version": 0}, headers={"authorization": "Bearer user"}
    )

    assert answer.status_code == 403
    assert book.newest() == START
