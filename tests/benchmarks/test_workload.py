"""The same seed asks the same; arrivals are as random as they are said to be."""

import math
from itertools import islice, pairwise
from pathlib import Path

import pytest

from benchmarks.common.typing_users import library_files
from benchmarks.serving.workload import (
    CONTEXT,
    MAX_PROMPT,
    MIN_PROMPT,
    NEW_TOKENS,
    burst_arrivals,
    demo_tokenizer,
    poisson_arrivals,
    questions,
    tokens_of,
    typed_functions,
)

PER_S, SECONDS = 20.0, 500.0  # ten thousand arrivals
FILES = library_files()[:3]


def test_questions_follow_from_their_seed_alone() -> None:
    files = tokens_of(FILES, demo_tokenizer())
    first, again, other = (
        list(islice(questions(files, demo_tokenizer(), seed), 20)) for seed in ("1.0", "1.0", "1.1")
    )

    assert first == again
    assert not {one.prompt for one in first} & {one.prompt for one in other}


def test_questions_have_the_lengths_of_code_completion() -> None:
    files, tokenizer = tokens_of(FILES, demo_tokenizer()), demo_tokenizer()
    asked = list(islice(questions(files, tokenizer, "7"), 300))
    lengths = [len(tokenizer.encode(one.prompt)) for one in asked]

    assert {one.max_tokens for one in asked} == set(NEW_TOKENS)
    # A text cut at a token's edge may take a token more or less when it is encoded anew.
    assert min(lengths) >= MIN_PROMPT - 2
    assert max(lengths) <= MAX_PROMPT + 2
    # Log-uniform: half lie below the geometric mean. Of 300, six standard deviations are 0.17.
    middle = math.sqrt(MIN_PROMPT * MAX_PROMPT)
    assert sum(one < middle for one in lengths) / 300 == pytest.approx(0.5, abs=0.17)


def test_poisson_arrivals_have_the_rate_and_gaps_without_memory() -> None:
    times = list(poisson_arrivals(PER_S, SECONDS, seed=5))
    gaps = [after - before for before, after in pairwise(times)]

    # Six standard deviations: another seed would fail once in 500 million.
    assert len(times) == pytest.approx(PER_S * SECONDS, abs=6 * math.sqrt(PER_S * SECONDS))
    for times_mean in (0.5, 1, 2):
        share = sum(gap > times_mean / PER_S for gap in gaps) / len(gaps)
        expected = math.exp(-times_mean)
        deviation = math.sqrt(expected * (1 - expected) / len(gaps))
        assert share == pytest.approx(expected, abs=6 * deviation)
    assert times == list(poisson_arrivals(PER_S, SECONDS, seed=5))


def test_bursts_bring_as_many_in_handfuls() -> None:
    times = list(burst_arrivals(PER_S, SECONDS, seed=5, size=8))

    moments = len(set(times))
    assert len(times) == 8 * moments
    expected = PER_S * SECONDS / 8
    assert moments == pytest.approx(expected, abs=6 * math.sqrt(expected))


def test_typed_functions_fit_the_context_with_what_stands_above() -> None:
    tokenizer = demo_tokenizer()
    texts = typed_functions(FILES, tokenizer, max_tokens=24)

    lengths = [len(tokenizer.encode(one.above + one.text)) for one in texts]
    assert max(lengths) <= CONTEXT - 24
    assert sorted(lengths)[len(lengths) // 2] > CONTEXT / 2  # the window is used
    for one in texts:
        assert one.text.lstrip().startswith("def ")


def test_files_without_enough_code_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("x = 1\n")

    with pytest.raises(ValueError, match="no file has"):
        tokens_of([tmp_path / "short.py"], demo_tokenizer())
    with pytest.raises(ValueError, match="no function"):
        typed_functions([tmp_path / "short.py"], demo_tokenizer(), max_tokens=24)
