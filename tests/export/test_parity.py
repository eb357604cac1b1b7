import dataclasses
import pickle

import numpy as np
import pytest

from export.checkpoint import Checkpoint, load_checkpoint
from export.comparison import TOLERANCES, Report
from export.parity import default_text, encode_known, measure_parity
from nanotriton.errors import ArtifactError, ParityError
from nanotriton.runners.base import Batch, Candidates

# The tiny random model is nearly undecided everywhere, which 8 bits feel more than training does.
TINY_INT8 = dataclasses.replace(TOLERANCES["int8"], min_top1=0.9)


def measure(checkpoint, runner, max_tokens=600) -> Report:
    return measure_parity(checkpoint, runner, default_text(), max_tokens, lambda _: None)


def with_weight(checkpoint: Checkpoint, name: str, factor: float) -> Checkpoint:
    changed = dict(checkpoint.weights) | {name: checkpoint.weights[name] * np.float32(factor)}
    return dataclasses.replace(checkpoint, weights=changed)


def test_float32_artifact_is_its_checkpoint(checkpoint, runner_of):
    report = measure(checkpoint, runner_of("fp32"))
    report.check(TOLERANCES["fp32"])
    assert report.top1 == report.greedy == 1
    assert report.perplexity_artifact == pytest.approx(report.perplexity_checkpoint, rel=1e-6)
    assert report.positions >= 600
    assert report.greedy_tokens == 4 * 32


def test_int8_artifact_is_close_to_its_checkpoint(checkpoint, runner_of):
    report = measure(checkpoint, runner_of("int8"))
    report.check(TINY_INT8)
    assert report.max_abs_delta > 0
    with pytest.raises(ParityError, match="limit"):
        report.check(TOLERANCES["fp32"])


@pytest.mark.parametrize(
    ("name", "factor"),
    [("h.1.attn.c_proj.bias", 1.2), ("wpe.weight", 0.98), ("ln_f.weight", 1.001)],
)
def test_changed_weight_is_found(checkpoint, runner_of, name, factor):
    report = measure(with_weight(checkpoint, name, factor), runner_of("fp32"))
    with pytest.raises(ParityError, match="differs from its checkpoint"):
        report.check(TOLERANCES["fp32"])


class Forgetful:
    """A runner whose cache loses one slot's past in batched decode steps."""

    def __init__(self, runner) -> None:
        self._runner = runner
        self.num_slots, self.context = runner.num_slots, runner.context
        self.vocab_size, self.num_candidates = runner.vocab_size, runner.num_candidates

    def run(self, batch: Batch) -> Candidates:
        if batch.decode and not batch.chunk and batch.num_decoded > 1:
            past = batch.decode.past_lengths.copy()
            past[1] -= 1
            decode = dataclasses.replace(batch.decode, past_lengths=past)
            batch = dataclasses.replace(batch, decode=decode)
        return self._runner.run(batch)


def test_broken_cache_of_one_slot_is_found(checkpoint, runner_of):
    report = measure(checkpoint, Forgetful(runner_of("fp32")))
    with pytest.raises(ParityError):
        report.check(TOLERANCES["fp32"])


GOOD = Report(100, 0.0, 1.0, 0.0, 1.0, 2.0, 2.0, 1.0, 10)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("top1", 0.99, "top-1 agreement is 0.99, the limit is 0.999"),
        ("mean_kl", 1e-3, "mean KL is 0.001"),
        ("mean_kl", np.nan, "mean KL is nan"),
        ("max_abs_delta", 0.1, "relative to the largest logit is 0.1"),
        ("greedy", 0.9, "greedy agreement is 0.9"),
        ("perplexity_artifact", 2.1, "rise of perplexity is 0.05"),
    ],
)
def test_figure_outside_its_tolerance_is_named(field, value, words):
    GOOD.check(TOLERANCES["fp32"])
    with pytest.raises(ParityError, match=words):
        dataclasses.replace(GOOD, **{field: value}).check(TOLERANCES["fp32"])


def test_accepted_figure_is_told_with_its_limit():
    worse = dataclasses.replace(GOOD, perplexity_artifact=2.1, mean_kl=1.0)
    accepted = worse.check(TOLERANCES["fp32"], ["perplexity_rise", "kl"])
    assert accepted == {"accepted_perplexity_rise": 1e-4, "accepted_kl": 1e-6}
    with pytest.raises(ParityError, match="say --accept kl"):
        worse.check(TOLERANCES["fp32"], ["perplexity_rise"])


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("max_kl", np.nan),
        ("max_kl", -0.1),
        ("min_top1", 1.5),
        ("min_greedy", -1.0),
        ("max_perplexity_rise", 5.0),
        ("max_perplexity_rise", np.inf),
    ],
)
def test_limit_that_means_nothing_is_refused(limit, value):
    with pytest.raises(ArtifactError, match=f"--{limit.replace('_', '-')} is .* from 0"):
        dataclasses.replace(TOLERANCES["int4"], **{limit: value})


def test_text_that_is_too_short_is_refused(checkpoint, runner_of):
    with pytest.raises(ParityError, match="parity needs at least 32"):
        measure_parity(checkpoint, runner_of("fp32"), "def f(", 600, lambda _: None)


def test_characters_that_the_vocabulary_lacks_are_dropped(nanogpt):
    path = nanogpt(vocab_size=3)
    (path.parent / "tokenizer.tiktoken").unlink()
    (path.parent / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a", 1: "b", 2: "\n"}}))
    checkpoint = load_checkpoint(path)
    assert encode_known(checkpoint.vocabulary, "abc\n🙂b").tolist() == [0, 1, 2, 1]
