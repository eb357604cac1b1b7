"""Copies go to a shadow beside the real requests, bounded, counted and nobody's."""

import asyncio

import pytest

from clients import Unavailable
from gateway.messages import Usage
from gateway.routing.document import Backend
from gateway.routing.shadow import Shadows
from tests.gateway.caching import caller, request

TRIAL = Backend("trial", "a:1", 0, shadow=1)


def test_copy_is_another_request_of_the_lowest_priority():
    sent = []

    async def send(backend, who, copy):
        sent.append((backend.name, who.tenant, copy.id, copy.prompt, copy.settings))
        return Usage(3, 7)

    async def scenario():
        ends = []
        shadows = Shadows(send, lambda *told: ends.append(told))
        shadows.begin(TRIAL, caller(), request("p", priority=3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return ends

    ends = asyncio.run(scenario())
    assert sent == [("trial", "acme", "shadow-cmpl-1", "p", {"max_tokens": 64, "priority": -8})]
    assert ends == [("trial", "answered", 7)]


def test_copies_are_bounded_and_end_with_the_gateway():
    async def send(*_):
        await asyncio.sleep(60)
        return Usage()

    async def scenario():
        ends = []
        shadows = Shadows(send, lambda *told: ends.append(told), max_running=2)
        for _ in range(5):
            shadows.begin(TRIAL, caller(), request("p"))
        await asyncio.sleep(0)
        running = shadows.num_running
        await shadows.close()
        await asyncio.sleep(0)
        return running, shadows.num_running, ends

    assert asyncio.run(scenario()) == (2, 0, 3 * [("trial", "left_out", 0)])


@pytest.mark.parametrize("error", [Unavailable("gone"), RuntimeError("a fault")], ids=repr)
def test_copy_that_fails_is_counted(error):
    async def send(*_):
        raise error

    async def scenario():
        ends = []
        shadows = Shadows(send, lambda *told: ends.append(told))
        shadows.begin(TRIAL, caller(), request("p"))
        await asyncio.sleep(0.05)
        return ends

    assert asyncio.run(scenario()) == [("trial", "failed", 0)]
