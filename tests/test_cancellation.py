import threading
import time

import pytest
from running import wait_until

from nanotriton.cancellation import EARLY_S, CancellationWatch, NamedRequests


@pytest.fixture
def watch():
    """A watch, closed in the end."""
    watch = CancellationWatch()
    yield watch
    watch.close()


def test_request_that_is_cancelled_is_noticed_once(watch):
    gone, calls = threading.Event(), []
    watch.add(1, gone.is_set, lambda: calls.append(1))
    time.sleep(0.15)
    assert calls == []
    gone.set()
    assert wait_until(lambda: calls, 2) < 1
    time.sleep(0.15)
    assert calls == [1]


def test_only_the_cancelled_one_of_many_is_told(watch):
    calls: list[int] = []
    for key in range(20):
        watch.add(key, lambda key=key: key == 7, lambda key=key: calls.append(key))
    wait_until(lambda: calls, 2)
    time.sleep(0.15)
    assert calls == [7]


def test_removed_request_is_never_asked_about_again(watch):
    # Asking about a freed request crashes the whole Triton server.
    asked: list[float] = []
    for round_number in range(10):
        watch.add(1, lambda: asked.append(time.monotonic()), lambda: None)
        time.sleep(0.03 * (round_number % 3))  # asked before, while and after
        watch.remove(1)
        removed = time.monotonic()
        time.sleep(0.06)
        assert not [at for at in asked if at > removed]
    assert asked


def test_remove_waits_for_a_question_that_is_being_asked(watch):
    asking, answered = threading.Event(), threading.Event()

    def is_cancelled() -> bool:
        asking.set()
        time.sleep(0.05)
        answered.set()
        return False

    watch.add(1, is_cancelled, lambda: None)
    assert asking.wait(2)
    watch.remove(1)
    assert answered.is_set()


def test_removing_an_unknown_request_is_no_error(watch):
    watch.remove(77)


def test_callback_may_remove_and_add_requests(watch):
    calls: list[str] = []

    def on_cancel() -> None:
        watch.remove(1)
        watch.add(2, lambda: True, lambda: calls.append("second"))

    watch.add(1, lambda: True, on_cancel)
    wait_until(lambda: calls == ["second"], 2)


@pytest.mark.parametrize("num_watched", [0, 3], ids=["idle", "busy"])
def test_close_ends_the_thread(num_watched):
    before = threading.active_count()
    watch = CancellationWatch()
    for key in range(num_watched):
        watch.add(key, lambda: False, lambda: None)
    watch.close()
    assert threading.active_count() == before


def test_asking_takes_a_small_share_of_a_core(watch):
    # A question is a message to the server; 5 ms each would fill a core if asked without pauses.
    spent: list[float] = []

    def is_cancelled() -> bool:
        time.sleep(0.005)
        spent.append(0.005)
        return False

    for key in range(10):
        watch.add(key, is_cancelled, lambda: None)
    time.sleep(1.5)
    assert 0 < sum(spent) < 0.2  # rounds of 50 ms, each followed by a pause of a second


class Clock:
    """Time by hand, in seconds."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_named_request_is_cancelled_by_its_name_alone():
    named, calls = NamedRequests(Clock()), []
    named.add("a", lambda: calls.append("a"))
    named.add("b", lambda: calls.append("b"))
    named.cancel("b")
    named.cancel("b")
    assert calls == ["b"]


def test_forgotten_name_cancels_nothing():
    named, calls = NamedRequests(Clock()), []
    forget = named.add("a", lambda: calls.append("a"))
    forget()
    named.cancel("a")
    assert calls == []


def test_older_request_does_not_take_the_name_from_the_newer():
    named, calls = NamedRequests(Clock()), []
    forget = named.add("a", lambda: calls.append("older"))
    named.add("a", lambda: calls.append("newer"))
    forget()
    named.cancel("a")
    assert calls == ["newer"]


@pytest.mark.parametrize(
    ("waited_s", "expected"), [(EARLY_S, ["a"]), (EARLY_S + 1, [])], ids=["soon", "too late"]
)
def test_name_cancelled_early_ends_the_request_that_takes_it(waited_s, expected):
    clock, calls = Clock(), []
    named = NamedRequests(clock)
    named.cancel("a")
    clock.now_s = waited_s
    named.add("a", lambda: calls.append("a"))
    assert calls == expected


def test_empty_name_is_no_name():
    named, calls = NamedRequests(Clock()), []
    named.add("", lambda: calls.append("x"))
    named.cancel("")
    named.add("", lambda: calls.append("y"))
    assert calls == []
