"""Breaker by a clock of the test's own, and once over a port that is really closed."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from running import free_ports

import clients
from gateway.breaker import PROBE_AGAIN_S, Breaker, Patience
from gateway.errors import Unavailable

PATIENCE = Patience(min_failures=3, max_ratio=0.5, open_s=1, max_open_s=4, slow_s=5)
FAILED = clients.Unavailable("gone")


class World:
    """A breaker, its clock and the states that it told."""

    def __init__(self, random=0.0):
        self.now = 100.0
        self.told = []
        self.breaker = Breaker(
            PATIENCE, on_change=self.told.append, clock=lambda: self.now, random=lambda: random
        )

    def call(self, error=None, takes_s=0.0, answers=False):
        """One call from its beginning to its end."""

        async def guarded():
            async with self.breaker.guard() as call:
                self.now += takes_s
                if answers:
                    call.answered()
                if error:
                    raise error

        asyncio.run(guarded())

    def fail(self, times=1, error=FAILED, **how):
        for _ in range(times):
            with pytest.raises(type(error)):
                self.call(error, **how)

    def refusal(self):
        with pytest.raises(Unavailable) as caught:
            self.call()
        return caught.value.retry_after_s


def test_open_breaker_refuses_until_its_time_is_over_and_closes_after_a_good_probe():
    world = World()
    world.fail(3)
    world.now += 0.25
    assert (world.breaker.state, world.refusal()) == ("open", 0.75)
    world.now += 0.75
    world.call()
    assert world.told == ["open", "half-open", "closed"]


def test_few_failures_among_many_good_calls_open_nothing():
    world = World()
    for _ in range(20):
        world.call()
    world.fail(19)
    assert world.breaker.state == "closed"
    world.fail(1)
    assert world.breaker.state == "open"


def test_failures_of_long_ago_do_not_count():
    world = World()
    world.fail(2)
    world.now += PATIENCE.window_s
    world.fail(2)
    assert world.breaker.state == "closed"


def test_breaker_stays_open_longer_each_time_up_to_a_cap():
    world, pauses = World(), []
    world.fail(3)
    for _ in range(4):
        pauses.append(world.refusal())
        world.now += pauses[-1]
        world.fail()
    assert pauses == [1, 2, 4, 4]


def test_pause_is_shortened_by_up_to_a_half():
    world = World(random=0.5)
    world.fail(3)
    assert world.refusal() == 0.75


@pytest.mark.parametrize(
    ("error", "how", "state"),
    [
        pytest.param(clients.Unavailable("x"), {}, "open", id="no connection"),
        pytest.param(clients.ServerError("x"), {}, "open", id="server's failure"),
        pytest.param(
            clients.ServerError("x"), {"answers": True}, "open", id="failure in an answer"
        ),
        pytest.param(clients.Timeout("x"), {"takes_s": 5}, "open", id="slow"),
        pytest.param(clients.Timeout("x"), {"takes_s": 4}, "closed", id="caller in a hurry"),
        pytest.param(
            clients.Timeout("x"), {"takes_s": 5, "answers": True}, "closed", id="long answer"
        ),
        pytest.param(clients.InvalidRequest("x"), {}, "closed", id="bad request"),
        pytest.param(asyncio.CancelledError(), {}, "closed", id="cancelled"),
        pytest.param(GeneratorExit(), {}, "closed", id="reader gone"),
    ],
)
def test_only_failures_of_the_server_open_it(error, how, state):
    world = World()
    for _ in range(6 if state == "closed" else 3):
        world.fail(error=error, **how)
    assert world.breaker.state == state
    if state == "closed":
        world.call()


def test_one_probe_at_a_time_and_the_next_after_one_that_was_cancelled():
    world = World()
    world.fail(3)
    world.now += 1

    async def scenario():
        probe = world.breaker.guard()
        await probe.__aenter__()
        with pytest.raises(Unavailable) as caught:
            await world.breaker.guard().__aenter__()
        await probe.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)
        return caught.value.retry_after_s

    assert asyncio.run(scenario()) == PROBE_AGAIN_S
    assert world.breaker.state == "half-open"
    world.call()
    assert world.breaker.state == "closed"


def test_probe_closes_it_with_its_first_text():
    world = World()
    world.fail(3)
    world.now += 1

    async def scenario():
        async with world.breaker.guard() as probe:
            probe.answered()
            async with world.breaker.guard():
                return world.breaker.state

    assert asyncio.run(scenario()) == "closed"


ENDS = [None, FAILED, asyncio.CancelledError("ended"), clients.InvalidRequest("x")]


class AnyOrder(RuleBasedStateMachine):
    """Calls that begin and end in any order: what must hold whatever happened before."""

    def __init__(self):
        super().__init__()
        self.world = World(random=0.3)
        self.loop = asyncio.new_event_loop()
        self.under_way = []  # each with how much was told before it began

    @rule(seconds=st.sampled_from([0.2, 1, 5, 31]))
    def wait(self, seconds):
        self.world.now += seconds

    @rule()
    def begin(self):
        before = self.world.breaker.state
        guard = self.world.breaker.guard()
        try:
            self.loop.run_until_complete(guard.__aenter__())
        except Unavailable as refusal:
            again_s = refusal.retry_after_s
        else:
            again_s = None
        era = len(self.world.told)
        if again_s is None:
            is_probe = self.world.breaker.state == "half-open"
            assert not is_probe or era not in {began for _, began in self.under_way}
            self.under_way.append((guard, era))
        else:
            assert before != "closed"
            assert 0 < again_s <= PATIENCE.max_open_s

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 99), error=st.sampled_from(ENDS))
    def end(self, which, error):
        guard, era = self.under_way.pop(which % len(self.under_way))
        told = len(self.world.told)
        self.leave(guard, error)
        for state in self.world.told[told:]:
            assert era == told  # a call of an earlier state changes nothing
            assert error is {"open": FAILED, "closed": None}[state]

    def leave(self, guard, error):
        kind = type(error) if error else None
        is_swallowed = self.loop.run_until_complete(guard.__aexit__(kind, error, None))
        assert not is_swallowed

    def teardown(self):
        """Whatever happened, it recovers: time, and one good call."""
        for guard, _ in self.under_way:
            self.leave(guard, asyncio.CancelledError())
        self.loop.close()
        self.world.now += PATIENCE.max_open_s
        self.world.call()
        assert self.world.breaker.state == "closed"


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAnyOrder = AnyOrder.TestCase


def test_calls_to_a_closed_port_open_it_and_then_nobody_calls():
    url = f"127.0.0.1:{free_ports(1)[0]}"

    async def scenario():
        breaker = Breaker(PATIENCE)
        async with clients.AsyncCompletionClient(url, retries=0, timeout_s=5) as client:
            for _ in range(3):
                with pytest.raises(clients.Unavailable):
                    async with breaker.guard():
                        await client.complete("x")
        with pytest.raises(Unavailable):
            async with breaker.guard():
                raise AssertionError("it isn't called")

    asyncio.run(scenario())
