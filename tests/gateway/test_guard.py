"""Who is let in by key, on both databases: good and bad keys, guesses, a lost database."""

import asyncio
import hmac
import secrets
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta, timezone
from types import FrameType
from typing import Any, TypeVar

import pytest
from postgres import Postgres
from sqlalchemy import event, text

from gateway.errors import ConfigError, Forbidden, Unauthorized, Unavailable
from gateway.identity import Guard, JwtConfig, known_keys, require_admin
from gateway.identity.keys import NewKey, create_key, find_key, revoke_key, rotate_key
from gateway.identity.known_keys import GRACE_S, KEY_TTL_S
from gateway.identity.last_used import BOOK_EVERY_S
from gateway.messages import Caller, KeyLimits
from gateway.storage import Database

T = TypeVar("T")
NOW = datetime(2026, 11, 21, 18, 30, tzinfo=timezone.utc)
SQL = ["' OR 1=1 --", "'; DROP TABLE keys; --", '" OR ""="', "%", "nt_________"]


class Hands:
    """Clocks that a test sets by hand."""

    def __init__(self) -> None:
        self.passed_s = 100.0
        self.now = NOW
        self._guards: list[Guard] = []

    def guard(self, database: Database, **options: Any) -> Guard:
        """A guard that goes by them."""
        made = Guard(database, **options, clock=lambda: self.passed_s, now=lambda: self.now)
        self._guards.append(made)
        return made

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a test's own coroutine, its guards closed after it."""

        async def run_and_close() -> T:
            try:
                return await work
            finally:
                for one in self._guards:
                    await one.close()

        return asyncio.run(run_and_close())


@pytest.fixture
def hands() -> Hands:
    return Hands()


def make(database: Database, **options: Any) -> NewKey:
    with database.session() as session:
        return create_key(session, "test", now=NOW, **options)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def refusal(guard: Guard, key: str) -> Unauthorized:
    with pytest.raises(Unauthorized) as raised:
        await guard.caller(bearer(key))
    return raised.value


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


