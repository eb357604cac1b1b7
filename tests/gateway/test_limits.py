"""RateLimiter: its arithmetic by a clock of the test's own, its sharing through a real Redis."""

import asyncio
import subprocess
import sys
from collections import defaultdict
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RateLimited
from gateway.limits import RateLimiter
from gateway.messages import Caller, KeyLimits
from gateway.redis_link import RETRY_S, RedisLink
from gateway.windows import WINDOW_S
from tests.gateway.redis_server import running_redis

LIMIT = 100
NOBODY = KeyLimits()


class Clock:
    """Seconds that a test moves, for the limiter and for the library's memory alike."""

    def __init__(self) -> None:
        self.now = 1_700_000_040.0  # a minute's first second

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    # The library's memory reads the wall clock, and takes no other.
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=clock))
    return clock


def caller_of(key_id="a", **own):
    return Caller(key_id, "nt_a", "tenant", limits=KeyLimits(**own))


def limiter_of(clock, link=None, **defaults):
    return RateLimiter(KeyLimits(**defaults), link, clock=clock)


async def admits(limiter, caller, tokens):
    try:
        await limiter.take(caller, tokens)
    except RateLimited:
        return False
    return True


@pytest.mark.parametrize(
    ("default", "own", "admitted"),
    [
        pytest.param(None, None, 6, id="no limit at all"),
        pytest.param(2, None, 2, id="the default"),
        pytest.param(2, 4, 4, id="the key's own above it"),
        pytest.param(4, 2, 2, id="the key's own below it"),
        pytest.param(4, 0, 0, id="none allowed"),
    ],
)
def test_key_uses_its_own_limit_before_the_default(clock, default, own, admitted):
    async def scenario():
        limiter = limiter_of(clock, requests_per_minute=default)
        caller = caller_of(requests_per_minute=own)
        return [await admits(limiter, caller, 1) for _ in range(6)]

    assert sum(asyncio.run(scenario())) == admitted


def test_keys_have_counts_of_their_own(clock):
    async def scenario():
        limiter = limiter_of(clock, requests_per_minute=1)
        return [await admits(limiter, caller_of(key), 1) for key in ("a", "a", "b")]

    assert asyncio.run(scenario()) == [True, False, True]


def test_refused_tokens_count_no_request(clock):
    async def scenario():
        limiter = limiter_of(clock, requests_per_minute=1, tokens_per_minute=LIMIT)
        return [await admits(limiter, caller_of(), tokens) for tokens in (LIMIT + 1, LIMIT)]

    assert asyncio.run(scenario()) == [False, True]


def test_unused_tokens_are_given_back(clock):
    async def scenario():
        limiter = limiter_of(clock, tokens_per_minute=LIMIT)
        first = await limiter.take(caller_of(), LIMIT)
        await limiter.settle(first, 10)
        return [await admits(limiter, caller_of(), tokens) for tokens in (91, 90)]

    assert asyncio.run(scenario()) == [False, True]


def test_tokens_beyond_the_reserved_ones_count_too(clock):
    async def scenario():
        limiter = limiter_of(clock, tokens_per_minute=LIMIT)
        first = await limiter.take(caller_of(), 10)
        await limiter.settle(first, 60)
        return [await admits(limiter, caller_of(), tokens) for tokens in (41, 40)]

    assert asyncio.run(scenario()) == [False, True]


def test_tokens_of_the_minute_before_are_not_given_back_to_this_one(clock):
    async def scenario():
        limiter = limiter_of(clock, tokens_per_minute=LIMIT)
        first = await limiter.take(caller_of(), LIMIT)
        clock.now += 2 * WINDOW_S
        await limiter.settle(first, 0)
        return [await admits(limiter, caller_of(), tokens) for tokens in (LIMIT, 1)]

    assert asyncio.run(scenario()) == [True, False]


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0], ids=["back", "ahead"])
def test_clock_that_jumps_locks_nobody_out(clock, jump_s):
    async def scenario():
        limiter = limiter_of(clock, tokens_per_minute=LIMIT)
        first = await limiter.take(caller_of(), LIMIT)
        clock.now += jump_s
        await limiter.settle(first, 50)
        return [await admits(limiter, caller_of(), tokens) for tokens in (LIMIT, 1)]

    assert asyncio.run(scenario()) == [True, False]


def test_headers_tell_limit_rest_and_reset(clock):
    async def scenario():
        limiter = limiter_of(clock, requests_per_minute=3, tokens_per_minute=LIMIT)
        return (await limiter.take(caller_of(), 30)).headers()

    assert asyncio.run(scenario()) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "120.000s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "70",
        "x-ratelimit-reset-tokens": "120.000s",
    }


def test_refusal_tells_value_limit_and_mend(clock):
    async def scenario():
        limiter = limiter_of(clock, tokens_per_minute=LIMIT)
        with pytest.raises(RateLimited) as caught:
            await limiter.take(caller_of(), LIMIT + 1)
        return caught.value

    refusal = asyncio.run(scenario())
    assert refusal.retry_after_s is None
    assert refusal.code == "tokens_per_minute"
    assert refusal.headers["x-ratelimit-remaining-tokens"] == "100"
    assert refusal.message == (
        "the request may take 101 tokens, prompt and max_tokens together, and the key has "
        "100 of 100 a minute left: lower max_tokens or shorten the prompt"
    )


