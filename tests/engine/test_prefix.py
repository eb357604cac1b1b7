import pytest
from driving import Drive, complete_alone
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.kv_slots import KVSlots
from nanotriton.engine.prefix import MAX_DEAD_ROWS, Match, Place, PrefixCache, common_length
from nanotriton.runners.base import Copy

BEGIN = [*range(40)]
TOKENS = st.lists(st.integers(0, 2), max_size=30)


class Shelf:
    """A prefix cache whose sequences come and go as the test says."""

    def __init__(self, num_slots, **options):
        self.slots = KVSlots(num_slots)
        self.cache = PrefixCache(self.slots, **options)

    def run(self, tokens, user=""):
        """Let a sequence begin and compute all of its tokens but the last."""
        place = self.cache.place(tokens, user)
        self.slots.lengths[place.slot] = len(tokens) - 1
        return place

    def leave(self, tokens, user=""):
        """Let a sequence come and go; its slot."""
        slot = self.run(tokens, user).slot
        self.cache.release(slot)
        return slot


def hits_of(drive, prompt, **settings):
    """Tokens that a request did not have to compute."""
    before = drive.engine.stats()["prefix_hit_tokens"]
    number = drive.submit(prompt, max_tokens=2, **settings)
    drive.finish()
    assert drive.outcome(number) == complete_alone(prompt, max_tokens=2)
    return drive.engine.stats()["prefix_hit_tokens"] - before


@given(TOKENS, TOKENS, st.integers(0, 30))
def test_common_length_is_that_of_a_walk(some, others, limit):
    limit = min(limit, len(some), len(others))
    expected = next((i for i in range(limit) if some[i] != others[i]), limit)
    assert common_length(some, others, limit) == expected


def test_last_token_of_a_prompt_is_always_computed():
    shelf = Shelf(2)
    shelf.leave(BEGIN)
    assert shelf.cache.find(BEGIN[:20], "") == Match(0, 19)


def test_prompt_goes_on_in_the_slot_that_holds_its_beginning():
    shelf = Shelf(3)
    shelf.leave([7] * 20)
    shelf.leave(BEGIN)
    place = shelf.cache.place([*BEGIN[:30], 90, 91], "")
    assert (place.slot, place.num_reused, place.copies) == (1, 30, ())


def test_slot_in_use_lends_its_beginning_by_copy():
    shelf = Shelf(2)
    shelf.run(BEGIN)
    place = shelf.cache.place([*BEGIN, 90], "")
    assert (place.slot, place.num_reused) == (1, 0)
    assert shelf.cache.share(1, [*BEGIN, 90], "") == Copy(0, 1, 39)


def test_short_common_beginning_is_copied_and_the_longer_rest_stays():
    shelf = Shelf(2)
    shelf.leave(BEGIN)
    prompt = [*BEGIN[:10], 90, 91]
    assert shelf.cache.place(prompt, "").slot == 1
    assert shelf.cache.share(1, prompt, "") == Copy(0, 1, 10)
    assert shelf.slots.lengths.tolist() == [39, 10]


@pytest.mark.parametrize("num_shared", [40, 30])
def test_copy_that_holds_most_of_its_source_frees_it(num_shared):
    shelf = Shelf(8)
    far = shelf.leave(BEGIN)
    for slot in range(1, 6):
        shelf.leave([60 + slot] * 20)
    assert shelf.run([50]).slot - far - 1 > MAX_DEAD_ROWS
    prompt = [*BEGIN[:num_shared], 90]
    place = shelf.cache.place(prompt, "")
    length = min(num_shared, len(BEGIN) - 1)
    assert shelf.cache.share(place.slot, prompt, "") == Copy(far, place.slot, length)
    assert shelf.slots.lengths[far] == 0


def test_new_one_begins_beside_the_running_ones():
    shelf = Shelf(32)
    shelf.run([50])
    for slot in range(1, 32):
        shelf.slots.take(slot)
        shelf.slots.release(slot)
    assert shelf.cache.place([51], "").slot == 1


def test_outermost_slot_moves_beside_the_others_and_a_beginning_makes_room():
    shelf = Shelf(6)
    for token in range(50, 54):
        shelf.run([token] * 9)
    for slot in (1, 2):
        shelf.cache.release(slot)
    moved = shelf.cache.gather((0, 3))
    assert moved == (3, Place(1, 8, (Copy(1, 4, 8), Copy(3, 1, 8))))
    assert shelf.slots.lengths.tolist() == [8, 8, 8, 0, 8, 0]
    assert shelf.slots.free == {2, 3, 4, 5}
    assert shelf.cache.find([51] * 10, "") == Match(4, 8)
    assert shelf.cache.gather((0, 1)) is None


def test_outermost_slot_moves_into_a_gap_between_the_others():
    shelf = Shelf(6)
    for token in range(50, 56):
        shelf.run([token] * 9)
    shelf.cache.release(3, is_sound=False)
    assert shelf.cache.gather((0, 1, 2, 4, 5)) == (5, Place(3, 8, (Copy(5, 3, 8),)))


