"""Figures of the engine, taken from the demo model: what they count, and what they refuse."""

from pathlib import Path

import pytest

from benchmarks.common.typing_users import random_series
from benchmarks.engine.gap import NUM_STREAMS, measure_gap
from benchmarks.engine.replay import measure_replay
from benchmarks.timing.breakdown import STEP, WAYS, measure_breakdown
from benchmarks.timing.engine_steps import NUM_STEPS, EngineSteps
from benchmarks.timing.floor import measure_floor
from benchmarks.timing.stopwatch import GRAPH, PARTS
from nanotriton.engine.request import Settings
from nanotriton.manifest import newest_version


@pytest.fixture(scope="module")
def folder(demo_repository: Path) -> Path:
    """The exported demo model."""
    return newest_version(demo_repository)


def test_parts_of_a_step_are_told_for_every_batch_size_and_fit_into_it(folder):
    rows = measure_breakdown(folder, num_threads=1, num_rounds=1, batches=(1, 4))

    assert [(row.way, row.batch, row.part) for row in rows] == [
        (way, batch, part) for way in WAYS for batch in (1, 4) for part in (STEP, *PARTS)
    ]
    times = {(row.way, row.batch, row.part): row.ms for row in rows}
    assert all(row.num_steps > 0 and row.ms > 0 for row in rows)
    assert all(times[way, batch, GRAPH] < times[way, batch, STEP] for way, batch, _ in times)


def test_decode_steps_are_timed_while_all_rows_decode(folder):
    steps = EngineSteps(folder, max_rows=3, num_threads=1)

    found = steps.decode(3)

    assert len(found.seconds) == NUM_STEPS
    assert found.num_cached >= 3 * 128 + NUM_STEPS
    assert steps.decode(1).num_cached < 128 + 2 * NUM_STEPS  # the three have left


def test_floor_is_told_for_each_batch_and_a_prompt(folder):
    rows = measure_floor(folder, num_threads=1, num_rounds=1, batches=(1, 4))

    assert [row.kind for row in rows] == ["decode 1", "decode 4", "prefill 256"]
    assert all(row.precision == "fp32" for row in rows)
    for row in rows:
        assert row.least_ms == max(row.read_ms, row.compute_ms) > 0
        assert row.ratio == pytest.approx(row.step_ms / row.least_ms)


def test_gap_is_taken_while_each_prompt_enters(folder):
    auto, int8 = measure_gap(folder, prompt_tokens=200, num_rounds=2, num_threads=1)

    assert (auto.way, int8.way) == ("auto", "int8")
    for row in (auto, int8):
        assert row.num_gaps >= NUM_STREAMS
        assert 0 < row.median_ms <= row.p99_ms
        assert row.ratio == row.p99_ms / row.median_ms


def test_prompt_that_the_model_can_not_read_is_refused_with_both_numbers(folder):
    with pytest.raises(ValueError, match="the prompt has 9000 tokens, the model reads"):
        measure_gap(folder, prompt_tokens=9000, num_rounds=1, num_threads=1)


def test_random_prompts_leave_nothing_to_reuse_and_are_rated_whole(folder):
    rows = measure_replay(
        folder, None, [1], Settings(max_tokens=4), every=0, num_rounds=3, num_threads=1
    )

    assert [row.way for row in rows] == ["plain", "cache", "speculation", "both"]
    assert all(row.reused < 0.05 for row in rows)
    assert all(0 < row.tokens_per_s < row.decode_per_s for row in rows)
    assert rows[0].speed.value == 1


def test_random_prompts_are_all_different():
    prompts = [prompt for series in random_series(50, 8, 1000) for prompt in series]

    assert len({tuple(prompt) for prompt in prompts}) == 50
    assert {len(prompt) for prompt in prompts} == {8}
