"""Texts kept by key: in memory, bounded in bytes and in age, or that before a shared Redis.

Comes in: a whole key and its text. Goes out: the text, or None. Never raises for a Redis that is
gone: memory serves alone then. Knows nothing of requests.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Protocol

from cachetools import TTLCache

from gateway.redis_link import RedisLink

# A dictionary's entry, the links of age and of use, and a tuple (measured: 480 to 560 bytes).
ENTRY_BYTES = 560
MAX_SHARE = 8  # one entry takes at most this part of the memory
REDIS_PREFIX = "nanotriton:cache:1:"  # the number is that of the values' form


class Store(Protocol):
    """What the caches need."""

    async def get(self, *keys: str) -> list[str | None]:
        """The text of each key."""

    async def put(self, key: str, text: str) -> None:
        """Keep a text for a while, if there is room."""


class MemoryStore:
    """The texts used last, at most `max_bytes` of them with their keys, for `ttl_s` seconds."""

    def __init__(
        self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes = max_bytes
        self._texts: TTLCache[str, tuple[str, int]] = TTLCache(
            max_bytes, ttl_s, timer=clock, getsizeof=lambda entry: entry[1]
        )

    def __len__(self) -> int:
        """How many texts are kept."""
        return len(self._texts)

    @property
    def num_bytes(self) -> int:
        """What they take."""
        return int(self._texts.currsize)

    async def get(self, *keys: str) -> list[str | None]:
        """The text of each key."""
        found = (self._texts.get(key) for key in keys)
        return [None if entry is None else entry[0] for entry in found]

    async def put(self, key: str, text: str) -> None:
        """Keep a text; one that would drive out too many others is left out."""
        num_bytes = sys.getsizeof(key) + sys.getsizeof(text) + ENTRY_BYTES
        if num_bytes * MAX_SHARE <= self.max_bytes:
            self._texts[key] = text, num_bytes


class SharedStore:
    """Memory first, then the Redis that gateways share, where the key's hash finds the entry.

    The whole key lies beside the text and is compared, so that no two keys ever meet. What came
    from Redis is kept in memory too, for at most the same time again.
    """

    def __init__(self, near: MemoryStore, link: RedisLink, ttl_s: float) -> None:
        self._near = near
        self._link = link
        self._ttl_ms = max(1, round(ttl_s * 1000))

    async def get(self, *keys: str) -> list[str | None]:
        """The text of each key; asks Redis once for all that memory lacks."""
        texts = await self._near.get(*keys)
        missing = [index for index, text in enumerate(texts) if text is None]
        if not missing:
            return texts
        names = [redis_name(keys[index]) for index in missing]
        found: list[bytes | str | None] = await self._link.run(lambda redis: redis.mget(names), [])
        for index, value in zip(missing, found, strict=False):  # none at all without Redis
            text = text_in(value, keys[index])
            if text is not None:
                texts[index] = text
                await self._near.put(keys[index], text)
        return texts

    async def put(self, key: str, text: str) -> None:
        """Keep a text in both."""
        await self._near.put(key, text)
        name, value = redis_name(key), json.dumps([key, text])
        await self._link.run(lambda redis: redis.set(name, value, px=self._ttl_ms), None)


def redis_name(key: str) -> str:
    """Where Redis has a key's entry: of one length, whatever the prompt's."""
    return REDIS_PREFIX + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def text_in(value: bytes | str | None, key: str) -> str | None:
    """The text of an entry of Redis; None unless it is whole and of exactly this key."""
    try:
        kept, text = json.loads(value or b"[null, null]")
    except (ValueError, TypeError):
        return None  # somebody else's
    return text if kept == key and isinstance(text, str) else None
