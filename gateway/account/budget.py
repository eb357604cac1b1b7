"""What every key has spent this month (UTC), held against its soft and its hard budget.

Comes in: costs as they are booked, reservations of what is under way, and now and then the
database's sums, for what other gateways booked. Goes out: a warning, or BudgetSpent. All in memory:
a check waits for nothing. Knows no prices.

How far a hard budget can be overshot: by what one request costs above its reservation, and by what
other gateways book in `REFRESH_S`. Until the database has answered once, only what this gateway
booked itself counts.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal

from sqlalchemy import func, select

from gateway.account.prices import MICROS, to_micros
from gateway.errors import BudgetSpent, Unavailable
from gateway.messages import Caller
from gateway.storage import Database
from gateway.storage.tables import UsageRow

REFRESH_S = 10.0
WARNING_HEADER = "x-budget-warning"
_LOG = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC."""

    begin: datetime
    end: datetime

    @classmethod
    def at(cls, unix_s: float) -> "Month":
        """The month of a moment."""
        now = datetime.fromtimestamp(unix_s, timezone.utc)
        return cls.of(now.year, now.month)

    @classmethod
    def of(cls, year: int, month: int) -> "Month":
        """The month by its number, from 1."""
        begin = datetime(year, month, 1, tzinfo=timezone.utc)
        return cls(begin, begin.replace(year=year + month // 12, month=month % 12 + 1))

    def holds(self, unix_s: float) -> bool:
        """Whether a moment lies in it."""
        return self.begin.timestamp() <= unix_s < self.end.timestamp()


@dataclass(frozen=True, slots=True)
class _Reserved:
    key_id: str
    micros: int


class Budgets:
    """One gateway's view; from any thread."""

    def __init__(
        self,
        database: Database,
        currency: str,
        *,
        soft: float | None = None,
        hard: float | None = None,
        clock: Callable[[], float] = time.time,
        on_warning: Callable[[], None] = lambda: None,
    ) -> None:
        """`soft` and `hard` are for keys that have none of their own; None is without limit."""
        self._database = database
        self._currency = currency
        self._soft, self._hard = soft, hard
        self._clock = clock
        self._on_warning = on_warning
        self._lock = threading.Lock()  # of all below
        self._month = Month.at(clock())
        self._spent: Counter[str] = Counter()  # millionths, by key
        self._reserved: Counter[str] = Counter()
        self._under_way: dict[str, _Reserved] = {}
        self._wake = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._refresh_on, name="budgets", daemon=True)
        self._thread.start()

    def check(self, caller: Caller) -> dict[str, str]:
        """Headers that warn of the soft budget, if any; raises BudgetSpent."""
        limits = caller.limits
        soft = self._soft if limits.soft_budget is None else limits.soft_budget
        hard = self._hard if limits.hard_budget is None else limits.hard_budget
        if soft is None and hard is None:
            return {}
        with self._lock:
            self._turn_month()
            spent = self._spent[caller.key_id]
            reserved = self._reserved[caller.key_id]
        if hard is not None and spent + reserved >= to_micros(hard):
            raise self._spent_error(spent, reserved, hard)
        if soft is not None and spent >= to_micros(soft):
            self._on_warning()
            return {WARNING_HEADER: f"{self._of(spent, soft)} spent this month"}
        return {}

    def reserve(self, caller: Caller, request_id: str, micros: int) -> None:
        """Count what a request may cost until it is booked; raises BudgetSpent as `check` does."""
        self.check(caller)
        with self._lock:
            self._under_way[request_id] = _Reserved(caller.key_id, micros)
            self._reserved[caller.key_id] += micros

    def book(self, key_id: str, request_id: str, micros: int, started: float) -> None:
        """A request has ended: its cost instead of its reservation."""
        with self._lock:
            self._turn_month()
            if self._month.holds(started):
                self._spent[key_id] += micros
            if reserved := self._under_way.pop(request_id, None):
                self._reserved[reserved.key_id] -= reserved.micros
                if not self._reserved[reserved.key_id]:
                    del self._reserved[reserved.key_id]

    def spent_micros(self, key_id: str) -> int:
        """What a key has spent this month, as far as is known here."""
        return self._spent[key_id]

    def refresh(self) -> None:
        """Take what all gateways booked from the database; raises Unavailable.

        The larger of the two sums counts: the database's lacks what isn't drained yet, ours what
        others booked; both grow, so neither lack lasts.
        """
        with self._lock:
            self._turn_month()
            month = self._month
        rows = (
            select(UsageRow.key_id, func.sum(UsageRow.cost_micros))
            .where(UsageRow.started >= month.begin, UsageRow.started < month.end)
            .group_by(UsageRow.key_id)
        )
        with self._database.session(read_only=True) as session:
            sums = {key_id: int(micros) for key_id, micros in session.execute(rows).all()}
        with self._lock:
            if month == self._month:
                self._spent |= Counter(sums)  # the larger of each

    def close(self) -> None:
        """End the thread."""
        self._is_closed = True
        self._wake.set()
        self._thread.join()

    def _turn_month(self) -> None:
        if not self._month.holds(now := self._clock()):
            self._month = Month.at(now)
            self._spent.clear()
            self._wake.set()  # a clock that was turned back comes to a month that has sums

    def _refresh_on(self) -> None:
        while not self._is_closed:
            self._wake.clear()
            try:
                self.refresh()
            except Unavailable as error:
                _LOG.warning("budgets go on with what this gateway booked: %s", error)
            except Exception:  # the thread's loop: sums that are old are better than none
                _LOG.exception("budgets could not be refreshed")
            self._wake.wait(REFRESH_S)

    def _spent_error(self, spent: int, reserved: int, hard: float) -> BudgetSpent:
        end = self._month.end
        under_way = f" and {_amount(reserved)} are under way" if reserved else ""
        return BudgetSpent(
            f"{self._of(spent, hard)} are spent this month{under_way}: ask for a higher budget, "
            f"or wait until {end:%Y-%m-%d} 00:00 UTC",
            code="insufficient_quota",
            retry_after_s=max(end.timestamp() - self._clock(), 1.0),
        )

    def _of(self, spent: int, limit: float) -> str:
        return f"{_amount(spent)} of {_amount(to_micros(limit))} {self._currency}"


def _amount(micros: int) -> str:
    """At least two digits behind the point, and as many as there are."""
    amount = Decimal(micros) / MICROS
    places = max(2, -int(amount.normalize().as_tuple().exponent))
    return f"{amount:.{places}f}"