def queries_of(database: Database) -> list[str]:
    """Grows with the statements about keys that are sent from now on."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "FROM keys" in statement:
            sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    return sent


def test_requests_at_once_and_within_the_ttl_ask_the_database_once(
    database: Database, hands: Hands
) -> None:
    made = make(database)
    queries = queries_of(database)

    async def ask() -> None:
        guard = hands.guard(database)
        await asyncio.gather(*(guard.caller(bearer(made.text)) for _ in range(50)))
        hands.passed_s += KEY_TTL_S - 0.1
        await guard.caller(bearer(made.text))

    hands.run(ask())
    assert len(queries) == 1


def test_client_that_leaves_does_not_take_the_others_answer(
    database: Database, hands: Hands
) -> None:
    made = make(database)

    async def ask() -> Caller:
        guard = hands.guard(database)
        leaving, staying = (asyncio.create_task(guard.caller(bearer(made.text))) for _ in "12")
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    assert hands.run(ask()).key_id == made.key.id


def test_guesses_are_remembered_but_push_no_real_key_out(
    database: Database, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "MAX_ENTRIES", 3)
    made = make(database)
    queries = queries_of(database)

    async def ask() -> None:
        guard = hands.guard(database)
        await guard.caller(bearer(made.text))
        for number in range(8):
            await refusal(guard, f"nt_0000000{number}_{secrets.token_urlsafe(32)}")
        await refusal(guard, f"nt_00000007_{secrets.token_urlsafe(32)}")
        await guard.caller(bearer(made.text))

    hands.run(ask())
    assert len(queries) == 9


def test_flood_of_guesses_is_turned_away_and_good_keys_go_on(
    database: Database, hands: Hands
) -> None:
    made = make(database)
    guesses = [f"nt_{number:08d}_{secrets.token_urlsafe(32)}" for number in range(1000)]

    async def ask() -> list[object]:
        guard = hands.guard(database)
        await guard.caller(bearer(made.text))
        flood = [asyncio.create_task(guard.caller(bearer(one))) for one in guesses]
        await asyncio.sleep(0)
        hands.passed_s += KEY_TTL_S  # so that the good key is looked up in mid-flood
        assert await guard.caller(bearer(made.text))
        return await asyncio.gather(*flood, return_exceptions=True)

    kinds = {type(one) for one in hands.run(ask())}
    assert kinds <= {Unauthorized, Unavailable}
    assert Unavailable in kinds


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


def test_last_use_is_booked_once_a_minute_and_at_the_end(database: Database, hands: Hands) -> None:
    made = make(database)

    def booked() -> datetime | None:
        with database.session(read_only=True) as session:
            found = find_key(session, made.key.prefix)
        assert found
        return found.last_used

    async def ask() -> None:
        guard = hands.guard(database)
        await guard.caller(bearer(made.text))
        assert booked() is None
        hands.passed_s += BOOK_EVERY_S
        hands.now += timedelta(seconds=BOOK_EVERY_S)
        await guard.caller(bearer(made.text))
        await guard.close()
        assert booked() == hands.now

    hands.run(ask())


def test_lost_database_lets_known_keys_in_for_the_grace_alone(
    fragile_postgres: Postgres, hands: Hands
) -> None:
    database = Database(fragile_postgres.new_url())
    database.upgrade()
    known, new = make(database), make(database)

    async def ask() -> None:
        guard = hands.guard(database)
        await guard.caller(bearer(known.text))
        fragile_postgres.kill()
        hands.passed_s += GRACE_S - 1
        assert await guard.caller(bearer(known.text))
        wrong = f"{known.key.prefix}_{secrets.token_urlsafe(32)}"
        assert "not known" in (await refusal(guard, wrong)).message
        with pytest.raises(Unavailable) as raised:
            await guard.caller(bearer(new.text))
        assert raised.value.retry_after_s
        hands.passed_s += 1
        with pytest.raises(Unavailable):
            await guard.caller(bearer(known.text))
        await guard.close()

        await asyncio.to_thread(fragile_postgres.restart)
        hands.passed_s += 1
        assert await guard.caller(bearer(new.text))
        await guard.close()

    hands.run(ask())
    database.close()


def test_database_that_hangs_counts_as_lost(postgres: Postgres, hands: Hands) -> None:
    database = Database(postgres.new_url())
    database.upgrade()
    known, new = make(database), make(database)

    async def ask() -> None:
        guard = hands.guard(database)
        await guard.caller(bearer(known.text))
        hands.passed_s += KEY_TTL_S
        with database.session() as holder:
            holder.execute(text("LOCK TABLE keys IN ACCESS EXCLUSIVE MODE"))
            assert await guard.caller(bearer(known.text))
            with pytest.raises(Unavailable):
                await guard.caller(bearer(new.text))
        hands.passed_s += KEY_TTL_S
        assert await guard.caller(bearer(new.text))

    hands.run(ask())
    database.close()


def test_traffic_through_a_crash_of_the_database_sees_no_other_error(
    fragile_postgres: Postgres, hands: Hands
) -> None:
    database = Database(fragile_postgres.new_url())
    database.upgrade()
    texts = [make(database).text for _ in range(20)]

    async def ask() -> list[object]:
        guard = hands.guard(database)
        asked = [guard.caller(bearer(one)) for one in texts]
        killing = asyncio.to_thread(fragile_postgres.kill)
        *answers, _ = await asyncio.gather(*asked, killing, return_exceptions=True)
        fresh = [hands.guard(database).caller(bearer(one)) for one in texts[:3]]
        return answers + await asyncio.gather(*fresh, return_exceptions=True)

    answers = hands.run(ask())
    assert {type(one) for one in answers} <= {Caller, Unavailable}
    assert {type(one) for one in answers[-3:]} == {Unavailable}
    database.close()


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
