import pytest
from driving import PLAIN, Drive, complete_alone

from nanotriton.engine.costs import StepCosts
from nanotriton.engine.scheduler import CHUNK_UNIT, MAX_STRETCH

PROMPT = [3, 1, 4]


def slots_in_use(drive):
    """Slot of each running request, by its number."""
    return {one.request.key[1]: one.slot for one in drive.engine.scheduler.running}


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


def test_chunks_of_a_prompt_and_rows_of_streams_share_steps():
    drive = Drive(prefill_chunk=4)
    drive.submit(PROMPT)
    drive.step()
    drive.submit([5] * 20)
    for _ in range(6):
        drive.step()
    assert drive.runner.batches == [(3, 0)] + [(4, 1)] * 5 + [(0, 2)]


def test_running_stream_gets_a_token_at_every_step():
    drive = Drive(prefill_chunk=4)
    stream = drive.submit(PROMPT)
    drive.step()
    for _ in range(3):
        drive.submit([5] * 20)
    assert all(stream in drive.step() for _ in range(15))


def test_chunk_of_a_slot_between_those_of_streams_is_harmed_by_no_dead_row():
    drive = Drive(num_slots=3, prefill_chunk=4, options=PLAIN)
    streams = [drive.submit(PROMPT), drive.submit(PROMPT, max_tokens=1), drive.submit([7, 8])]
    while len(drive.events) < 3:
        drive.step()
    between = drive.submit([*range(40, 60)], max_tokens=3)
    drive.step()
    assert slots_in_use(drive)[between] == 1
    assert drive.runner.batches[-1] == (4, 3)
    drive.finish()
    assert drive.outcome(between) == complete_alone([*range(40, 60)], max_tokens=3)
    assert drive.outcome(streams[2]) == complete_alone([7, 8])


def test_streams_between_which_others_ended_come_together():
    drive = Drive(num_slots=8, options=PLAIN)
    prompts = [[5 + number] * 9 for number in range(8)]
    streams = [drive.submit(prompt, max_tokens=40) for prompt in prompts]
    while len(drive.events) < len(streams):
        drive.step()
    for number in streams[1:7]:
        drive.cancel(number)
    for _ in range(2):
        drive.step()
    assert drive.runner.batches[-2:] == [(0, 2)] * 2
    drive.finish()
    for number in (streams[0], streams[7]):
        assert drive.outcome(number) == complete_alone(prompts[number], max_tokens=40)


def test_prompt_enters_without_pauses_while_nobody_decodes():
    drive = Drive(prefill_chunk=4)
    drive.submit([5] * 16, max_tokens=2)
    drive.finish()
    assert drive.runner.batches == [(4, 0)] * 4 + [(0, 1)]


def test_chunks_beside_streams_are_cut_and_whole_without_them():
    drive = Drive(context=512)
    stream = drive.submit(PROMPT)
    drive.submit([5] * 300, max_tokens=1)
    for _ in range(3):
        drive.step()
    room = StepCosts().prompt_tokens(1, MAX_STRETCH) // CHUNK_UNIT * CHUNK_UNIT
    assert CHUNK_UNIT < room < 128
    assert drive.runner.batches == [(3, 0), (room, 1), (room, 1)]
    drive.cancel(stream)
    drive.step()
    assert drive.runner.batches[-1] == (128, 0)


def test_chunks_grow_with_the_prompts_that_wait_for_a_stream():
    drive = Drive(context=512)
    drive.submit(PROMPT)
    for number in range(3):
        drive.submit([5 + number] * 300, max_tokens=1)
    for _ in range(2):
        drive.step()
    (_, (chunk, beside)) = drive.runner.batches
    assert beside == 1
    assert 3 * CHUNK_UNIT <= chunk <= 128


def test_cancelled_prompt_and_stream_of_mixed_steps_leave_the_others():
    drive = Drive(prefill_chunk=4)
    numbers = [drive.submit(PROMPT) for _ in range(3)]
    prompt = drive.submit([5] * 20)
    while drive.runner.batches[-1:] != [(4, 3)]:
        drive.step()
    assert drive.cancel(prompt) == [prompt]
    assert drive.cancel(numbers[1]) == [numbers[1]]
    drive.finish()
    for number in (numbers[0], numbers[2]):
        assert drive.outcome(number) == complete_alone(PROMPT)


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
    assert drive.runner.batches[-1] == (0, 3)
