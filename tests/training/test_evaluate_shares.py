"""Shares of right completions: an oracle gets all, silence gets what needs no completion."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from training.bpe import TokenizerSpec
from training.completion import CompletionConfig
from training.functions import Cut, Trimmed, draw_cuts, draw_holes, find_functions
from training.gpt import GPT, GPTConfig
from training.prediction import Floats
from training.shares import (
    Share,
    complete_functions,
    infill_prompt,
    measure_infill,
    measure_parsing,
)
from training.subject import Subject, token_bytes

SOURCE = "".join(
    f"def f{i}(x):\n    if x > {i}:\n        x = (x,\n             {i})\n    return x\n\n\n"
    for i in range(12)
)
CONFIG = CompletionConfig(max_tokens=100, temperature=0, seed=0)


class Oracle:
    """A fake that writes given ids, in batches of CONFIG's size, and then the end of the text."""

    def __init__(self, completions: list[list[int]], vocab_size: int, end_of_text: int) -> None:
        self.waiting = list(completions)
        self.eye = np.eye(vocab_size)
        self.end_of_text = end_of_text

    def begin(self, rows: Sequence[Sequence[int]]) -> Floats:
        self.batch = [iter(self.waiting.pop(0)) for _ in rows]
        return self.advance([])

    def advance(self, _: Sequence[int]) -> Floats:
        upcoming = [next(ids, self.end_of_text) for ids in self.batch]
        return np.log(self.eye[upcoming] + 1e-9)


@pytest.fixture
def subject(spec: TokenizerSpec) -> Subject:
    sizes = GPTConfig(block_size=256, vocab_size=512, n_layer=1, n_head=1, n_embd=4)
    return Subject(
        GPT(sizes), spec, fim_trained=True, suffix_first=False, sha256="", table=token_bytes(spec)
    )


@pytest.fixture
def cuts() -> list[Cut]:
    return draw_cuts(find_functions(SOURCE), 12, np.random.default_rng(3))


def oracle(texts: Sequence[str], subject: Subject) -> Oracle:
    ids = [subject.spec.encoding().encode_ordinary(text) for text in texts]
    return Oracle(ids, subject.spec.vocab_size, subject.end_of_text)


def test_the_files_own_rest_always_parses(cuts: list[Cut], subject: Subject) -> None:
    predictor = oracle([cut.after for cut in cuts], subject)

    found = measure_parsing(cuts, complete_functions(cuts, predictor, subject, CONFIG))

    assert found.parses == Share(12, 12)
    assert found.ended == Share(12, 12)
    assert found.unfinished.num_right == found.unfinished.count


def test_nothing_added_parses_where_the_cut_does(cuts: list[Cut]) -> None:
    found = measure_parsing(cuts, [Trimmed("", ended=True)] * len(cuts))

    num_unfinished = sum(not cut.parses_with("") for cut in cuts)
    assert 0 < num_unfinished < 12
    assert found.parses == Share(12 - num_unfinished, 12)
    assert found.unfinished == Share(0, num_unfinished)
    assert found.mean_lines == 0


def test_completion_at_the_limit_did_not_end(cuts: list[Cut], subject: Subject) -> None:
    predictor = oracle(["        y = 1\n" * 200 for _ in cuts], subject)

    found = measure_parsing(cuts, complete_functions(cuts, predictor, subject, CONFIG))

    assert found.ended == Share(0, 12)
    assert found.mean_lines > 10


def test_missing_line_is_right_only_when_the_same(subject: Subject) -> None:
    holes = draw_holes(find_functions(SOURCE), 3, np.random.default_rng(0))
    answers = [holes[0].line, f"{holes[1].line}  \n    more", "something else"]

    assert measure_infill(holes, oracle(answers, subject), subject, CONFIG) == Share(2, 3)


def test_infill_prompt_fits_and_stands_around_the_hole(subject: Subject) -> None:
    (hole,) = draw_holes(find_functions(SOURCE), 1, np.random.default_rng(0))
    special = subject.spec.special_tokens

    prompt = infill_prompt(hole, subject, max_tokens=100)

    assert len(prompt) <= 156
    assert prompt[0] == special["<|fim_prefix|>"]
    assert prompt[-1] == special["<|fim_middle|>"]
    middle = prompt.index(special["<|fim_suffix|>"])
    assert hole.prefix.endswith(subject.decode(prompt[1:middle]))
    assert hole.suffix.startswith(subject.decode(prompt[middle + 1 : -1]))

    first = infill_prompt(hole, replace(subject, suffix_first=True), max_tokens=100)
    assert first[:2] == [special["<|fim_prefix|>"], special["<|fim_suffix|>"]]
    assert sorted(first) == sorted(prompt)
    assert first[-1] == prompt[middle - 1]  # the cursor stands at the end


@pytest.mark.parametrize(
    ("share", "low", "high"),
    [(Share(0, 10), 0.0, 0.278), (Share(5, 10), 0.237, 0.763), (Share(10, 10), 0.722, 1.0)],
    ids=["none", "half", "all"],
)
def test_interval_is_wilsons(share: Share, low: float, high: float) -> None:
    # by hand: with none right its upper end is z² / (n + z²), 3.84 / 13.84 for n = 10
    assert share.interval() == pytest.approx((low, high), abs=1e-3)


def test_share_of_nothing_is_unknown() -> None:
    assert Share(0, 0).value is None
    assert Share(0, 0).interval() == (0.0, 1.0)
