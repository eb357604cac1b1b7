"""A peer that sends and never reads: what waits for it is bounded, then its requests end."""

from pathlib import Path

import pytest
import zmq
from driving import Inbox, engine_service
from running import wait_until

from nanotriton.engine.outbox import MAX_UNREAD_FRAMES
from nanotriton.engine.protocol import is_final_message, pack, unpack
from nanotriton.engine.request import Settings

NUM_REQUESTS = 240
ASKED = {"max_tokens": 60, "ignore_eos": True}
URGENT = Settings(max_tokens=3, ignore_eos=True, priority=8)


@pytest.fixture
def service(artifact_of):
    """An engine that makes thousands of steps a second."""
    words = ("--speculation", "off", "--max-slots", "2", "--stream-interval-ms", "0")
    with engine_service(artifact_of("fp32"), *words) as one:
        yield one


@pytest.fixture
def unreading(service):
    """A bare socket that takes no more than it must."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger, dealer.rcvhwm, dealer.rcvtimeo = 0, 1, 5000
        dealer.connect(f"ipc://{service.path}")
        yield dealer


def submit_many(dealer):
    """Requests whose answers are more frames than may wait unread."""
    messages = [
        {"op": "submit", "id": one, "prompt": [70, 71, one % 200], "settings": ASKED}
        for one in range(NUM_REQUESTS)
    ]
    dealer.send(pack(messages))


def num_unread(client):
    """Requests that ended because nobody read."""
    samples = {(name, str(labels)): value for name, labels, value in client.stats()["samples"]}
    return samples.get(("requests_total", str([["outcome", "unread"]])), 0)


def resident_mb(pid):
    """Memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def read_all(dealer, num_finals):
    """Every answer until so many were final; their number and the finals by request."""
    num_answers, finals = 0, {}
    while len(finals) < num_finals:
        for message in unpack(dealer.recv()):
            num_answers += 1
            if is_final_message(message):
                assert message["id"] not in finals
                finals[message["id"]] = message
    return num_answers, finals


def test_requests_of_a_peer_that_reads_nothing_end_and_it_is_told_at_last(service, unreading):
    client = service.client()
    pid, before = client.stats()["pid"], resident_mb(client.stats()["pid"])
    submit_many(unreading)
    wait_until(lambda: num_unread(client) > 0, 30)
    stats = client.stats()
    assert (stats["num_running"], stats["num_waiting"]) == (0, 0)
    assert resident_mb(pid) - before < 60

    num_answers, finals = read_all(unreading, NUM_REQUESTS)

    lost = [one for one in finals.values() if one["op"] == "failure"]
    assert {one["status"] for one in lost} == {"UNAVAILABLE"}
    assert str(MAX_UNREAD_FRAMES) in lost[0]["message"]
    assert len(lost) >= num_unread(client)
    assert num_answers > MAX_UNREAD_FRAMES
    unreading.send(pack([{"op": "submit", "id": 999, "prompt": [70], "settings": ASKED}]))
    assert read_all(unreading, 1)[1][999]["finish_reason"] == "length"


def test_others_are_served_beside_it(service, unreading):
    client = service.client()
    submit_many(unreading)
    while num_unread(client) == 0:
        inbox = Inbox()
        client.submit([70, 71], URGENT, inbox)
        assert inbox.wait().reason == "length"
