"""Stores keep what there is room for, and go on without Redis."""

import asyncio
import json
import tracemalloc

import pytest
from redis import Redis

from gateway.caches.store import MemoryStore, SharedStore, redis_name
from gateway.redis_link import RedisLink
from tests.gateway.redis_server import running_redis


class Clock:
    """Seconds that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def redis(tmp_path):
    with running_redis(tmp_path) as server:
        yield server


def near() -> MemoryStore:
    return MemoryStore(1 << 20, 60)


def test_text_is_forgotten_after_its_time():
    async def scenario():
        store = MemoryStore(1 << 20, 60, clock := Clock())
        await store.put("key", "text")
        clock.now_s = 59.9
        before = await store.get("key")
        clock.now_s = 60.1
        return before, await store.get("key"), len(store)

    assert asyncio.run(scenario()) == (["text"], [None], 0)


def test_text_used_longest_ago_goes_first():
    async def scenario():
        store = MemoryStore(16_000, 60)
        for index in range(20):
            await store.put(f"key {index}", "x" * 600)
            await store.get("key 0")
        return await store.get("key 0", "key 1", "key 19")

    first, second, last = asyncio.run(scenario())
    assert (first, second, last) == ("x" * 600, None, "x" * 600)


@pytest.mark.parametrize("length", [1, 100, 10_000])
@pytest.mark.parametrize("letter", ["x", "é", "語", "😀"])
def test_memory_stays_within_its_bound(length: int, letter: str):
    async def scenario():
        store = MemoryStore(1 << 20, 60)
        for index in range(3000):
            await store.put(f"{index:8}" + letter * length, letter * length)
        return store

    tracemalloc.start()
    store = asyncio.run(scenario())
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(store) > 0
    assert used_bytes < 1.1 * store.max_bytes


def test_text_too_large_drives_nothing_out():
    async def scenario():
        store = MemoryStore(8_000, 60)
        await store.put("small", "text")
        await store.put("large", "x" * 4_000)
        return await store.get("small", "large")

    assert asyncio.run(scenario()) == ["text", None]


def test_gateways_share_texts_through_redis(redis):
    async def scenario():
        link = RedisLink(redis.url)
        writer, reader = SharedStore(near(), link, 60), SharedStore(near(), link, 60)
        await writer.put("a\ud800", "text")
        texts = await reader.get("b", "a\ud800")
        await link.close()
        return texts

    assert asyncio.run(scenario()) == [None, "text"]


def test_text_leaves_redis_after_its_time(redis):
    async def scenario():
        link = RedisLink(redis.url)
        await SharedStore(near(), link, 0.2).put("key", "text")
        await asyncio.sleep(0.4)
        texts = await SharedStore(near(), link, 0.2).get("key")
        await link.close()
        return texts

    assert asyncio.run(scenario()) == [None]


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(["another key", "text"]),
        json.dumps(["key", 1]),
        json.dumps({"key": "text"}),
        "1",
        "not JSON",
        b"\xff\xfe",
    ],
)
def test_entry_of_another_key_with_the_same_hash_is_not_served(redis, value):
    with Redis.from_url(redis.url) as client:
        client.set(redis_name("key"), value)

    async def scenario():
        link = RedisLink(redis.url)
        texts = await SharedStore(near(), link, 60).get("key")
        await link.close()
        return texts

    assert asyncio.run(scenario()) == [None]


def test_memory_serves_alone_while_redis_is_gone(redis):
    async def scenario():
        link = RedisLink(redis.url)
        store = SharedStore(near(), link, 60)
        await store.put("before", "1")
        redis.kill()
        await store.put("after", "2")
        texts = await store.get("before", "after", "never")
        await link.close()
        return texts

    assert asyncio.run(scenario()) == ["1", "2", None]
