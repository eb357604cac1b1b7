import pytest

from nanotriton.engine.kv_slots import KVSlots


def test_slots_are_given_from_the_lowest():
    slots = KVSlots(3)
    assert [slots.take() for _ in range(3)] == [0, 1, 2]
    assert slots.num_free == 0


def test_lowest_free_slot_is_given_again_first():
    slots = KVSlots(4)
    for _ in range(4):
        slots.take()
    for slot in (3, 1, 2):
        slots.release(slot)
    assert [slots.take() for _ in range(3)] == [1, 2, 3]


def test_released_slot_is_empty():
    slots = KVSlots(2)
    slot = slots.take()
    slots.lengths[slot] = 17
    slots.release(slot)
    assert slots.lengths.tolist() == [0, 0]


def test_slot_is_never_released_twice():
    slots = KVSlots(1)
    with pytest.raises(AssertionError, match="slot 0 is free already"):
        slots.release(0)
