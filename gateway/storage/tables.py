"""Every table of the gateway, as SQLAlchemy maps it; `migrations` builds exactly these.

Times go in and come out aware and in UTC. Money is whole millionths of the price table's currency,
so that sums are exact. `key_id` is no foreign key: callers by token and the open door have no row
in `keys`. Knows nothing of what the values mean to limits, budgets or routes.
"""

from datetime import datetime, timezone
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, CheckConstraint, DateTime, Index, MetaData
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import Integer, TypeDecorator

# Names of constraints that both databases share, so that migrations can speak of them.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[datetime]):
    """A moment; SQLite keeps no time zone, so all are turned to UTC on the way in."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse a time without zone, which could mean anything."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone: use datetime.now(timezone.utc)")
        return value.astimezone(timezone.utc)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """PostgreSQL answers in its session's zone, SQLite in none."""
        if value is None:
            return None
        moment: datetime = value
        if moment.tzinfo is None:
            return moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc)


class Table(DeclarativeBase):
    """What all tables share; `Table.metadata` is the whole."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcTime}


class KeyRow(Table):
    """An API key: its hash alone, whose it is and what it may use."""

    __tablename__ = "keys"
    __table_args__ = (CheckConstraint("role IN ('user', 'admin')", name="role"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    # The first key's id: limits, budget and usage go on when a key is rotated.
    account_id: Mapped[str] = mapped_column(index=True)
    prefix: Mapped[str] = mapped_column(unique=True)
    hash: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    tenant: Mapped[str]
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    max_concurrent: Mapped[int | None]
    soft_budget: Mapped[float | None]
    hard_budget: Mapped[float | None]
    created: Mapped[datetime]
    expires: Mapped[datetime | None]
    revoked: Mapped[datetime | None]
    rotated_from: Mapped[str | None]
    last_used: Mapped[datetime | None]


class UsageRow(Table):
    """One request's account; `finished` is false while it runs, or when the gateway died in it."""

    __tablename__ = "usage"
    __table_args__ = (Index(None, "key_id", "started"),)

    id: Mapped[str] = mapped_column(primary_key=True)  # the request's
    key_id: Mapped[str]
    key_prefix: Mapped[str]
    tenant: Mapped[str]
    model: Mapped[str]
    version: Mapped[str]
    precision: Mapped[str]
    backend: Mapped[str]
    started: Mapped[datetime] = mapped_column(index=True)
    latency_s: Mapped[float | None]
    ttft_s: Mapped[float | None]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    wasted_tokens: Mapped[int]
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str]
    user_hash: Mapped[str | None]
    stream: Mapped[bool]
    finished: Mapped[bool]


class EventRow(Table):
    """What became of a completion in an editor; each kind is counted once."""

    __tablename__ = "events"
    __table_args__ = (
        CheckConstraint("kind IN ('shown', 'accepted', 'dismissed')", name="kind"),
        Index(None, "key_id", "at"),
    )

    request_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    key_id: Mapped[str]
    chars: Mapped[int | None]


class AuditRow(Table):
    """Who changed what, with the value before and after."""

    __tablename__ = "audit"

    # SQLite numbers rows by itself only under the type INTEGER.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[datetime] = mapped_column(index=True)
    key_prefix: Mapped[str]
    action: Mapped[str]
    before: Mapped[Any] = mapped_column(JSON, nullable=True)
    after: Mapped[Any] = mapped_column(JSON, nullable=True)


class RoutesRow(Table):
    """One version of the routes document; the highest is in force, and two can't be the same."""

    __tablename__ = "routes"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    document: Mapped[Any] = mapped_column(JSON)
    changed: Mapped[datetime]
    key_prefix: Mapped[str]
