"""AWQ: the same function before rounding, less lost after it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.__main__ import main
from export.blockwise import four_bit_inputs, round_weight
from export.calibration import record_rows
from export.model_file import Model, read_model
from export.rotated import rotate_model
from export.scaled import find_scales, rounding_loss, scale_model
from nanotriton.manifest import Manifest

LOUD = 3  # a channel whose activations are far larger than the others'


def rows_with_a_loud_channel(seed: int, width: int = 64) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((200, width), np.float32)
    rows[:, LOUD] *= 40
    return rows


def weight_of(seed: int, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed + 1).standard_normal((width, 24), np.float32)


@given(st.integers(0, 2**32 - 2), st.floats(0.1, 30))
@settings(max_examples=15)
def test_scales_never_lose_more_than_plain_rounding(seed, factor):
    rows = rows_with_a_loud_channel(seed) * np.float32(factor)
    moments = rows.T @ rows
    weight = weight_of(seed)
    scales = find_scales(weight, rows)
    plain = rounding_loss(weight, np.ones_like(scales), moments)
    assert rounding_loss(weight, scales, moments) <= plain
    assert np.isfinite(scales).all()
    assert (scales > 0).all()


def test_channel_with_large_activations_keeps_more_of_itself():
    rows, weight = rows_with_a_loud_channel(5), weight_of(5)
    scales = find_scales(weight, rows)
    moments = rows.T @ rows
    assert scales.argmax() == LOUD
    assert rounding_loss(weight, scales, moments) < 0.7 * rounding_loss(
        weight, np.ones_like(scales), moments
    )


def test_loss_is_that_of_the_products():
    rows, weight = rows_with_a_loud_channel(6), weight_of(6)
    scales = np.linspace(0.5, 2, len(weight), dtype=np.float32)
    restored = round_weight(weight * scales[:, None], 4).restored(len(weight))
    missed = np.square((rows / scales) @ restored - rows @ weight).sum()
    assert rounding_loss(weight, scales, rows.T @ rows) == pytest.approx(missed, rel=1e-3)


@pytest.mark.parametrize("value", [0, np.inf, np.nan])
def test_rows_that_tell_nothing_leave_the_weight_alone(value):
    rows = np.full((8, 64), value, np.float32)
    assert (find_scales(weight_of(7), rows) == 1).all()


@pytest.fixture
def recorded(artifact_of, ids, tmp_path) -> tuple[Model, dict[str, np.ndarray]]:
    """The tiny model, turned, and what entered its 4-bit linears."""
    model = rotate_model(read_model(artifact_of("fp32")))
    rows = record_rows(model, four_bit_inputs(model), [ids], tmp_path)
    return model, {name: np.array(rows[name]) for name in rows}


def test_scaled_model_is_the_same_function(recorded, ids, tmp_path):
    model, rows = recorded
    scaled = scale_model(model, rows)
    assert set(scaled.weights) == set(model.weights)
    changed = {n for n in model.weights if (scaled.weights[n] != model.weights[n]).any()}
    norms, linears = {"ln_1.weight", "ln_2.weight"}, {"attn.c_attn.weight", "mlp.c_fc.weight"}
    assert {name.split(".", 2)[2] for name in changed} == norms | linears
    outputs = {name: four_bit_inputs(model)[name] for name in rows if "Gelu" in name}
    (tmp_path / "after").mkdir()
    after = record_rows(scaled, outputs, [ids], tmp_path / "after")
    for name in outputs:
        np.testing.assert_allclose(after[name], rows[name], atol=2e-5)


def test_awq_version_says_so_and_passes_the_gate(nanogpt, tmp_path):
    words = ("--precision", "auto", "--rounding", "awq", "--tokens", "300", "--threads", "1")
    loose = ("--min-top1", "0.6", "--min-greedy", "0.6")
    repository = tmp_path / "repo"
    command = ["all", str(nanogpt()), "--repository", str(repository), *words, *loose]
    assert main(command) == 0
    manifest = Manifest.load(repository / "gpt" / "1")
    assert (manifest.rounding, manifest.calibration_tokens) == ("awq", 4096)
