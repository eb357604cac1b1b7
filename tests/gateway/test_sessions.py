"""A newer request of a session ends the older one, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import Superseded
from gateway.messages import Caller
from gateway.sessions import Sessions, Ticket

NAMES = st.sampled_from(["a", "b", "a b", ""])
SOMETIMES = st.none() | NAMES


def caller(key_id: str) -> Caller:
    return Caller(key_id, "nt_test", "tenant")


def test_newer_request_supersedes_the_older_one():
    sessions, cancelled = Sessions(), []
    older = sessions.begin(caller("k"), "s", lambda: cancelled.append("older"))
    newer = sessions.begin(caller("k"), "s", lambda: cancelled.append("newer"))

    assert cancelled == ["older"]
    newer.check()
    with pytest.raises(Superseded) as failed:
        older.check()
    assert failed.value.status == 409


def test_request_that_ended_is_cancelled_no_more():
    sessions, cancelled = Sessions(), []
    sessions.end(sessions.begin(caller("k"), "s", lambda: cancelled.append(1)))
    sessions.begin(caller("k"), "s", lambda: None)

    assert cancelled == []


def test_older_request_that_ends_late_leaves_the_newer_one_its_place():
    sessions, cancelled = Sessions(), []
    older = sessions.begin(caller("k"), "s", lambda: None)
    sessions.begin(caller("k"), "s", lambda: cancelled.append("second"))
    sessions.end(older)
    sessions.begin(caller("k"), "s", lambda: None)

    assert cancelled == ["second"]


@given(st.tuples(NAMES, SOMETIMES), st.tuples(NAMES, SOMETIMES))
def test_only_the_same_key_and_session_meet(one: tuple[str, str | None], other):
    sessions = Sessions()
    first = sessions.begin(caller(one[0]), one[1], lambda: None)
    sessions.begin(caller(other[0]), other[1], lambda: None)

    assert first.is_superseded is (one == other and one[1] is not None)


class AnyOrder(RuleBasedStateMachine):
    """Requests that begin and end in any order, held against a list of them all."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions()
        self.running: list[tuple[Ticket, list[int]]] = []
        self.num_cancelled = 0

    @rule(key=NAMES, session=SOMETIMES)
    def begin(self, key: str, session: str | None) -> None:
        calls: list[int] = []
        ticket = self.sessions.begin(caller(key), session, lambda: calls.append(1))
        self.running.append((ticket, calls))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.running:
            index = data.draw(st.integers(0, len(self.running) - 1))
            ticket, _ = self.running.pop(index)
            self.num_cancelled += ticket.is_superseded
            self.sessions.end(ticket)
            self.sessions.end(ticket)

    @invariant()
    def newest_of_each_session_alone_goes_on(self) -> None:
        going = [ticket.name for ticket, _ in self.running if not ticket.is_superseded]
        named = [name for name in going if name is not None]
        assert len(named) == len(set(named)) == len(self.sessions)

    @invariant()
    def superseded_requests_are_cancelled_once(self) -> None:
        assert all(len(calls) == ticket.is_superseded for ticket, calls in self.running)
        running = sum(ticket.is_superseded for ticket, _ in self.running)
        assert self.sessions.num_superseded == self.num_cancelled + running


TestAnyOrder = AnyOrder.TestCase
