"""Fill-in-the-middle moves tokens and loses none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import TokenizerError
from training.infill import Ids, Infill, Markers, split_documents

END, PREFIX, SUFFIX, MIDDLE = range(100, 104)
MARKERS = Markers(END, PREFIX, SUFFIX, MIDDLE)

documents = st.lists(st.lists(st.integers(0, 99), max_size=12), min_size=1, max_size=5)
seeds = st.integers(0, 2**32 - 1)
rates = st.sampled_from([0.0, 0.5, 1.0])


def pack(texts: list[list[int]]) -> Ids:
    return np.array([token for text in texts for token in [*text, END]], dtype=np.int64)


def between(piece: Ids, left: int, right: int) -> list[int]:
    ids = piece.tolist()
    return ids[ids.index(left) + 1 : ids.index(right)]


def put_back(piece: Ids) -> list[int]:
    """The document that a rearranged piece came from; any other piece as it is."""
    ids = piece.tolist()
    if ids[0] != PREFIX:
        return [token for token in ids if token != END]
    prefix = between(piece, PREFIX, SUFFIX)  # none in SPM, where it stands before the middle
    return prefix + between(piece, MIDDLE, END) + between(piece, SUFFIX, MIDDLE)


@given(documents, seeds, rates, rates)
def test_pieces_put_back_are_the_documents(
    texts: list[list[int]], seed: int, rate: float, spm_rate: float
) -> None:
    block = pack(texts)
    moved = Infill(rate, spm_rate, MARKERS).apply(block, np.random.default_rng(seed))
    restored = [put_back(piece) for piece in split_documents(moved, END)]

    assert len(moved) == len(block)
    assert all(text == given for text, given in zip(restored[:-1], texts, strict=False))
    last = len(restored) - 1
    assert restored[last] == texts[last][: len(restored[last])]  # the markers took its end's place


@given(documents, seeds)
def test_every_middle_ends(texts: list[list[int]], seed: int) -> None:
    block = pack(texts)[:-1]  # the last document is cut, its middle is whole all the same
    if not len(block):
        return
    moved = Infill(1.0, 0.5, MARKERS).apply(block, np.random.default_rng(seed))

    for piece in split_documents(moved, END):
        counts = [int((piece == marker).sum()) for marker in (PREFIX, SUFFIX, MIDDLE)]
        assert counts in ([0, 0, 0], [1, 1, 1])
        assert piece[0] != PREFIX or piece[-1] == END


@pytest.mark.parametrize("spm_rate", [0.0, 1.0], ids=["PSM", "SPM"])
def test_spm_rate_decides_the_order(spm_rate: float) -> None:
    block = pack([list(range(90))])
    infill = Infill(1.0, spm_rate, MARKERS)
    moved = [infill.apply(block, np.random.default_rng(seed)) for seed in range(20)]
    suffix_first = [row[1] == SUFFIX for row in moved]

    # PSM with an empty prefix (1 in 45 each) looks the same: 5 of 20 in 1 of 10,000 runs
    assert abs(sum(suffix_first) - 20 * spm_rate) < 5


def test_rate_is_the_share_of_documents() -> None:
    block = pack([[1, 2, 3, 4, 5, 6, 7, 8, 9]] * 4000)
    moved = Infill(0.3, 0.5, MARKERS).apply(block, np.random.default_rng(1))
    pieces = split_documents(moved, END)

    # a binomial share of some 3500 documents: 5 standard deviations are 0.04
    assert np.mean([piece[0] == PREFIX for piece in pieces]) == pytest.approx(0.3, abs=0.04)


def test_tokenizer_without_the_markers_is_refused() -> None:
    with pytest.raises(TokenizerError, match=r"no <\|fim_prefix\|>.*set fim_rate=0"):
        Markers.of({"<|endoftext|>": 0})
