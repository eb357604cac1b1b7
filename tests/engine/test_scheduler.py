from itertools import pairwise

import pytest
from driving import Drive, complete_alone

PROMPT = [3, 1, 4]


def slots_in_use(drive):
    """Slot of each running request, by its number."""
    return {one.request.key[1]: one.slot for one in drive.engine.scheduler.running}


def is_prefill(batch):
    """Whether a (B, T) call brought a chunk of a prompt, where chunks have 4 tokens."""
    return batch == (1, 4)


def test_requests_get_the_lowest_slots_in_the_order_they_came():
    drive = Drive(num_slots=3)
    for _ in range(4):
        drive.submit(PROMPT)
    drive.step()
    assert slots_in_use(drive) == {0: 0, 1: 1, 2: 2}


def test_freed_slot_is_reused_in_the_next_step():
    drive = Drive(num_slots=2)
    drive.submit(PROMPT, max_tokens=1)
    drive.submit(PROMPT)
    drive.submit(PROMPT)
    assert drive.step() == [0]
    drive.step()
    assert slots_in_use(drive) == {1: 1, 2: 0}


def test_cancelled_slot_is_free_for_the_very_next_step():
    drive = Drive(num_slots=1)
    first, second = drive.submit(PROMPT), drive.submit(PROMPT)
    drive.step()
    assert drive.cancel(first) == [first]
    assert drive.step() == [second]


def test_cancel_brings_one_final_event_with_what_was_done():
    drive = Drive()
    number = drive.submit(PROMPT)
    for _ in range(3):
        drive.step()
    drive.cancel(number)
    drive.finish()
    found = drive.outcome(number)
    assert found.reason == "cancelled"
    assert found.tokens == complete_alone(PROMPT).tokens[:3]
    assert found.usage.completion_tokens == 3


def test_waiting_request_can_be_cancelled():
    drive = Drive(num_slots=1)
    drive.submit(PROMPT)
    drive.step()
    waiting = drive.submit(PROMPT)
    assert drive.cancel(waiting) == [waiting]
    assert drive.outcome(waiting).tokens == ()
    assert drive.engine.stats()["num_waiting"] == 0


def test_cancel_in_the_middle_of_a_prompt_frees_the_slot():
    drive = Drive(num_slots=1, prefill_chunk=4)
    number = drive.submit([5] * 20)
    drive.step()
    assert drive.cancel(number) == [number]
    assert drive.engine.stats()["num_free_slots"] == 1


def test_cancel_of_an_unknown_request_is_silent():
    drive = Drive()
    number = drive.submit(PROMPT, max_tokens=2)
    assert drive.cancel(77) == []
    drive.finish()
    assert drive.cancel(number) == []


def test_peer_that_is_gone_loses_all_of_its_requests():
    drive = Drive(num_slots=1)
    for _ in range(3):
        drive.submit(PROMPT)
    drive.step()
    ended = drive.engine.cancel_peer(b"peer")
    assert [(one.key, one.finish_reason) for one in ended] == [
        ((b"peer", number), "cancelled") for number in range(3)
    ]
    assert drive.engine.cancel_peer(b"peer") == []
    assert not drive.engine.has_work


def test_prompt_chunks_and_decode_steps_take_turns():
    drive = Drive(prefill_chunk=4)
    drive.submit(PROMPT)
    drive.step()
    drive.submit([5] * 20)
    for _ in range(10):
        drive.step()
    assert [is_prefill(one) for one in drive.runner.batches[1:]] == [False, True] * 5


def test_running_stream_gets_a_token_at_least_every_second_step():
    drive = Drive(prefill_chunk=4)
    stream = drive.submit(PROMPT)
    drive.step()
    for _ in range(3):
        drive.submit([5] * 20)
    brought = [stream in drive.step() for _ in range(24)]
    assert all(any(pair) for pair in pairwise(brought))


def test_prompt_enters_without_pauses_while_nobody_decodes():
    drive = Drive(prefill_chunk=4)
    drive.submit([5] * 16, max_tokens=2)
    drive.finish()
    assert drive.runner.batches == [(1, 4)] * 4 + [(1, 1)]


@pytest.mark.parametrize("num_prompt", [1, 3, 4, 5, 8, 9])
def test_chunks_that_fit_badly_change_no_text(num_prompt):
    prompt = [*range(40, 40 + num_prompt)]
    drive = Drive(prefill_chunk=4)
    number = drive.submit(prompt)
    drive.finish()
    assert drive.outcome(number) == complete_alone(prompt)


def test_all_running_requests_decode_in_one_batch():
    drive = Drive(num_slots=4)
    for _ in range(3):
        drive.submit(PROMPT)
    while any(one.is_prefilling for one in drive.engine.scheduler.running) or not drive.events:
        drive.step()
    assert drive.step() == [0, 1, 2]
    assert drive.runner.batches[-1] == (3, 1)
