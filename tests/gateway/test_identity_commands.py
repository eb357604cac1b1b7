"""`keys` and `token` as an operator types them, on both databases."""

import argparse
import asyncio
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from gateway.errors import ConfigError, InvalidRequest, NotFound, Unauthorized
from gateway.identity import Guard, JwtConfig
from gateway.identity.command import add_command
from gateway.identity.minting import SECRET_VARIABLE
from gateway.messages import Caller
from gateway.storage import Database
from gateway.storage.options import DATABASE_VARIABLE, STATE_VARIABLE

SECRET = "0123456789abcdef" * 4


def run(*words: str) -> int:
    """What `python -m gateway` does with the words."""
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers(required=True))
    arguments = parser.parse_args(words)
    status: int = arguments.run(arguments)
    return status


def test_environment_says_where_state_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)

    assert run("keys", "list") == 0
    assert (tmp_path / "state" / "gateway.sqlite").exists()


@pytest.fixture
def run_keys(database_url: str, capsys: pytest.CaptureFixture[str]):
    """`keys WORDS` on the test's database; what it prints."""

    def call(*words: str) -> str:
        assert run("keys", *words, "--database", database_url) == 0
        return capsys.readouterr().out.strip()

    return call


def ask(database_url: str, text: str, jwt: JwtConfig | None = None) -> Caller:
    database = Database(database_url)

    async def call() -> Caller:
        guard = Guard(database, jwt)
        try:
            return await guard.caller({"Authorization": f"Bearer {text}"})
        finally:
            await guard.close()

    try:
        return asyncio.run(call())
    finally:
        database.close()


def test_created_key_opens_the_door_until_it_is_revoked(run_keys, database_url: str) -> None:
    key = run_keys("create", "--name", "Ada", "--role", "admin", "--max-concurrent", "2")
    caller = ask(database_url, key)
    assert (caller.role, caller.limits.max_concurrent) == ("admin", 2)

    assert "revoked" in run_keys("revoke", caller.prefix)

    with pytest.raises(Unauthorized, match="revoked"):
        ask(database_url, key)


def test_rotated_key_and_the_old_one_both_work(run_keys, database_url: str) -> None:
    old = run_keys("create", "--name", "Ada")
    made = json.loads(run_keys("rotate", old[:11], "--grace", "7d", "--json"))

    assert made["key"] != old
    assert ask(database_url, old).key_id == ask(database_url, made["key"]).key_id


def test_list_shows_keys_without_their_secrets(run_keys) -> None:
    name = "[red]Ada[/red] O'Neil; DROP TABLE keys"
    key = run_keys("create", "--name", name, "--expires-in", "90d")

    table = run_keys("list")
    [row] = json.loads(run_keys("list", "--json"))

    assert key[:11] in table
    assert name in table
    assert "good until" in table
    assert row["name"] == name
    assert datetime.fromisoformat(row["expires"]) > datetime.now(timezone.utc)
    assert key[12:] not in table + json.dumps(row)
    assert "hash" not in row


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (["revoke", "nt_00000000"], NotFound, "keys list"),
        (["revoke", "' OR 1=1 --"], NotFound, "no key"),
        (["rotate", "nt_00000000"], NotFound, "keys list"),
        (["create", "--name", ""], InvalidRequest, "the name"),
        (["create", "--name", "a\x1b[2J"], InvalidRequest, "the name"),
        (["create", "--name", "a" * 101], InvalidRequest, "the name"),
        (["create", "--name", "a", "--tenant", "jwt:ada"], InvalidRequest, "the tenant"),
        (["create", "--name", "a", "--max-concurrent", "-1"], InvalidRequest, "max_concurrent"),
        (["create", "--name", "a", "--hard-budget", "nan"], InvalidRequest, "hard_budget"),
    ],
)
def test_what_can_not_be_done_is_told(run_keys, words, kind, told: str) -> None:
    with pytest.raises(kind, match=told):
        run_keys(*words)
    assert run_keys("list", "--json") == "[]"


def test_revoked_key_is_not_rotated(run_keys) -> None:
    key = run_keys("create", "--name", "Ada")
    run_keys("revoke", key[:11])

    with pytest.raises(InvalidRequest, match="no longer good"):
        run_keys("rotate", key[:11])


@pytest.mark.parametrize("text", ["", "7", "7w", "1e3d", "99999d", "٧d"])
def test_time_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("keys", "create", "--name", "a", "--expires-in", text)
    assert "give one such as 90s" in capsys.readouterr().err


def test_state_folder_and_environment_say_where_the_database_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, "")
    assert run("keys", "list", "--state", str(tmp_path / "state")) == 0
    monkeypatch.setenv(DATABASE_VARIABLE, f"sqlite:///{tmp_path}/other.sqlite")
    assert run("keys", "list") == 0

    assert (tmp_path / "state" / "gateway.sqlite").exists()
    assert (tmp_path / "other.sqlite").exists()


def test_token_opens_the_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    words = ["token", "--subject", "ada", "--role", "admin", "--ttl", "8h"]
    assert run(*words, "--secret-file", str(tmp_path / "secret")) == 0

    caller = ask(
        database_url, capsys.readouterr().out.strip(), JwtConfig("nanotriton", secret=SECRET)
    )

    assert (caller.key_id, caller.role) == ("jwt:ada", "admin")


@pytest.mark.parametrize(
    ("words", "secret", "told"),
    [
        ([], "", "nothing signs"),
        ([], "short", "5 bytes"),
        (["--secret-file", "/nowhere"], "", "can't be read"),
        (["--private-key-file", "/nowhere"], "", "needs --key-id"),
        (["--private-key-file", "/nowhere", "--key-id", "one"], "", "can't be read"),
        (["--private-key-file", "/dev/null", "--key-id", "one"], "", "can't sign"),
        (["--private-key-file", "a", "--secret-file", "b"], "", "one signature"),
        (["--ttl", "31d"], SECRET, "up to 30d"),
        (["--tenant", "a b"], SECRET, "a tenant"),
    ],
)
def test_token_that_can_not_be_made_is_told(
    words: list[str], secret: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, secret)
    with pytest.raises(ConfigError, match=told):
        run("token", "--subject", "ada", *words)
