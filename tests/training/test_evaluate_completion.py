"""Completing rows: the KV cache changes nothing, and rows do not disturb one another."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from training.completion import CompletionConfig, complete
from training.errors import ConfigError
from training.gpt import GPT, GPTConfig
from training.ngram import Trigram, TrigramPredictor
from training.prediction import Floats, ModelPredictor, pick

GPT_ARGS = {"block_size": 16, "vocab_size": 30, "n_layer": 2, "n_head": 2, "n_embd": 16}
END = 29
PROMPTS = ([3, 1, 4, 1, 5, 9], [2], [7, 1, 8])


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(**GPT_ARGS)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that positions and context matter
    return model


class CountingPredictor:
    """A fake that is sure of the number after the last one."""

    def begin(self, rows: Sequence[Sequence[int]]) -> Floats:
        return self.advance([row[-1] for row in rows])

    def advance(self, tokens: Sequence[int]) -> Floats:
        return np.log(np.eye(30)[[(token + 1) % 30 for token in tokens]] + 1e-9)


def never(_: int, ids: Sequence[int]) -> bool:
    return len(ids) < 0


def test_cached_rows_of_different_lengths_are_as_if_alone(model: GPT) -> None:
    predictor = ModelPredictor(model, num_ids=30)
    rows = [list(prompt) for prompt in PROMPTS]
    found = predictor.begin(rows)

    for tokens in ([5, 6, 7], [1, 2, 3], [20, 0, 11]):
        for row, log_probabilities in zip(rows, found, strict=True):
            with torch.no_grad():
                alone = model(torch.tensor([row]))[0, -1].double().log_softmax(dim=-1)
            # the same float32 operations in another order
            assert log_probabilities == pytest.approx(alone.numpy(), abs=1e-4)
        rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]
        found = predictor.advance(tokens)


def test_ids_that_only_fill_the_vocabulary_are_never_foreseen(model: GPT) -> None:
    found = ModelPredictor(model, num_ids=25).begin(PROMPTS)

    assert found.shape == (3, 25)
    assert np.exp(found).sum(axis=1) == pytest.approx(1)


def test_completion_stops_at_the_limit_the_end_or_when_done() -> None:
    prompts = [[1], [END - 2], [10]]

    found = complete(
        CountingPredictor(),
        prompts,
        END,
        lambda index, ids: index == 2 and len(ids) == 2,
        CompletionConfig(max_tokens=4, temperature=0, seed=0),
    )

    assert found == [[2, 3, 4, 5], [END - 1], [11, 12]]


def test_sampled_completion_does_not_depend_on_its_batch() -> None:
    trigram = Trigram.fit(np.arange(200) ** 2 % 23, 30, END)
    alone, together = (
        complete(
            TrigramPredictor(trigram), PROMPTS, END, never, CompletionConfig(8, 1.0, 5, batch_size)
        )
        for batch_size in (1, 3)
    )

    assert alone == together
    assert len({tuple(ids) for ids in alone}) == 3


def test_pick_draws_by_temperature() -> None:
    rows = np.log(np.array([0.2, 0.5, 0.3]))
    generator = np.random.default_rng(0)

    drawn = [pick(rows, 0.5, generator) for _ in range(4000)]

    # squared and rescaled: 4, 25 and 9 of 38; the tolerance is 5 deviations: 1 failure in a million
    for token, share in enumerate((4 / 38, 25 / 38, 9 / 38)):
        deviation = (share * (1 - share) / 4000) ** 0.5
        assert drawn.count(token) / 4000 == pytest.approx(share, abs=5 * deviation)
    assert pick(rows, 0, generator) == 1


@pytest.mark.parametrize(
    ("max_tokens", "temperature", "message"),
    [(0, 1.0, "max_tokens is 0"), (1, -1.0, "temperature is -1.0")],
    ids=["no tokens", "cold"],
)
def test_settings_out_of_range_are_refused(
    max_tokens: int, temperature: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CompletionConfig(max_tokens, temperature, seed=0)
