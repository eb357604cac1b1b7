"""What is told when: streams once in an interval, whole answers at their end, nothing lost."""

import pytest

from nanotriton.engine.events import Failure, TokenEvent, Usage
from nanotriton.engine.pieces import Pieces
from nanotriton.errors import RunnerError

KEY, OTHER = (b"peer", 1), (b"peer", 2)
USAGE = Usage(3, 4)


def token(number, key=KEY, **more):
    """A step's event."""
    return TokenEvent(key, (number,), f"{number} ", **more)


@pytest.fixture
def pieces():
    """Two streams with their first pieces told at second 0, an interval of 1 s."""
    made = Pieces(1.0)
    for key in (KEY, OTHER):
        made.stream(key)
    assert [one.tokens for one in made.take([token(0), token(0, OTHER)], 0.0)] == [(0,), (0,)]
    return made


def test_tokens_are_joined_until_the_interval_is_over(pieces):
    assert pieces.take([token(1)], 0.4) == []
    assert pieces.take([token(2)], 0.9) == []
    assert pieces.take([token(3)], 1.1) == [TokenEvent(KEY, (1, 2, 3), "1 2 3 ")]
    assert pieces.take([token(4)], 1.5) == []


def test_held_tokens_are_told_though_their_text_got_none_in_this_step(pieces):
    assert pieces.take([token(1)], 0.5) == []
    assert pieces.take([], 1.0) == [token(1)]


def test_what_is_due_of_all_streams_is_told_together(pieces):
    pieces.take([token(1), token(5, OTHER)], 0.3)
    assert pieces.take([], 1.0) == [token(1), token(5, OTHER)]


def test_end_is_told_at_once_with_what_was_held_and_the_others_wait(pieces):
    pieces.take([token(1), token(1, OTHER)], 0.3)
    (end,) = pieces.take([token(2, finish_reason="stop", usage=USAGE)], 0.4)
    assert (end.tokens, end.text, end.finish_reason, end.usage) == ((1, 2), "1 2 ", "stop", USAGE)


def test_failure_is_told_at_once_behind_what_was_held(pieces):
    failure = Failure(KEY, RunnerError("broken"))
    pieces.take([token(1)], 0.3)
    assert pieces.take([failure], 0.4) == [token(1), failure]


def test_first_piece_is_the_first_with_text(pieces):
    key = (b"peer", 3)
    pieces.stream(key)
    assert pieces.take([TokenEvent(key, (7,), "")], 0.3) == []
    assert pieces.take([TokenEvent(key, (8,), "é")], 0.4) == [TokenEvent(key, (7, 8), "é")]


def test_each_text_of_a_request_has_a_first_piece_and_an_end_of_its_own(pieces):
    assert pieces.take([token(1, index=1)], 0.1) == [token(1, index=1)]
    pieces.take([token(2, index=1)], 0.2)
    (end,) = pieces.take([token(3, index=1, finish_reason="stop")], 0.3)
    assert (end.index, end.tokens) == (1, (2, 3))


def test_last_event_stays_the_last_whatever_text_it_is_of(pieces):
    pieces.take([token(1, index=1), token(2)], 0.1)
    told = pieces.take([token(3, index=1), token(4, finish_reason="stop", usage=USAGE)], 0.2)
    assert [(one.index, one.usage) for one in told] == [(1, None), (0, USAGE)]


def test_whole_answer_is_told_at_its_end(pieces):
    key = (b"peer", 3)
    pieces.take([token(1, key), token(1, key, index=1, finish_reason="stop")], 0.1)
    assert pieces.take([], 5.0) == []
    told = pieces.take([token(2, key, finish_reason="length", usage=USAGE)], 5.1)
    assert [(one.index, one.tokens) for one in told] == [(1, (1,)), (0, (1, 2))]


def test_peer_that_is_gone_is_told_nothing(pieces):
    pieces.take([token(1)], 0.3)
    pieces.drop(b"peer")
    assert pieces.take([], 1.0) == []


def test_no_interval_tells_every_step():
    pieces = Pieces(0.0)
    pieces.stream(KEY)
    assert [pieces.take([token(one)], 0.0) for one in (1, 2)] == [[token(1)], [token(2)]]
