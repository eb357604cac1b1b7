"""One request at a time for each typing person: a newer one of the session ends the older one.

Comes in: who asks, the session's name, and how to cancel the work. Goes out: a Ticket, which tells
whether a newer request took its place. Memory is bounded by the requests that run: a session that
runs none is forgotten. For one event loop; sessions of other gateways are not seen, so a load
balancer keeps a person on one of them (sticky by key, or by session). Knows nothing of Triton.
"""

from collections.abc import Callable

from gateway.errors import Superseded
from gateway.messages import Caller

Name = tuple[str, str]  # of key and session


class Ticket:
    """One request's place in its session, held from `begin` to `end`."""

    __slots__ = ("cancel", "is_superseded", "name")

    def __init__(self, name: Name | None, cancel: Callable[[], None]) -> None:
        self.name = name
        self.cancel = cancel
        self.is_superseded = False

    def check(self) -> None:
        """Raises Superseded when a newer request took the place."""
        if self.is_superseded:
            raise Superseded(
                "a newer request of this session came before the answer was whole: give each "
                "editor its own session, or wait for one answer before you ask for the next",
                param="session",
                code="superseded",
            )


class Sessions:
    """Which request of every session is the newest."""

    def __init__(self) -> None:
        self._newest: dict[Name, Ticket] = {}
        self.num_superseded = 0

    def __len__(self) -> int:
        """How many sessions run a request."""
        return len(self._newest)

    def begin(self, caller: Caller, session: str | None, cancel: Callable[[], None]) -> Ticket:
        """Take the session's place; an older request there is cancelled before this returns.

        `cancel` is called at most once, from the newer request's task: it may not raise or wait. A
        request without a session supersedes nothing.
        """
        ticket = Ticket(None if session is None else (caller.key_id, session), cancel)
        if ticket.name is None:
            return ticket
        older = self._newest.get(ticket.name)
        self._newest[ticket.name] = ticket
        if older is not None:
            older.is_superseded = True
            self.num_superseded += 1
            older.cancel()
        return ticket

    def end(self, ticket: Ticket) -> None:
        """Give the place back, unless a newer request has it; a second time does nothing."""
        if ticket.name is not None and self._newest.get(ticket.name) is ticket:
            del self._newest[ticket.name]
