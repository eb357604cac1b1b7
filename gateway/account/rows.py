"""One request's account as the journal and the database have it.

Comes in: who asked, what served it, what came of it. Goes out: a Row; its line in a journal; its
columns. Knows no file and no database.
"""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from operator import attrgetter
from typing import Any

from gateway.messages import WASTED, Caller, CompletionRequest, Finished, Outcome, Served

INTERRUPTED: Outcome = "interrupted"
_NOWHERE = Served("", "", "", "")


@dataclass(frozen=True, slots=True)
class Row:
    """A request; as it begins it is an interrupted one, and stays so if nothing more is heard."""

    id: str
    key_id: str
    key_prefix: str
    tenant: str
    model: str
    version: str
    precision: str
    backend: str
    started: float  # Unix seconds
    stream: bool
    user_hash: str | None = None
    outcome: Outcome = INTERRUPTED
    prompt_tokens: int = 0
    completion_tokens: int = 0
    wasted_tokens: int = 0
    cost_micros: int = 0
    latency_s: float | None = None
    ttft_s: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether its tokens are known."""
        return self.outcome != INTERRUPTED


_NAMES = tuple(one.name for one in fields(Row))
_values = attrgetter(*_NAMES)


def begun_row(
    caller: Caller, request: CompletionRequest, served: Served | None, started: float
) -> Row:
    """The row of a request that begins now."""
    served = served or _NOWHERE
    return Row(
        request.id,
        caller.key_id,
        caller.prefix,
        caller.tenant,
        served.model,
        served.version,
        served.precision,
        served.backend,
        started,
        request.stream,
        _hash_user(caller, request.user),
    )


def finished_row(finished: Finished, caller: Caller, cost_micros: int) -> Row:
    """The row of a request that has ended."""
    usage, times = finished.usage, finished.times
    return replace(
        begun_row(caller, finished.request, finished.served, times.started_at),
        outcome=finished.outcome,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        wasted_tokens=usage.completion_tokens if finished.outcome in WASTED else 0,
        cost_micros=cost_micros,
        latency_s=times.total_s,
        ttft_s=times.first_text_s,
    )


def to_line(row: Row) -> bytes:
    """The row as one line of JSON, whatever its texts hold."""
    return json.dumps(dict(zip(_NAMES, _values(row), strict=True))).encode() + b"\n"


def from_line(line: bytes) -> Row | None:
    """The row in a line; None for one that is torn or damaged."""
    try:
        values = json.loads(line)
        return Row(**{name: values[name] for name in _NAMES if name in values})
    except (ValueError, TypeError):
        return None


def to_columns(row: Row) -> dict[str, Any]:
    """The row as the table `usage` takes it."""
    columns = {name: _storable(value) for name, value in zip(_NAMES, _values(row), strict=True)}
    started = datetime.fromtimestamp(row.started, timezone.utc)
    return columns | {"started": started, "finished": row.is_finished}


def _hash_user(caller: Caller, user: str | None) -> str | None:
    """Tells a tenant's people apart without naming them."""
    if user is None:
        return None
    told = f"{caller.tenant}\0{user}".encode(errors="replace")
    return hashlib.sha256(told).hexdigest()[:16]


def _storable(value: Any) -> Any:
    """PostgreSQL takes neither NUL nor half a surrogate pair, which a token may claim."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode().replace("\0", "\ufffd")
    return value
