"""POST /v1/events: an editor says what became of the completions that it got.

Comes in: a body, and who sent it. Goes out: how many events were taken. Knows no database.
"""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Protocol

from anyio import to_thread
from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from gateway.account.events import Event, Kind, Receipt
from gateway.errors import InvalidRequest
from gateway.messages import Caller

MAX_EVENTS = 100
OLDEST = timedelta(days=31)
FASTEST_CLOCK = timedelta(days=1)  # of an editor's machine, ahead of ours
_EXAMPLES: list[JsonValue] = [
    {
        "events": [
            {"id": "cmpl-8f0c2a6b9d1e4f7a3b5c6d7e", "kind": "shown", "chars": 42},
            {"id": "cmpl-8f0c2a6b9d1e4f7a3b5c6d7e", "kind": "accepted"},
        ]
    }
]


class EventBody(BaseModel):
    """One event."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")] = Field(
        description="The completion's id."
    )
    kind: Kind
    at: AwareDatetime | None = Field(None, description="When, with a time zone; default: now.")
    chars: int | None = Field(
        None, ge=0, le=10**6, description="How much of the text was shown or accepted; default all."
    )


class EventsBody(BaseModel):
    """The body of POST /v1/events."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": _EXAMPLES}
    )

    events: list[EventBody] = Field(min_length=1, max_length=MAX_EVENTS)


class EventsAnswer(BaseModel):
    """What was taken."""

    taken: int = Field(description="Events noted; one that was sent before counts, once.")
    unknown: list[str] = Field(description="Ids of no request of this key.")


class TakesEvents(Protocol):
    """What this asks of gateway.account.events."""

    def take(self, caller: Caller, events: list[Event]) -> Receipt:
        """Note events of the caller's own requests."""


def router(caller_dependency: Callable[..., Any], events: TakesEvents) -> APIRouter:
    """The path, for callers that `caller_dependency` proves."""
    made = APIRouter(tags=["events"])

    @made.post("/v1/events")
    async def take(
        body: EventsBody, caller: Annotated[Caller, Depends(caller_dependency)]
    ) -> EventsAnswer:
        """Say what became of completions; sent again, an event counts once."""
        now = datetime.now(timezone.utc)
        told = [
            Event(one.id, one.kind, _moment(number, one.at, now), one.chars)
            for number, one in enumerate(body.events)
        ]
        receipt = await to_thread.run_sync(events.take, caller, told)
        return EventsAnswer(taken=receipt.num_taken, unknown=list(receipt.unknown))

    return made


def _moment(number: int, at: datetime | None, now: datetime) -> datetime:
    if at is None:
        return now
    if not now - OLDEST <= at <= now + FASTEST_CLOCK:
        raise InvalidRequest(
            f"events.{number}.at is {at.isoformat()}: give a time of the last {OLDEST.days} days, "
            "or leave it out",
            param=f"events.{number}.at",
        )
    return at
