"""Who is let in by key, on both databases: good and bad keys, open doors, admins."""

import hmac
import secrets
import sys
from collections.abc import Callable
from datetime import timedelta
from types import FrameType

import pytest
from sqlalchemy import text

from gateway.errors import ConfigError, Forbidden, Unauthorized
from gateway.identity import Guard, JwtConfig, require_admin
from gateway.identity.keys import find_key, revoke_key, rotate_key
from gateway.identity.known_keys import KEY_TTL_S
from gateway.messages import Caller, KeyLimits
from gateway.storage import Database
from tests.gateway.guarding import NOW, Hands, bearer, make, refusal

SQL = ["' OR 1=1 --", "'; DROP TABLE keys; --", '" OR ""="', "%", "nt_________"]


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_key_tells_its_caller(database: Database, hands: Hands) -> None:
    limits = KeyLimits(requests_per_minute=5, max_concurrent=2, hard_budget=2.5)
    made = make(database, role="admin", tenant="acme", limits=limits)

    caller = hands.run(hands.guard(database).caller(bearer(made.text)))

    assert caller == Caller(made.key.id, made.key.prefix, "acme", "admin", limits)


def test_keys_without_a_tenant_share_none(database: Database) -> None:
    assert make(database).key.tenant != make(database).key.tenant


def test_database_never_holds_the_key(database: Database) -> None:
    made = make(database)
    secret = made.text.removeprefix(made.key.prefix)

    with database.session(read_only=True) as session:
        kept = session.execute(text("SELECT * FROM keys")).all()
        kept += session.execute(text("SELECT * FROM audit")).all()
    assert secret not in repr(kept)
    assert secret not in repr(made)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"), "not known"),
        (lambda key: key[:12] + secrets.token_urlsafe(32), "not known"),
        (lambda key: "nt_00000000" + key[11:], "not known"),
        (lambda key: key[:-1], "neither"),
        (lambda key: key + "A", "neither"),
    ],
    ids=["last letter", "other secret", "other prefix", "cut", "longer"],
)
def test_key_that_is_not_whole_is_refused(
    database: Database, hands: Hands, spoil: Callable[[str], str], told: str
) -> None:
    key = spoil(make(database).text)

    refused = hands.run(refusal(hands.guard(database), key))

    assert told in refused.message
    assert key not in refused.message


def test_unknown_and_wrong_keys_are_refused_in_the_same_words(
    database: Database, hands: Hands
) -> None:
    made = make(database)
    wrong = f"{made.key.prefix}_{secrets.token_urlsafe(32)}"
    unknown = f"nt_00000000_{secrets.token_urlsafe(32)}"

    async def both() -> list[dict[str, object]]:
        guard = hands.guard(database)
        return [(await refusal(guard, key)).body() for key in (wrong, unknown)]

    first, second = hands.run(both())
    assert first == second


def count_comparisons(hands: Hands, guard: Guard, key: str) -> int:
    """How often a check calls the comparison in constant time, seen by the interpreter."""
    calls: list[object] = []

    def watch(_frame: FrameType, what: str, called: object) -> None:
        if what == "c_call" and called is hmac.compare_digest:
            calls.append(called)

    async def check() -> None:
        sys.setprofile(watch)
        try:
            await guard.caller(bearer(key))
        except Unauthorized:
            pass
        finally:
            sys.setprofile(None)

    hands.run(check())
    return len(calls)


def test_known_wrong_and_unknown_keys_take_the_same_one_comparison(
    database: Database, hands: Hands
) -> None:
    made = make(database)
    wrong = f"{made.key.prefix}_{secrets.token_urlsafe(32)}"
    unknown = f"nt_00000000_{secrets.token_urlsafe(32)}"

    for key in (made.text, wrong, unknown):
        assert count_comparisons(hands, hands.guard(database), key) == 1


def test_expired_key_is_refused_from_its_second_on(database: Database, hands: Hands) -> None:
    made = make(database, expires=NOW + timedelta(seconds=2))

    async def ask() -> str:
        guard = hands.guard(database)
        hands.now += timedelta(seconds=1)
        assert await guard.caller(bearer(made.text))
        hands.now += timedelta(seconds=1)
        return (await refusal(guard, made.text)).message

    assert "expired at 2026-11-21 18:30 UTC" in hands.run(ask())


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(), timedelta(days=400)])
def test_revoked_key_is_refused_in_time_whatever_the_clock_says(
    database: Database, hands: Hands, jump: timedelta
) -> None:
    made = make(database)

    async def ask() -> str:
        guard = hands.guard(database)
        assert await guard.caller(bearer(made.text))
        with database.session() as session:
            revoke_key(session, made.key.prefix, now=NOW)
        hands.now += jump
        hands.passed_s += KEY_TTL_S
        return (await refusal(guard, made.text)).message

    assert "was revoked" in hands.run(ask())


def test_rotated_key_keeps_its_account_and_the_old_one_ends_after_the_grace(
    database: Database, hands: Hands
) -> None:
    old = make(database, tenant="acme", limits=KeyLimits(hard_budget=1.0))
    with database.session() as session:
        new = rotate_key(session, old.key.prefix, grace=timedelta(hours=1), now=NOW)

    async def ask() -> None:
        guard = hands.guard(database)
        before = await guard.caller(bearer(old.text))
        after = await guard.caller(bearer(new.text))
        assert before.key_id == after.key_id == old.key.id
        assert (before.limits, before.tenant) == (after.limits, after.tenant)
        assert before.prefix != after.prefix
        hands.now += timedelta(hours=1)
        assert "expired" in (await refusal(guard, old.text)).message
        assert await guard.caller(bearer(new.text))

    hands.run(ask())


@pytest.mark.parametrize("attack", SQL)
def test_sql_finds_no_key_and_harms_none(database: Database, hands: Hands, attack: str) -> None:
    made = make(database)
    with database.session() as session:
        assert find_key(session, attack) is None

    async def ask() -> Caller:
        guard = hands.guard(database)
        for key in (attack, f"nt_{attack}_{'A' * 43}", made.text + attack):
            await refusal(guard, key)
        return await guard.caller(bearer(made.text))

    assert hands.run(ask()).key_id == made.key.id


def test_token_is_refused_where_none_are_accepted(database: Database, hands: Hands) -> None:
    refused = hands.run(refusal(hands.guard(database), "aa.bb.cc"))
    assert "tokens are not accepted here" in refused.message


def test_open_door_lets_its_own_machine_in_as_a_user(database: Database, hands: Hands) -> None:
    async def ask() -> Caller:
        guard = hands.guard(database, open=True)
        with pytest.raises(Forbidden):
            await guard.caller({"host": "evil.org"})
        return await guard.caller({"host": "localhost"})

    assert hands.run(ask()).role == "user"


def test_open_door_and_tokens_exclude_each_other(database: Database) -> None:
    with pytest.raises(ConfigError, match="--open"):
        Guard(database, JwtConfig("nanotriton", secret="x" * 32), open=True)


def test_only_an_admin_passes_for_one() -> None:
    require_admin(Caller("a", "nt_a", "acme", "admin"))
    with pytest.raises(Forbidden, match="the role user"):
        require_admin(Caller("a", "nt_a", "acme"))
