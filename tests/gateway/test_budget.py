"""Budgets: who is warned, who is refused, and what other gateways booked."""

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest
from postgres import Postgres
from running import wait_until

from gateway.account.budget import WARNING_HEADER, Budgets, Month
from gateway.account.rows import to_columns
from gateway.account.statements import insert_or
from gateway.errors import BudgetSpent
from gateway.messages import Caller, KeyLimits
from gateway.storage import Database
from gateway.storage.tables import UsageRow
from tests.gateway.booking import STARTED, finished

CALLER = Caller("key", "nt_ab12cd34", "tenant", limits=KeyLimits(soft_budget=1, hard_budget=2))


class Clock:
    """Wall time by hand."""

    now_s = STARTED

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(database: Database, clock: Clock) -> Iterator[Callable[..., Budgets]]:
    opened: list[Budgets] = []

    def open_one(**options: float) -> Budgets:
        opened.append(Budgets(database, "USD", clock=clock, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def spend(budgets: Budgets, micros: int, request_id: str = "a") -> None:
    budgets.book(CALLER.key_id, request_id, micros, STARTED)


def store(database: Database, request_id: str, micros: int) -> None:
    with database.session() as session:
        row = to_columns(finished(request_id, cost_micros=micros))
        insert_or("update", session, UsageRow, [row])


@pytest.mark.parametrize(
    ("micros", "expected"),
    [(0, None), (999_999, None), (1_000_000, "1.00 of 1.00 USD"), (1_250_001, "1.250001 of 1.00")],
)
def test_soft_budget_warns(make: Callable[..., Budgets], micros: int, expected: str | None) -> None:
    budgets = make()
    spend(budgets, micros)
    headers = budgets.check(CALLER)
    assert headers.get(WARNING_HEADER, "").startswith(expected or "")
    assert bool(headers) is bool(expected)


def test_hard_budget_refuses_and_says_until_when(make: Callable[..., Budgets]) -> None:
    budgets = make()
    spend(budgets, 2_000_000)
    with pytest.raises(BudgetSpent, match=r"2\.00 of 2\.00 USD are spent.* 2026-12-01") as caught:
        budgets.check(CALLER)
    assert caught.value.status == 429
    end = datetime(2026, 12, 1, tzinfo=timezone.utc).timestamp()
    assert caught.value.retry_after_s == end - STARTED


def test_budget_of_nothing_allows_nothing(make: Callable[..., Budgets]) -> None:
    none = Caller("key", "nt_ab12cd34", "tenant", limits=KeyLimits(hard_budget=0))
    with pytest.raises(BudgetSpent):
        make().check(none)


def test_key_without_a_budget_has_the_gateways(make: Callable[..., Budgets]) -> None:
    plain = Caller("key", "nt_ab12cd34", "tenant")
    budgets = make(hard=0.5)
    spend(budgets, 500_000)
    with pytest.raises(BudgetSpent):
        budgets.check(plain)
    assert make().check(plain) == {}


def test_burst_overshoots_by_no_more_than_one_reservation(make: Callable[..., Budgets]) -> None:
    budgets = make()
    num_begun = 0
    for number in range(100):
        try:
            budgets.reserve(CALLER, str(number), 300_000)
        except BudgetSpent:
            break
        num_begun += 1
    assert num_begun == 7  # 6 reservations are 1.8 of 2
    for number in range(num_begun):
        spend(budgets, 100_000, str(number))
    assert budgets.spent_micros("key") == 700_000
    budgets.reserve(CALLER, "again", 300_000)


def test_new_month_begins_at_nothing(make: Callable[..., Budgets], clock: Clock) -> None:
    budgets = make()
    spend(budgets, 5_000_000)
    clock.now_s = Month.at(STARTED).end.timestamp()
    assert budgets.check(CALLER) == {}
    spend(budgets, 1_000_000)  # of last month, ended only now
    assert budgets.check(CALLER) == {}


def test_clock_that_is_turned_back_finds_what_was_spent(
    make: Callable[..., Budgets], clock: Clock, database: Database
) -> None:
    store(database, "a", 5_000_000)
    budgets = make()
    clock.now_s += 40 * 86400
    assert budgets.check(CALLER) == {}
    clock.now_s = STARTED
    budgets.check(Caller("other", "", "", limits=CALLER.limits))
    wait_until(lambda: budgets.spent_micros("key") == 5_000_000, 5)


def test_what_others_booked_counts_from_the_start(
    make: Callable[..., Budgets], database: Database
) -> None:
    store(database, "a", 1_500_000)
    budgets = make()
    wait_until(lambda: budgets.spent_micros("key") == 1_500_000, 5)
    spend(budgets, 100_000, "b")  # not drained yet
    store(database, "c", 50_000)  # another gateway's
    budgets.refresh()
    assert budgets.spent_micros("key") == 1_600_000
    store(database, "b", 100_000)
    budgets.refresh()
    assert budgets.spent_micros("key") == 1_650_000


def test_budgets_go_on_without_the_database(fragile_postgres: Postgres) -> None:
    database = Database(fragile_postgres.new_url())
    database.upgrade()
    fragile_postgres.kill()
    budgets = Budgets(database, "USD", clock=Clock())
    spend(budgets, 2_000_000)
    with pytest.raises(BudgetSpent):
        budgets.check(CALLER)
    budgets.close()
    database.close()


@pytest.mark.parametrize(
    ("month", "begin", "end"),
    [((2026, 11), "2026-11-01", "2026-12-01"), ((2026, 12), "2026-12-01", "2027-01-01")],
)
def test_month_ends_where_the_next_begins(month: tuple[int, int], begin: str, end: str) -> None:
    made = Month.of(*month)
    assert (f"{made.begin:%Y-%m-%d}", f"{made.end:%Y-%m-%d}") == (begin, end)
    assert made.holds(made.begin.timestamp())
    assert not made.holds(made.end.timestamp())
