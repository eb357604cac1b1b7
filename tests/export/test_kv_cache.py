"""A KV cache of int8: how near it stays, and that all of it is where float32 was."""

import dataclasses

import numpy as np
import pytest
from batches import chunk_of, decode, decode_of, logits_of, prefill

from export.__main__ import main
from export.artifact import quantize_artifact, write_artifact
from export.calibration import Calibration
from export.checkpoint import load_checkpoint
from export.comparison import TOLERANCES
from export.gate import Gate
from export.kv_cache import LARGEST, MARGIN, packed_inputs, quantize_cache
from export.model_file import read_model
from export.parity import default_text as parity_text
from export.parity import measure_parity
from nanotriton.errors import ArtifactError, ManifestError, RunnerError
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch, Copy
from nanotriton.runners.ort import OrtRunner, slots_within

PRECISIONS = ["fp32", "int8", "auto"]


def relative(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cache_of_int8_is_a_quarter_and_the_logits_stay_near(runner_of, ids, precision):
    exact, rounded = runner_of(precision), runner_of(f"{precision}+kv8")
    assert 4 * rounded.cache_bytes == exact.cache_bytes
    assert rounded._cache.dtype == np.int8
    assert relative(prefill(rounded, 0, ids, 16), prefill(exact, 0, ids, 16)) < 0.1


def test_quality_cost_is_measured_through_the_cache(checkpoint, runner_of):
    report = measure_parity(checkpoint, runner_of("fp32+kv8"), parity_text(), 600, print)
    report.check(TOLERANCES["int8"])
    assert 1e-7 < report.mean_kl < 1e-3


def test_gate_holds_it_to_the_limits_of_8_bits(checkpoint, artifact_of):
    gate = Gate(parity_text(), 300, 1, {}, print)
    figures = gate.measure(checkpoint, artifact_of("fp32+kv8"))
    assert figures["calibration_tokens"] == 1024


def test_chunks_and_copies_hold_what_one_pass_holds(runner_of, ids):
    # What is written is rounded once, whatever comes in one call: only float32 sums differ.
    runner = runner_of("fp32+kv8")
    expected = prefill(runner, 0, ids)
    np.testing.assert_allclose(prefill(runner, 1, ids, 7), expected, atol=2e-3)
    last = decode_of(3, ids[-1:], [63])
    batch = Batch(np.zeros(1, int), None, last, full_logits=True, copies=(Copy(0, 3, 63),))
    np.testing.assert_allclose(runner.run(batch).full[0], expected[63], atol=2e-3)


def test_mixed_steps_bring_what_their_parts_bring(runner_of, ids):
    runner = runner_of("fp32+kv8")
    expected = prefill(runner, 3, ids)
    for slot in (0, 2):
        prefill(runner, slot, ids[:30])
    chunk, rows = chunk_of(1, ids[:20]), decode_of(0, [ids[30], 0, ids[30]], [30, 20, 30])
    found = logits_of(runner, chunk, rows, [19, 20, 22])
    np.testing.assert_allclose(found, expected[[19, 30, 30]], atol=2e-3)
    np.testing.assert_allclose(decode(runner, 1, ids[[20]], [20]), expected[[20]], atol=2e-3)


@pytest.mark.parametrize("bias", [True, False])
def test_scales_cover_what_was_seen_and_centre_where_biases_allow(nanogpt, tmp_path, bias):
    write_artifact(load_checkpoint(nanogpt(bias=bias)), tmp_path, "pytest")
    model = read_model(tmp_path)
    rows = np.random.default_rng(0).normal(5, 1, (100, 96)).astype(np.float32)
    changed = quantize_cache(model, dict.fromkeys(packed_inputs(model), rows)).weights
    scale, keys = changed["h.1.attn.key_scale"] * LARGEST / MARGIN, rows[:, 32:64]
    ranges = np.ptp(keys, axis=0) / 2 if bias else np.abs(keys).max(axis=0)
    np.testing.assert_allclose(scale, ranges, rtol=1e-5)


def test_what_is_taken_from_values_comes_back_behind_attention(artifact_of):
    model = read_model(artifact_of("fp32"))
    rows = np.stack([np.full(96, -1.0), np.full(96, 3.0)]).astype(np.float32)
    weights = quantize_cache(model, dict.fromkeys(packed_inputs(model), rows)).weights
    moved = weights["h.0.attn.c_attn.bias"] - model.weights["h.0.attn.c_attn.bias"]
    np.testing.assert_allclose(moved, [0] * 32 + [-1] * 64, atol=1e-6)
    back = weights["h.0.attn.c_proj.bias"] - model.weights["h.0.attn.c_proj.bias"]
    np.testing.assert_allclose(back, model.weights["h.0.attn.c_proj.weight"].sum(0), atol=1e-5)


def test_memory_budget_buys_four_times_the_slots(artifact_of):
    exact, rounded = (Manifest.load(artifact_of(one)) for one in ("int8", "int8+kv8"))
    assert slots_within(4 * exact.slot_bytes, rounded) == 16
    with pytest.raises(RunnerError, match=f"one KV slot of this model takes {rounded.slot_bytes}"):
        slots_within(rounded.slot_bytes - 1, rounded)


def test_command_line_writes_and_measures_it(nanogpt, tmp_path, capsys):
    words = ["--kv", "int8", "--tokens", "200", "--calibration-tokens", "1024"]
    checkpoint = str(nanogpt())
    assert main(["all", checkpoint, "--repository", str(tmp_path / "repository"), *words]) == 0
    folder = tmp_path / "repository" / "gpt" / "1"
    assert Manifest.load(folder).kv_dtype == "int8"
    assert OrtRunner(folder, 1, 1).cache_bytes == Manifest.load(folder).slot_bytes
    assert "quantized: keys and values of 8 bits" in capsys.readouterr().err


def test_cache_of_int8_without_calibration_is_refused(artifact_of):
    with pytest.raises(ArtifactError, match="scales that come from calibration"):
        quantize_artifact(artifact_of("fp32"), "int8", None, kv="int8")


def test_short_text_is_refused(checkpoint, tmp_path):
    write_artifact(checkpoint, tmp_path, "pytest")
    with pytest.raises(ArtifactError, match="at least 1024 are needed"):
        quantize_artifact(tmp_path, "fp32", Calibration("def f", 1024, print), kv="int8")


def test_cache_of_another_kind_is_refused(artifact_of, tmp_path):
    manifest = dataclasses.replace(Manifest.load(artifact_of("fp32")), kv_dtype="int2")
    manifest.save(tmp_path)
    with pytest.raises(ManifestError, match="kv_dtype 'int2', this nanotriton reads float32 and"):
        Manifest.load(tmp_path)
