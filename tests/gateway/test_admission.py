"""Admission by a clock that jumps: places, queue, fairness, deadlines, and no count that drifts."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Admission, Crowd
from gateway.errors import Busy, RateLimited, Timeout
from gateway.messages import Caller, KeyLimits
from tests.gateway.virtual_time import run_virtually

EMPTY = Crowd(0, 0, 0)


def caller_of(key_id, max_concurrent=None):
    return Caller(key_id, key_id, key_id, limits=KeyLimits(max_concurrent=max_concurrent))


async def use(admission, caller, seconds, deadline_s=1e6, log=None):
    async with admission.enter(caller, deadline_s):
        if log is not None:
            log.append(caller.key_id)
        await asyncio.sleep(seconds)


def test_no_more_than_the_places_run_at_once():
    async def scenario():
        admission = Admission(2, 10)
        tasks = [asyncio.create_task(use(admission, caller_of("a"), 1)) for _ in range(5)]
        await asyncio.sleep(0.5)
        crowd = admission.crowd
        await asyncio.gather(*tasks)
        return crowd, asyncio.get_running_loop().time(), admission.crowd

    assert run_virtually(scenario()) == (Crowd(2, 3, 1), 3, EMPTY)


def test_full_queue_refuses_at_once():
    async def scenario():
        admission = Admission(1, 1)
        tasks = [asyncio.create_task(use(admission, caller_of("a"), 1)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as caught:
            await use(admission, caller_of("b"), 1)
        await asyncio.gather(*tasks)
        return caught.value.retry_after_s, admission.crowd

    assert run_virtually(scenario()) == (1.0, EMPTY)


@pytest.mark.parametrize(
    ("default", "own", "admitted"),
    [(None, None, 5), (2, None, 2), (2, 3, 3), (3, 2, 2), (3, 0, 0)],
    ids=["no bound", "the default", "own above it", "own below it", "none allowed"],
)
def test_key_has_no_more_requests_at_once_than_it_may(default, own, admitted):
    async def scenario():
        admission = Admission(1, 10, default)
        jobs = (use(admission, caller_of("a", own), 1) for _ in range(5))
        ends = await asyncio.gather(*jobs, return_exceptions=True)
        assert admission.crowd == EMPTY
        assert {type(one) for one in ends} <= {type(None), RateLimited}
        return ends.count(None)

    assert run_virtually(scenario()) == admitted


def test_keys_take_turns_however_many_wait_of_one():
    async def scenario():
        admission, log = Admission(1, 20), []
        keys = ["first", *"aaaaa", *"bb", "c"]
        jobs = (use(admission, caller_of(key), 1, log=log) for key in keys)
        await asyncio.gather(*jobs)
        return log[1:]

    assert "".join(run_virtually(scenario())) == "abcabaaa"


def test_request_that_waits_too_long_leaves_no_trace():
    async def scenario():
        admission = Admission(1, 5)
        first = asyncio.create_task(use(admission, caller_of("a"), 10))
        await asyncio.sleep(0)
        with pytest.raises(Timeout):
            await use(admission, caller_of("b"), 1, deadline_s=3)
        crowd = admission.crowd
        await first
        return crowd, asyncio.get_running_loop().time(), admission.crowd

    assert run_virtually(scenario()) == (Crowd(1, 0, 1), 10, EMPTY)


def test_place_given_to_a_request_that_is_cancelled_at_once_goes_to_the_next():
    async def scenario():
        admission, log = Admission(1, 5), []
        async with admission.enter(caller_of("a"), 1):
            second, third = (
                asyncio.create_task(use(admission, caller_of(key), 1, log=log)) for key in "bc"
            )
            await asyncio.sleep(0.5)
        assert admission.crowd == Crowd(1, 1, 2)  # it is the second's, which doesn't know it yet
        second.cancel()
        await asyncio.wait([second, third])
        return log, admission.crowd

    assert run_virtually(scenario()) == (["c"], EMPTY)


def test_block_gets_the_seconds_that_it_waited():
    async def scenario():
        admission = Admission(1, 1)
        first = asyncio.create_task(use(admission, caller_of("a"), 2))
        await asyncio.sleep(0.5)
        async with admission.enter(caller_of("a"), 5) as waited_s:
            await first
        return waited_s

    assert run_virtually(scenario()) == 1.5


LIVES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 4),  # when it comes
        st.integers(0, 3),  # how long it runs
        st.sampled_from([1, 2, 3, 1000]),  # how long it waits at most
        st.none() | st.integers(0, 6),  # when it is cancelled
        st.booleans(),  # whether its work fails
    ),
    max_size=12,
)


@given(
    lives=LIVES,
    places=st.integers(1, 3),
    queue=st.integers(0, 4),
    at_once=st.none() | st.integers(1, 3),
)
def test_counts_never_drift_and_no_place_stays_free_while_somebody_waits(
    lives, places, queue, at_once
):
    running = set()

    async def live(admission, number, life):
        key, comes, runs, waits, _, fails = life
        await asyncio.sleep(comes)
        with suppress(Busy, RateLimited, Timeout, ZeroDivisionError):
            async with admission.enter(caller_of(key), waits):
                running.add(number)
                try:
                    await asyncio.sleep(runs)
                    assert not fails or 1 / 0
                finally:
                    running.remove(number)

    async def watch(admission):
        while True:
            crowd = admission.crowd
            assert len(running) <= places
            assert crowd.running <= places
            assert crowd.waiting <= queue
            assert not crowd.waiting or crowd.running == places
            await asyncio.sleep(0.5)

    async def scenario():
        admission = Admission(places, queue, at_once)
        loop, tasks = asyncio.get_running_loop(), []
        for number, life in enumerate(lives):
            tasks.append(loop.create_task(live(admission, number, life)))
            if life[4] is not None:
                loop.call_later(life[4], tasks[-1].cancel)
        watcher = loop.create_task(watch(admission))
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        watcher.cancel()
        await asyncio.wait([watcher])
        assert watcher.cancelled()
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
        assert admission.crowd == EMPTY
        async with admission.enter(caller_of("a"), 1):
            assert admission.crowd == Crowd(1, 0, 1)

    run_virtually(scenario())
