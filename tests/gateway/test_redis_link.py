"""RedisLink against a real Redis that goes, hangs and comes back."""

import asyncio
import time

import pytest
from redis.asyncio import Redis
from running import free_ports

from gateway.redis_link import MAX_CALLS, RETRY_S, RedisLink
from tests.gateway.redis_server import RedisServer, running_redis


@pytest.fixture
def redis(tmp_path):
    with running_redis(tmp_path) as server:
        yield server


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def count(client: Redis) -> int:
    return int(await client.incr("count"))


@pytest.mark.parametrize("away", [RedisServer.kill, RedisServer.freeze], ids=["killed", "frozen"])
def test_default_comes_while_redis_is_away(redis, away):
    async def scenario():
        link = RedisLink(redis.url)
        assert await link.run(count, -1) == 1
        away(redis)
        assert await asyncio.wait_for(link.run(count, -1), 5) == -1
        assert not link.is_up
        await link.close()

    asyncio.run(scenario())


def test_redis_is_used_again_once_it_is_back(redis):
    async def scenario():
        clock = Clock()
        link = RedisLink(redis.url, clock=clock)
        redis.kill()
        assert await link.run(count, -1) == -1
        redis.start()
        assert await link.run(count, -1) == -1  # it isn't time yet
        clock.now += RETRY_S
        assert await link.run(count, -1) == 1
        assert link.is_up
        await link.close()

    asyncio.run(scenario())


def test_one_call_finds_out_whether_a_frozen_redis_is_back(redis):
    async def scenario():
        clock = Clock()
        link = RedisLink(redis.url, clock=clock)
        redis.freeze()
        await link.run(count, -1)
        clock.now += RETRY_S
        tries = []

        async def note(client):
            tries.append(client)
            return await count(client)

        assert await asyncio.gather(*(link.run(note, -1) for _ in range(50))) == [-1] * 50
        assert len(tries) == 1
        await link.close()

    asyncio.run(scenario())


def test_call_that_timed_out_leaves_no_answer_for_the_next(redis):
    async def scenario():
        clock = Clock()
        link = RedisLink(redis.url, clock=clock)
        await link.run(lambda client: client.set("text", "late"), None)
        redis.freeze()
        assert await link.run(lambda client: client.get("text"), None) is None
        redis.thaw()
        clock.now += RETRY_S
        assert await link.run(count, -1) == 1
        await link.close()

    asyncio.run(scenario())


def test_more_calls_than_connections_wait_for_their_turn(redis):
    async def scenario():
        link = RedisLink(redis.url, timeout_s=5)
        counts = await asyncio.gather(*(link.run(count, -1) for _ in range(4 * MAX_CALLS)))
        assert sorted(counts) == list(range(1, 4 * MAX_CALLS + 1))
        clients = await link.run(lambda client: client.info("clients"), {})
        assert clients["connected_clients"] <= MAX_CALLS
        await link.close()

    asyncio.run(scenario())


def test_error_of_the_call_itself_comes_through(redis):
    async def fail(_client):
        raise LookupError("the call's own")

    async def scenario():
        link = RedisLink(redis.url)
        with pytest.raises(LookupError):
            await link.run(fail, None)
        assert link.is_up
        await link.close()

    asyncio.run(scenario())


def test_closed_port_costs_no_more_than_the_timeout():
    async def scenario():
        link = RedisLink(f"redis://127.0.0.1:{free_ports(1)[0]}")
        started = time.monotonic()
        assert await link.run(count, -1) == -1
        assert time.monotonic() - started < 5
        await link.close()

    asyncio.run(scenario())
