"""API keys in the database: made, rotated, revoked, listed, found; each change is audited.

A key is `nt_<8 characters>_<43 characters>`. The first part names it, to support and in logs; the
whole is shown once and kept as its hash alone. Knows nothing of requests or caches.
"""

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from gateway.errors import InvalidRequest, NotFound
from gateway.identity.credentials import digest_key
from gateway.messages import Caller, KeyLimits, Role
from gateway.storage.tables import AuditRow, KeyRow

PREFIX_CHARS = 8
SECRET_BYTES = 32
MAX_NAME_CHARS = 100
MAX_LIMIT = 2**31 - 1  # of an integer column in PostgreSQL
# No colon, so that no tenant of ours is one that a token without tenant gets.
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COMMAND_LINE = "command line"  # who it was, in the audit: such a person has no key
_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; `account_id` stays through rotations, and usage is booked on it."""

    id: str
    account_id: str
    prefix: str
    hash: str = field(repr=False)
    name: str
    role: Role
    tenant: str
    limits: KeyLimits
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    rotated_from: str | None = None
    last_used: datetime | None = None

    def caller(self) -> Caller:
        """Who asks with it."""
        return Caller(self.account_id, self.prefix, self.tenant, self.role, self.limits)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only moment at which its text exists."""

    key: Key
    text: str = field(repr=False)


def create_key(
    session: Session,
    name: str,
    *,
    now: datetime,
    role: Role = "user",
    tenant: str | None = None,
    limits: KeyLimits | None = None,
    expires: datetime | None = None,
) -> NewKey:
    """Make a key; without a tenant it is one of its own. Raises InvalidRequest."""
    limits = limits or KeyLimits()
    _check(name, tenant, limits)
    account_id = str(uuid4())
    made = _insert(
        session,
        account_id=account_id,
        name=name,
        role=role,
        tenant=tenant or account_id,
        **asdict(limits),
        created=now,
        expires=expires,
    )
    _audit(session, "keys.create", now, None, made.key)
    return made


def rotate_key(session: Session, prefix: str, *, grace: timedelta, now: datetime) -> NewKey:
    """Another secret for the same account; the old one goes on for `grace`.

    A key that expires is followed by one that lasts as long again. Raises NotFound, and
    InvalidRequest for a key that is no longer good.
    """
    row = _row(session, prefix)
    before = _key(row)
    if row.revoked or (row.expires and row.expires <= now):
        raise InvalidRequest(f"{prefix} is no longer good: create another key")
    made = _insert(
        session,
        account_id=row.account_id,
        name=row.name,
        role=row.role,
        tenant=row.tenant,
        **asdict(before.limits),
        created=now,
        expires=now + (row.expires - row.created) if row.expires else None,
        rotated_from=row.id,
    )
    row.expires = min(now + grace, row.expires or now + grace)
    _audit(session, "keys.rotate", now, before, made.key)
    return made


def revoke_key(session: Session, prefix: str, *, now: datetime) -> Key:
    """End a key for good; a second time changes nothing. Raises NotFound."""
    row = _row(session, prefix)
    if row.revoked is None:
        before = _key(row)
        row.revoked = now
        _audit(session, "keys.revoke", now, before, _key(row))
    return _key(row)


def list_keys(session: Session) -> list[Key]:
    """Every key, the oldest first."""
    rows = session.scalars(select(KeyRow).order_by(KeyRow.created, KeyRow.prefix))
    return [_key(row) for row in rows]


def find_key(session: Session, prefix: str) -> Key | None:
    """The key of this prefix, good or not."""
    row = session.scalars(select(KeyRow).where(KeyRow.prefix == prefix)).one_or_none()
    return None if row is None else _key(row)


def book_uses(session: Session, last_used: Mapping[str, datetime]) -> None:
    """Write when keys, by their id, were used last."""
    for key_id, at in last_used.items():
        session.execute(update(KeyRow).where(KeyRow.id == key_id).values(last_used=at))


def _check(name: str, tenant: str | None, limits: KeyLimits) -> None:
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARS:
        raise InvalidRequest(
            f"the name {name[:MAX_NAME_CHARS]!r} can't be used: give 1 to {MAX_NAME_CHARS} "
            "printable characters"
        )
    if tenant is not None and not TENANT.fullmatch(tenant):
        raise InvalidRequest(
            f"the tenant {tenant[:64]!r} can't be used: give 1 to 64 letters, digits, . _ or -"
        )
    for what, value in asdict(limits).items():
        if value is not None and not 0 <= value <= MAX_LIMIT:
            raise InvalidRequest(f"{what} is {value}: give 0 to {MAX_LIMIT}")


def _insert(session: Session, **values: Any) -> NewKey:
    prefix = "nt_" + "".join(secrets.choice(_LETTERS) for _ in range(PREFIX_CHARS))
    text = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    # The first of an account has the account's id.
    key_id = str(uuid4()) if values.get("rotated_from") else values["account_id"]
    row = KeyRow(id=key_id, prefix=prefix, hash=digest_key(text), **values)
    session.add(row)
    session.flush()
    return NewKey(_key(row), text)


def _row(session: Session, prefix: str) -> KeyRow:
    query = select(KeyRow).where(KeyRow.prefix == prefix).with_for_update()
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"no key {prefix[:40]!r}: `keys list` shows the prefixes there are")
    return row


def _key(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        account_id=row.account_id,
        prefix=row.prefix,
        hash=row.hash,
        name=row.name,
        role=cast("Role", row.role),
        tenant=row.tenant,
        limits=KeyLimits(
            requests_per_minute=row.requests_per_minute,
            tokens_per_minute=row.tokens_per_minute,
            max_concurrent=row.max_concurrent,
            soft_budget=row.soft_budget,
            hard_budget=row.hard_budget,
        ),
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
        rotated_from=row.rotated_from,
        last_used=row.last_used,
    )


def _audit(session: Session, action: str, at: datetime, before: Key | None, after: Key) -> None:
    session.add(
        AuditRow(
            at=at,
            key_prefix=_COMMAND_LINE,
            action=action,
            before=before and describe(before),
            after=describe(after),
        )
    )


def describe(key: Key) -> dict[str, Any]:
    """A key for people's and programs' eyes, as JSON has it: all but its hash."""
    values = asdict(key)
    del values["hash"]
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
    }
