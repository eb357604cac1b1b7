"""The trigram model: distributions that sum to 1, and Kneser-Ney's idea in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.ngram import Trigram, TrigramPredictor, estimate_discount

VOCAB_SIZE, END = 6, 5
streams = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=40)
ids = st.integers(0, VOCAB_SIZE - 1)


def fit(tokens: list[int]) -> Trigram:
    return Trigram.fit(np.array(tokens, dtype=np.uint16), VOCAB_SIZE, END)


@given(streams, ids, ids)
def test_every_distribution_sums_to_1_and_leaves_nothing_out(
    tokens: list[int], before_last: int, last: int
) -> None:
    found = fit(tokens).distribution(before_last, last)

    assert found.sum() == pytest.approx(1, abs=1e-12)  # rounding of six float64
    assert (found > 0).all()


@given(streams, streams)
def test_a_stream_is_measured_as_its_tokens_one_by_one(train: list[int], val: list[int]) -> None:
    trigram = fit(train)
    contexts = zip([END, END, *val], [END, *val], val, strict=False)

    rows = [trigram.distribution(before, last) for before, last, _ in contexts]

    one_by_one = [row[token] for row, token in zip(rows, val, strict=True)]
    assert trigram.probabilities(np.array(val)) == pytest.approx(one_by_one, abs=1e-12)
    assert trigram.likeliest(np.array(val)).tolist() == [int(row.argmax()) for row in rows]


def test_token_with_one_context_is_unlikely_elsewhere() -> None:
    # 1 follows 0 alone, ten times; 2 is rarer and follows three different tokens
    trigram = fit([0, 1] * 10 + [0, 2, 3, 2, 4, 2])

    assert trigram.unigram[2] > trigram.unigram[1]
    assert trigram.distribution(3, 4)[1] < 0.1


def test_unseen_context_asks_the_order_below() -> None:
    trigram = fit([0, 1, 2, 0, 1, 3])

    below = trigram.bigrams.interpolate(1, trigram.unigram)

    assert trigram.distribution(4, 1).tolist() == below.tolist()
    assert trigram.distribution(4, 4).tolist() == trigram.unigram.tolist()


def test_shares_are_kneser_neys() -> None:
    # By hand: 0 1 2 and 1 2 0 are seen twice; 5 5 0, 5 0 1, 2 0 1 (twice), 0 1 3 make up the rest,
    # so 3 trigrams are seen once and 3 twice: the discount is 3 / (3 + 2 * 3).
    trigram = fit([0, 1, 2, 0, 1, 2, 0, 1, 3])
    below = trigram.bigrams.interpolate(1, trigram.unigram)

    found = trigram.distribution(0, 1)

    assert found[2] == pytest.approx((2 - 1 / 3) / 3 + 1 / 3 * 2 / 3 * below[2])
    assert found[3] == pytest.approx((1 - 1 / 3) / 3 + 1 / 3 * 2 / 3 * below[3])
    assert found[4] == pytest.approx(1 / 3 * 2 / 3 * below[4])


@pytest.mark.parametrize(
    ("counts", "discount"),
    [([1, 1, 2, 7], 0.5), ([1, 1], 0.9), ([5, 6], 0.1)],
    ids=["Ney's", "all once", "none once"],
)
def test_discount_stays_in_its_range(counts: list[int], discount: float) -> None:
    assert estimate_discount(np.array(counts)) == discount


def test_predictor_follows_every_row() -> None:
    trigram = fit([0, 1, 2, 3, 0, 1, 4])
    predictor = TrigramPredictor(trigram)

    first = predictor.begin([[0, 1], [2]])
    second = predictor.advance([2, 3])

    assert np.exp(first[0]) == pytest.approx(trigram.distribution(0, 1))
    assert np.exp(first[1]) == pytest.approx(trigram.distribution(END, 2))
    assert np.exp(second[1]) == pytest.approx(trigram.distribution(2, 3))
