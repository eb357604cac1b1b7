"""Blocks: every token once an epoch, whole documents in order, and always the same."""

from collections import Counter

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from training.batches import BlockStream

END = 0


def tokens_of(lengths: list[int]) -> npt.NDArray[np.uint16]:
    """Documents of these lengths, end-of-text included; every other token is another number."""
    tokens = np.arange(1, sum(lengths) + 1, dtype=np.uint16)
    tokens[np.cumsum(lengths) - 1] = END
    return tokens


lengths = st.lists(st.integers(1, 40), min_size=3, max_size=12).filter(lambda n: sum(n) > 16)
sizes = st.integers(2, 16)
seeds = st.integers(0, 2**31)


@given(lengths, sizes, seeds, st.integers(0, 3))
def test_epoch_shows_every_token_at_most_once(
    lengths: list[int], size: int, seed: int, epoch: int
) -> None:
    stream = BlockStream(tokens_of(lengths), size, END, seed)
    count = stream.blocks_per_epoch
    seen = Counter(stream.rows(epoch * count, count)[:, :-1].ravel().tolist())
    seen.pop(END, None)

    assert all(times == 1 for times in seen.values())
    assert count * size > sum(lengths) - size  # what is left out is less than a block


@given(lengths, sizes, seeds)
def test_documents_stay_whole_and_in_order(lengths: list[int], size: int, seed: int) -> None:
    rows = BlockStream(tokens_of(lengths), size, END, seed).rows(0, 5)

    for row in rows:
        inside = (row[:-1] != END) & (row[1:] != END)
        assert (np.diff(row)[inside] == 1).all()


@given(lengths, sizes, seeds, st.integers(0, 50))
def test_a_block_is_the_same_however_it_is_asked_for(
    lengths: list[int], size: int, seed: int, index: int
) -> None:
    tokens = tokens_of(lengths)
    alone = BlockStream(tokens, size, END, seed).rows(index, 1)
    among = BlockStream(tokens, size, END, seed).rows(max(index - 7, 0), 8)

    assert np.array_equal(alone[0], among[min(index, 7)])


def test_epochs_and_seeds_differ() -> None:
    tokens = tokens_of([30] * 20)
    stream = BlockStream(tokens, 16, END, seed=1)
    count = stream.blocks_per_epoch
    first, second = stream.rows(0, count), stream.rows(count, count)

    assert not np.array_equal(first, second)
    assert not np.array_equal(first, BlockStream(tokens, 16, END, seed=2).rows(0, count))


def test_text_without_an_end_is_one_document() -> None:
    stream = BlockStream(np.arange(1, 18, dtype=np.uint16), 16, END, seed=1)

    assert set(stream.rows(0, 1)[0].tolist()) == set(range(1, 18))
