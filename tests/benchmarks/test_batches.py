"""A queue in front of a model that knows whole batches only."""

from collections.abc import Sequence

import pytest

from benchmarks.peers.batches import Batched, Steps


class Recorder:
    """Says each prompt's length plus the step's number, and tells what it was asked."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.num_steps = 0

    def generate(self, prompts: Sequence[Sequence[int]], num_new: int) -> Steps:
        """One token each."""
        self.batches.append((len(prompts), num_new))
        for number in range(num_new):
            self.num_steps += 1
            yield [(row, 100 * len(one) + number) for row, one in enumerate(prompts)]


def run(model: Batched, num_tokens: int) -> list[tuple[int, int]]:
    """Step it until so many tokens came."""
    found: list[tuple[int, int]] = []
    while len(found) < num_tokens:
        found += model.step()
    return found


@pytest.mark.parametrize(
    ("max_batch", "batches"), [(1, [(1, 2)] * 3), (2, [(2, 2), (1, 2)])], ids=["single", "pairs"]
)
def test_what_waits_is_taken_up_to_the_size_of_a_batch(max_batch, batches):
    recorder = Recorder()
    model = Batched(recorder, max_batch)
    for key in range(3):
        model.add(key, [0] * (key + 1), 2)

    found = run(model, 6)

    assert recorder.batches == batches
    assert sorted(found) == [(0, 100), (0, 101), (1, 200), (1, 201), (2, 300), (2, 301)]


def test_row_that_has_its_tokens_says_no_more_while_others_go_on():
    model = Batched(Recorder(), 2)
    model.add(7, [0], 1)
    model.add(8, [0], 3)

    assert run(model, 4) == [(7, 100), (8, 100), (8, 101), (8, 102)]


def test_batch_that_nobody_waits_for_ends_at_once():
    recorder = Recorder()
    model = Batched(recorder, 1)
    model.add(1, [0], 50)
    model.add(2, [0, 0], 1)
    model.add(3, [0], 1)
    model.step()

    model.cancel(1)
    model.cancel(3)

    assert run(model, 1) == [(2, 200)]
    assert model.step() == []
    assert recorder.num_steps == 2
