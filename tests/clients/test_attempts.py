"""When a request is tried again."""

import pytest

from clients import InvalidRequest, Timeout, Unavailable
from clients.attempts import Deadline, Retries


def pauses_of(retries: Retries, deadline: Deadline, error: Exception) -> list[float]:
    """The pauses until the error comes through."""
    pauses: list[float] = []
    try:
        for attempt in retries.attempts(deadline):
            with attempt:
                raise error
            pauses.append(attempt.pause_s)
    except type(error):
        pass
    return pauses


@pytest.mark.parametrize(
    ("draw", "pauses"),
    [(0.0, [0.25, 0.5, 1, 2, 2]), (0.5, [0.1875, 0.375, 0.75, 1.5, 1.5])],
    ids=["no jitter", "half the jitter"],
)
def test_pauses_double_up_to_a_limit(draw: float, pauses: list[float]) -> None:
    retries = Retries(5, random=lambda: draw)
    assert pauses_of(retries, Deadline(60, "x"), Unavailable("full")) == pytest.approx(pauses)


@pytest.mark.parametrize("error", [InvalidRequest("no"), Timeout("late"), KeyError("bug")])
def test_other_errors_come_through_at_once(error: Exception) -> None:
    assert pauses_of(Retries(3), Deadline(60, "x"), error) == []


def test_no_retries() -> None:
    assert pauses_of(Retries(0), Deadline(60, "x"), Unavailable("full")) == []


def test_committed_attempt_is_the_last() -> None:
    attempt = next(Retries(3).attempts(Deadline(60, "x")))
    attempt.commit()
    with pytest.raises(Unavailable), attempt:
        raise Unavailable("lost")


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_deadline_that_is_none(timeout_s: float) -> None:
    with pytest.raises(InvalidRequest, match="give seconds above 0"):
        Deadline(timeout_s, "x")
