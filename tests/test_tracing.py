"""What becomes of a request as spans; tests/server/test_traces.py has the real ones."""

import pytest

from nanotriton.engine.events import Failure, Times, TokenEvent, Work
from nanotriton.errors import RunnerError
from nanotriton.tracing import attributes_of, phases_of

KEY = (b"", 1)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (Times(1, 2, 3, 9), [("queue", 1, 2), ("prefill", 2, 3), ("decode", 3, 9)]),
        (Times(1, 2, None, 9), [("queue", 1, 2), ("prefill", 2, 9)]),
        (Times(1, None, None, 9), [("queue", 1, 9)]),
    ],
    ids=["finished", "ended-in-prefill", "ended-in-queue"],
)
def test_phases_are_those_that_a_request_reached(times, expected):
    assert [(one.name, one.start_ns, one.end_ns) for one in phases_of(times)] == expected


def test_attributes_tell_the_work_and_how_it_ended():
    event = TokenEvent(KEY, (), "", finish_reason="stop", work=Work(4, 3, 2, 1))
    assert attributes_of(event) == {
        "finish_reason": "stop",
        "reused_tokens": 3,
        "drafted_tokens": 2,
        "accepted_tokens": 1,
        "steps": 4,
    }


def test_failure_tells_its_status():
    assert attributes_of(Failure(KEY, RunnerError("no"))) == {"status": "INTERNAL"}
