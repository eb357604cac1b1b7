import dataclasses
import shutil

import numpy as np
import pytest
from batches import chunk_of, decode, prefill

from nanotriton.contract import Manifest
from nanotriton.errors import ManifestError, RunnerError
from nanotriton.runners.base import Batch
from nanotriton.runners.bindings import MAX_BINDINGS
from nanotriton.runners.ort import OrtRunner


@pytest.mark.parametrize("chunk", [1, 7, 32, 63])
def test_chunked_prefill_equals_one_shot(runner_of, ids, chunk):
    runner = runner_of("fp32")
    np.testing.assert_allclose(prefill(runner, 2, ids, chunk), prefill(runner, 0, ids), atol=1e-5)


def test_ragged_decode_equals_single_sequences(runner_of, ids):
    runner = runner_of("fp32")
    expected = prefill(runner, 0, ids)
    lengths = [40, 3, 17]
    for slot, length in enumerate(lengths, start=1):
        prefill(runner, slot, ids[:length])
    for step in range(5):
        now = [length + step for length in lengths]
        found = decode(runner, 1, ids[now], now, [0, 1, 2])
        np.testing.assert_allclose(found, expected[now], atol=1e-5)


def test_dead_rows_change_nothing(runner_of, ids):
    runner = runner_of("fp32")
    expected = prefill(runner, 0, ids)
    for slot, length in ((1, 20), (2, 9), (3, 30)):
        prefill(runner, slot, ids[:length])
    found = decode(runner, 1, [ids[20], 0, ids[30]], [20, 9, 30], [0, 2])
    np.testing.assert_allclose(found, expected[[20, 30]], atol=1e-5)
    found = decode(runner, 2, [ids[9]], [9], [0])  # the slot between was written past its length
    np.testing.assert_allclose(found, expected[[9]], atol=1e-5)


def test_dead_row_of_a_full_slot_harms_no_slot(runner_of, ids):
    runner = runner_of("fp32")
    expected = prefill(runner, 0, ids)
    prefill(runner, 1, ids)  # full: 64 of 64 positions
    prefill(runner, 2, ids[:5])
    for length in (5, 6):
        now = [63, 64, length]
        found = decode(runner, 0, ids[[63, 0, length]], now, [0, 2])
        np.testing.assert_allclose(found, expected[[63, length]], atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "auto"])
def test_candidates_are_the_best_of_all_logits(runner_of, ids, precision):
    found = runner_of(precision).run(Batch(np.array([5, 63]), chunk_of(0, ids), full_logits=True))
    assert found.logits.shape == found.tokens.shape == (2, 64)
    np.testing.assert_array_equal(found.logits, -np.sort(-found.full)[:, :64])
    np.testing.assert_array_equal(np.take_along_axis(found.full, found.tokens, 1), found.logits)
    lse = np.log(np.exp(found.full.astype(np.float64)).sum(axis=1))
    np.testing.assert_allclose(found.lse, lse, atol=1e-5)


def test_full_logits_come_only_when_asked_for(runner_of, ids):
    runner = runner_of("fp32")
    rows, chunk = np.array([63]), chunk_of(0, ids)
    assert runner.run(Batch(rows, chunk)).full is None
    assert runner.run(Batch(rows, chunk, full_logits=True)).full.shape == (1, 283)


def test_slot_is_reused_without_clearing(runner_of, ids):
    runner = runner_of("fp32")
    expected = prefill(runner, 0, ids[:10])
    prefill(runner, 0, ids[::-1].copy())
    np.testing.assert_array_equal(prefill(runner, 0, ids[:10]), expected)


def test_bindings_are_bounded_and_still_right(runner_of, ids):
    runner = runner_of("fp32")
    expected = prefill(runner, 0, ids)
    for length in range(1, MAX_BINDINGS):
        slot, size = length % 4, 1 + length % 64
        np.testing.assert_allclose(
            prefill(runner, slot, ids[:size], 1 + length % 5), expected[:size], atol=1e-5
        )
    assert len(runner._bindings) <= MAX_BINDINGS


def test_missing_version_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"holds no manifest\.json"):
        OrtRunner(tmp_path, 1, 1)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_missing_file_is_refused(artifact_of, tmp_path, name):
    folder = shutil.copytree(artifact_of("fp32"), tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(RunnerError, match=f"holds no {name}"):
        OrtRunner(folder, 1, 1)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_damaged_file_is_refused_in_one_line(artifact_of, tmp_path, name):
    folder = shutil.copytree(artifact_of("fp32"), tmp_path / "copy")
    (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    with pytest.raises(RunnerError, match="can't load") as refused:
        OrtRunner(folder, 1, 1)
    assert "\n" not in str(refused.value)


def test_plan_of_another_runner_is_refused(artifact_of, tmp_path):
    manifest = Manifest.load(artifact_of("fp32"))
    dataclasses.replace(manifest, runner="trt").save(tmp_path)
    with pytest.raises(RunnerError, match="exported for the runner 'trt'"):
        OrtRunner(tmp_path, 1, 1)
