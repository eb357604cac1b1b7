"""Keys in memory before the database, on both kinds: guesses, floods, a database that is lost."""

import asyncio
import secrets
from datetime import datetime, timedelta
from typing import Any

import pytest
from postgres import Postgres
from sqlalchemy import event, text

from gateway.errors import Unauthorized, Unavailable
from gateway.identity import known_keys
from gateway.identity.keys import find_key
from gateway.identity.known_keys import GRACE_S, KEY_TTL_S
from gateway.identity.last_used import BOOK_EVERY_S
from gateway.messages import Caller
from gateway.storage import Database
from tests.gateway.guarding import Hands, bearer, make, refusal


@pytest.fixture
def hands() -> Hands:
    return Hands()


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