SPENDING = st.lists(
    st.tuples(
        st.sampled_from([0, 7, 30, 65]),  # seconds since the request before
        st.integers(1, 4).map(lambda part: part * LIMIT // 4),  # tokens reserved
        st.integers(0, 5).map(lambda part: part * LIMIT // 4),  # tokens used
        st.sampled_from([0, 7, 65, 130]),  # seconds that it runs
    ),
    max_size=20,
)


@given(spending=SPENDING)
def test_requests_of_one_minute_use_the_limit_and_what_outran_its_reservation(spending):
    used, outran = defaultdict(int), defaultdict(int)

    async def scenario(clock):
        limiter = limiter_of(clock, tokens_per_minute=LIMIT)
        running = []
        for pause_s, reserved, spent, runs_s in spending:
            clock.now += pause_s
            for one in [one for one in running if one[0] <= clock.now]:
                running.remove(one)
                await limiter.settle(*one[1:])
            minute = clock.now // WINDOW_S
            try:
                allowance = await limiter.take(caller_of(), reserved)
            except RateLimited:
                continue
            used[minute] += spent
            outran[minute] += max(0, spent - reserved)
            running.append((clock.now + runs_s, allowance, spent))

    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=clock))
        asyncio.run(scenario(clock))
    assert all(used[minute] <= LIMIT + outran[minute] for minute in used)


@given(spending=SPENDING, asked=st.integers(1, LIMIT))
def test_request_fits_after_its_retry_after(spending, asked):
    async def scenario(clock):
        limiter = limiter_of(clock, tokens_per_minute=LIMIT)
        for pause_s, reserved, *_ in spending:
            clock.now += pause_s
            await admits(limiter, caller_of(), reserved)
        try:
            await limiter.take(caller_of(), asked)
        except RateLimited as refusal:
            clock.now += refusal.retry_after_s
            await limiter.take(caller_of(), asked)

    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=clock))
        asyncio.run(scenario(clock))


@pytest.fixture
def redis(tmp_path):
    with running_redis(tmp_path) as server:
        yield server


def test_redis_counts_as_memory_does(redis):
    async def scenario():
        link = RedisLink(redis.url, timeout_s=5)
        limiter = RateLimiter(KeyLimits(requests_per_minute=3, tokens_per_minute=LIMIT), link)
        first = await limiter.take(caller_of(), LIMIT)
        with pytest.raises(RateLimited) as caught:
            await limiter.take(caller_of(), 1)
        await limiter.settle(first, 10)
        second = await limiter.take(caller_of(), 90)
        await link.close()
        return caught.value, second.headers()

    refusal, headers = asyncio.run(scenario())
    assert WINDOW_S < refusal.retry_after_s < 2 * WINDOW_S
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert headers["x-ratelimit-remaining-tokens"] == "0"


GREEDY = """
import asyncio, sys
from gateway.errors import RateLimited
from gateway.limits import RateLimiter
from gateway.messages import Caller, KeyLimits
from gateway.redis_link import RedisLink

async def spend(limiter, caller):
    try:
        await limiter.take(caller, 7)
    except RateLimited:
        return 0
    return 7

async def main():
    link = RedisLink(sys.argv[1], timeout_s=20)
    limiter = RateLimiter(KeyLimits(tokens_per_minute=1000), link)
    spent = await asyncio.gather(*(spend(limiter, Caller("a", "a", "a")) for _ in range(200)))
    assert link.is_up
    print(sum(spent))
    await link.close()

asyncio.run(main())
"""


def test_two_gateways_on_one_redis_share_a_limit(redis):
    command = [sys.executable, "-c", GREEDY, redis.url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    spent = [int(one.communicate(timeout=100)[0]) for one in both]
    assert sum(spent) == 1000 // 7 * 7


def test_limits_hold_in_memory_while_redis_is_away_and_in_redis_again_after(redis):
    async def scenario():
        clock = Clock()
        link = RedisLink(redis.url, timeout_s=5, clock=clock)
        limiter = RateLimiter(KeyLimits(requests_per_minute=1), link)
        redis.kill()
        admitted = [await admits(limiter, caller_of(), 1) for _ in range(2)]
        assert not link.is_up
        redis.start()
        clock.now += RETRY_S
        admitted += [await admits(limiter, caller_of(), 1) for _ in range(2)]
        assert link.is_up
        await link.close()
        return admitted

    assert asyncio.run(scenario()) == [True, False, True, False]


def test_tokens_reserved_in_a_redis_that_went_are_let_be(redis):
    async def scenario():
        link = RedisLink(redis.url)
        limiter = RateLimiter(KeyLimits(tokens_per_minute=LIMIT), link)
        allowance = await limiter.take(caller_of(), LIMIT)
        redis.kill()
        await limiter.settle(allowance, 10)
        assert await admits(limiter, caller_of(), LIMIT)  # this process counts from zero
        await link.close()

    asyncio.run(scenario())


def test_redis_that_hangs_holds_up_no_request_for_long(redis):
    async def scenario():
        link = RedisLink(redis.url)
        limiter = RateLimiter(KeyLimits(requests_per_minute=2), link)
        redis.freeze()
        together = asyncio.gather(*(admits(limiter, caller_of(), 1) for _ in range(200)))
        admitted = await asyncio.wait_for(together, 20)
        assert not link.is_up
        await link.close()
        return sum(admitted)

    assert asyncio.run(scenario()) == 2
