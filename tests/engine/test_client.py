"""The client against the real engine process over the demo model."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import zmq
from driving import Inbox
from running import wait_until

from nanotriton.engine.client import EngineClient
from nanotriton.engine.events import TokenEvent
from nanotriton.engine.protocol import PROTOCOL_VERSION, pack, unpack
from nanotriton.engine.request import Settings
from nanotriton.errors import InvalidRequest, Unavailable
from nanotriton.tokenizer import load_tokenizer

PROMPT = [100, 200, 300]
LONG = Settings(max_tokens=500, ignore_eos=True)


def submit(client, prompt=PROMPT, settings=LONG):
    """Send a request; where its events arrive."""
    inbox = Inbox()
    client.submit(prompt, settings, inbox)
    return inbox


@pytest.fixture
def lonely_client(tmp_path):
    """A client for a path where no engine listens."""
    client = EngineClient(tmp_path / "none.sock")
    yield client
    client.close()


@pytest.fixture
def dealer(service):
    """A bare socket to the engine, without the client's care."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.rcvtimeo = 10_000
        socket.connect(f"ipc://{service.path}")
        yield socket


def test_completion_arrives_with_its_text_and_usage(service, engine_folder):
    found = submit(service.client(), settings=Settings(max_tokens=8, ignore_eos=True)).wait()
    assert found.reason == "length"
    assert found.text == load_tokenizer(engine_folder).decode(found.tokens)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (3, 8)


def test_refusal_arrives_with_its_kind_and_words(service):
    found = submit(service.client(), prompt=[99_999]).wait()
    assert isinstance(found.error, InvalidRequest)
    assert str(found.error).startswith("token ids run from 99999 to 99999, the vocabulary from 0")


def test_stats_name_the_process_and_its_protocol(service):
    stats = service.client().stats()
    assert Path(f"/proc/{stats['pid']}/cmdline").read_bytes().count(b"nanotriton.engine.process")
    assert (stats["protocol"], stats["num_slots"], stats["context"]) == (PROTOCOL_VERSION, 4, 512)


def test_cancelled_request_ends_early_and_frees_its_slot(service):
    client, inbox = service.client(), Inbox()
    request_id = client.submit(PROMPT, LONG, inbox)
    inbox.wait_started()
    client.cancel(request_id)
    found = inbox.wait()
    assert found.reason == "cancelled"
    assert 0 < found.usage.completion_tokens < LONG.max_tokens
    assert client.stats()["num_free_slots"] == 4


def test_cancel_of_an_ended_request_is_silent(service):
    client, inbox = service.client(), Inbox()
    request_id = client.submit(PROMPT, Settings(max_tokens=1), inbox)
    inbox.wait()
    client.cancel(request_id)
    client.cancel(10**9)
    assert client.stats()["num_running"] == 0
    assert len(inbox.events) == 1


def test_client_that_goes_away_frees_its_slots(service):
    watcher, leaver = service.client(), EngineClient(service.path)
    leaver.wait_ready(20)
    before = watcher.stats()["num_tokens"]
    inboxes = [submit(leaver) for _ in range(6)]  # four run, two wait
    inboxes[3].wait_started()
    leaver.close()
    wait_until(lambda: watcher.stats()["num_free_slots"] == 4, 5)
    assert watcher.stats()["num_waiting"] == 0
    assert watcher.stats()["num_tokens"] - before < 4 * LONG.max_tokens
    assert all(isinstance(one.wait(1).error, Unavailable) for one in inboxes)


def test_many_threads_share_one_client(service):
    client = service.client()
    inboxes: list[Inbox] = []

    def work() -> None:
        inboxes.extend(submit(client, settings=Settings(max_tokens=4)) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inboxes) == 80
    assert {one.wait().usage.completion_tokens for one in inboxes} == {4}


def test_callback_that_raises_harms_no_other_request(service, capfd):
    client = service.client()

    def fail(_event: object) -> None:
        raise ZeroDivisionError

    client.submit(PROMPT, Settings(max_tokens=2), fail)
    assert submit(client, settings=Settings(max_tokens=2)).wait().reason
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_slow_reader_hears_of_several_steps_at_once_and_misses_nothing(service):
    slow = Inbox()

    def read_slowly(event: TokenEvent) -> None:
        time.sleep(0.05)
        slow(event)

    service.client().submit(PROMPT, LONG, read_slowly)
    fast = submit(service.client()).wait()
    assert slow.wait() == fast
    assert len(slow.events) < len(fast.tokens) / 2


def test_request_while_nobody_listens_fails_at_once(lonely_client):
    started = time.monotonic()
    found = submit(lonely_client).wait()
    assert time.monotonic() - started < 1
    assert isinstance(found.error, Unavailable)
    assert "the engine is starting: send the request again" in str(found.error)


def test_stats_while_nobody_listens_fail_at_once(lonely_client):
    with pytest.raises(Unavailable, match="the engine is starting"):
        lonely_client.stats()


def test_waiting_for_an_engine_that_is_not_there_ends_in_time(lonely_client):
    with pytest.raises(Unavailable, match=r"no engine listens on ipc://.*none.sock after 0.2 s"):
        lonely_client.wait_ready(0.2)


def test_client_that_cancels_all_when_one_fails_is_not_stuck(lonely_client):
    # 64 failures that cancel 64 requests each once filled the client's own wake-up pipe (2000).
    ids: list[int] = []
    inboxes = [Inbox() for _ in range(64)]

    def cancel_all(event: TokenEvent) -> None:
        for request_id in ids:
            lonely_client.cancel(request_id)
        inboxes[event.key[1] - 1](event)

    for _ in inboxes:
        ids.append(lonely_client.submit(PROMPT, LONG, cancel_all))
    assert all(isinstance(one.wait().error, Unavailable) for one in inboxes)


def test_peer_that_reads_late_gets_every_answer(dealer):
    # More answers than ZeroMQ keeps by default (1000 on each side) were once dropped, and their
    # requests never ended.
    refused = {"op": "submit", "prompt": [], "settings": {}}
    dealer.send(pack([{**refused, "id": number} for number in range(4000)]))
    time.sleep(0.5)  # answered by now: about 20 us each
    answers = [message["id"] for _ in range(4000) for message in unpack(dealer.recv())]
    assert answers == [*range(4000)]


def test_unknown_message_is_refused_by_name(dealer):
    dealer.send(pack([{"op": "dance", "id": 7}]))
    (answer,) = unpack(dealer.recv())
    assert answer == {
        "op": "failure",
        "id": 7,
        "status": "INTERNAL",
        "message": "the engine knows no op 'dance'",
    }


def test_killed_engine_fails_what_runs_and_serves_again(start_service):
    service = start_service("--max-slots", "2")
    client = service.client()
    inboxes = [submit(client) for _ in range(4)]  # two run, two wait
    inboxes[0].wait_started()
    started = time.monotonic()
    os.kill(client.stats()["pid"], signal.SIGKILL)
    errors = [one.wait(3).error for one in inboxes]
    assert time.monotonic() - started < 3
    assert all(isinstance(one, Unavailable) for one in errors)
    client.wait_ready(20)
    assert submit(client, settings=Settings(max_tokens=2)).wait().reason == "length"
    assert service.log[0] == "the engine process ended with code -9; starting it again"