@given(st.sets(st.integers(0, 31), min_size=1), st.integers(0, 31))
def test_slots_lie_together_after_as_many_moves_as_there_are(used, prefilling):
    shelf = Shelf(32)
    for slot in range(32):
        shelf.run([slot] * (slot + 2))
    for slot in {*range(32)} - used - {prefilling}:
        shelf.cache.release(slot)
    decoding = used - {prefilling}
    for _ in range(len(decoding)):
        if move := shelf.cache.gather(tuple(decoding)):
            slot, place = move
            decoding = decoding - {slot} | {place.slot}
    rows = max(decoding) - min(decoding) + 1 if decoding else 0
    assert rows <= len(decoding) + (prefilling in range(32))
    assert shelf.slots.free == {*range(32)} - decoding - {prefilling}


def test_what_a_near_slot_held_moves_to_a_slot_of_less_value():
    shelf = Shelf(6)
    for token in range(5):
        shelf.leave([token] * 30)
    running = shelf.run([99], "").slot
    assert running == 5  # the empty one
    place = shelf.cache.place([98], "")
    assert place.copies in ((), (Copy(place.slot, 0, 29),))
    held = [token for token in range(5) if shelf.cache.find([token] * 31, "")]
    assert held == [1, 2, 3, 4]  # the oldest is gone, wherever the new sequence runs


@pytest.mark.parametrize(
    ("lengths", "gone"),
    [((20, 20, 20), 0), ((40, 18, 30), 1), ((24, 20, 9), 2)],
    ids=["oldest", "shorter-than-older", "new-but-short"],
)
def test_least_valuable_is_evicted_first(lengths, gone):
    shelf = Shelf(3)
    for token, length in enumerate(lengths):
        shelf.leave([token] * length)
    shelf.run([99])
    assert [bool(shelf.cache.find([token] * 50, "")) for token in range(3)] == [
        token != gone for token in range(3)
    ]
    assert shelf.cache.num_evictions == 1


def test_cache_that_is_off_holds_nothing():
    shelf = Shelf(2, is_on=False)
    shelf.leave(BEGIN)
    assert shelf.cache.find(BEGIN, "") is None
    assert shelf.slots.lengths.tolist() == [0, 0]


def test_doubtful_slot_is_not_kept():
    shelf = Shelf(1)
    shelf.cache.release(shelf.run(BEGIN).slot, is_sound=False)
    assert shelf.cache.find(BEGIN, "") is None


@pytest.mark.parametrize(
    ("first", "second", "isolate", "is_shared"),
    [
        ("a", "b", False, True),
        ("", "", False, True),
        ("a", "a", True, True),
        ("a", "b", True, False),
        ("a", "", True, False),
        ("", "", True, False),
    ],
)
@pytest.mark.parametrize("is_running", [True, False], ids=["running", "ended"])
def test_users_share_only_where_they_may(first, second, isolate, is_shared, is_running):
    shelf = Shelf(2, isolate_users=isolate)
    (shelf.run if is_running else shelf.leave)(BEGIN, first)
    place = shelf.cache.place([*BEGIN, 90], second)
    copy = shelf.cache.share(place.slot, [*BEGIN, 90], second)
    assert bool(place.num_reused or copy) is is_shared


def test_growing_prompt_computes_only_what_is_new():
    drive = Drive()
    assert hits_of(drive, BEGIN) == 0
    assert hits_of(drive, [*BEGIN, 41, 42]) == 40
    assert drive.runner.batches[-2:] == [(2, 0), (0, 1)]
    assert hits_of(drive, BEGIN[:20]) == 19


def test_generated_tokens_are_reused_too():
    drive = Drive()
    number = drive.submit(BEGIN, max_tokens=8)
    drive.finish()
    written = drive.outcome(number).tokens
    assert hits_of(drive, [*BEGIN, *written[:5], 90]) == 45


def test_isolated_users_reuse_only_their_own():
    drive = Drive(options={"isolate_users": True})
    assert [hits_of(drive, BEGIN, user=user) for user in ("a", "b", "a", "")] == [0, 0, 39, 0]


def test_prompts_that_come_together_compute_their_beginning_once():
    drive = Drive(num_slots=3)
    for token in (90, 91, 92):
        drive.submit([*BEGIN, token], max_tokens=1)
    drive.finish()
    assert drive.runner.batches == [(41, 0), (1, 0), (1, 0)]


def test_cancelled_prompt_leaves_what_it_computed():
    drive = Drive(prefill_chunk=8)
    number = drive.submit(BEGIN)
    drive.step()
    drive.cancel(number)
    assert hits_of(drive, BEGIN) == 8


def test_failed_step_leaves_nothing_that_could_be_wrong():
    drive = Drive(num_slots=3, fail_on=96)
    hits_of(drive, BEGIN)
    failing = drive.submit([*BEGIN, 96])
    drive.finish()
    assert drive.outcome(failing).error
    assert hits_of(drive, BEGIN) == 0


def test_text_from_a_beginning_that_moved_is_the_same():
    drive = Drive(num_slots=6)
    prompts = [[token, *BEGIN] for token in range(50, 55)]
    for prompt in prompts:
        hits_of(drive, prompt)
    drive.submit([60], max_tokens=60)  # runs in the last slot while the others ask
    drive.step()
    drive.submit([61], max_tokens=2)  # comes near it: what was there moves to the oldest's slot
    for _ in range(4):
        drive.step()
    assert drive.engine.stats()["num_evictions"] == 1
    assert [hits_of(drive, prompt) > 0 for prompt in reversed(prompts[1:])] == [True] * 4
