import dataclasses

import numpy as np
import onnxruntime
import pytest
from dialects import TEXT, runner_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export.calibration import Calibration, default_text
from export.dialect import build_dialect
from export.model_file import write_model
from export.parity import measure_parity
from export.reference import Reference
from export.smoothing import smooth, smoothing_factor
from export.static_int8 import (
    CUTS,
    LinearInputs,
    StaticInt8,
    choose_scale,
    quantize_static,
)

OUTLIERS = slice(3, 30, 12)  # channels of the width that are as much larger
FACTOR = 60.0


@pytest.fixture(scope="session")
def outlying(checkpoint):
    """The same function with a few channels of every norm many times larger."""
    weights = dict(checkpoint.weights)
    factor = np.ones(checkpoint.config.width, np.float32)
    factor[OUTLIERS] = FACTOR
    for layer in range(checkpoint.config.num_layers):
        for norm, linear in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
            for name in (f"h.{layer}.{norm}.weight", f"h.{layer}.{norm}.bias"):
                weights[name] = weights[name] * factor
            weights[f"h.{layer}.{linear}.weight"] = (
                weights[f"h.{layer}.{linear}.weight"] / factor[:, None]
            )
    return dataclasses.replace(checkpoint, weights=weights)


@pytest.fixture(scope="session")
def windows(checkpoint):
    return Calibration(default_text(), 1024, print).windows(checkpoint.vocabulary, 64)


def sizes_of(checkpoint, windows, folder):
    rows = LinearInputs(checkpoint, windows, folder)
    return {name: np.abs(rows[name]).max(axis=0) for name in rows}


def report_of(checkpoint, folder, model):
    """The figures of a graph in place of the checkpoint's own."""
    runner = runner_of(checkpoint, folder, half=True, model=model)
    return measure_parity(checkpoint, runner, TEXT, 500, progress=lambda _: None)


def entering(weights, layer, norm, linear, rows):
    """What a linear behind a norm gives in float64; `rows`, (N, H * D), enter the gain."""
    x, w, name = rows.astype(np.float64), weights, f"h.{layer}"
    x = x * w[f"{name}.{norm}.weight"] + w[f"{name}.{norm}.bias"]
    return x @ w[f"{name}.{linear}.weight"] + w[f"{name}.{linear}.bias"]


def test_smoothing_folds_exactly(outlying, windows, tmp_path):
    smoothed = smooth(outlying, sizes_of(outlying, windows, tmp_path)).checkpoint
    rows = np.random.default_rng(0).standard_normal((64, 32))
    for layer in range(2):
        place = (layer, "ln_2", "mlp.c_fc", rows)
        before, after = (entering(one.weights, *place) for one in (outlying, smoothed))
        assert np.abs(after - before).max() < 2e-7 * np.abs(before).max()


def test_smoothing_changes_no_function(outlying, windows, ids, tmp_path):
    smoothed = smooth(outlying, sizes_of(outlying, windows, tmp_path)).checkpoint
    for name in ("h.0.ln_1.bias", "h.1.attn.c_proj.weight", "h.0.attn.c_attn.bias"):
        assert not np.allclose(smoothed.weights[name], outlying.weights[name])
    expected, found = (Reference(one).hidden(ids) for one in (outlying, smoothed))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_smoothed_inputs_are_of_even_size(outlying, windows, tmp_path):
    sizes = sizes_of(outlying, windows, tmp_path)
    factors = smooth(outlying, sizes).factors
    for name in ("h.0.attn.c_attn", "h.1.mlp.c_fc"):
        before, after = sizes[name], sizes[name] / factors[name]
        assert before.max() / np.median(before) > 20
        assert after.max() / np.median(after) < 4


@given(size=st.floats(1e-3, 1e3), weight=st.floats(1e-3, 1e3), strength=st.sampled_from([0, 1]))
def test_strength_decides_which_side_is_evened(size, weight, strength):
    factor = smoothing_factor(
        np.array([size], np.float32), np.array([[weight, -weight / 2]], np.float32), strength
    )
    evened = size / factor[0] if strength else weight * factor[0]
    assert evened == pytest.approx(1, rel=1e-5)


def test_smoothing_saves_a_model_with_outliers(outlying, windows, tmp_path):
    rows = LinearInputs(outlying, windows, tmp_path)
    scales = {name: choose_scale(rows[name]) for name in rows}
    rough = quantize_static(build_dialect(outlying, half=True, kv="static"), scales)
    smoothed = StaticInt8.calibrate(outlying, windows).build("static")
    plain = report_of(outlying, tmp_path / "plain", rough)
    better = report_of(outlying, tmp_path / "smooth", smoothed)
    assert better.mean_kl < plain.mean_kl / 5
    assert better.top1 > plain.top1 + 0.1


def test_integers_are_symmetric_and_the_head_is_half(checkpoint, windows):
    model = StaticInt8.calibrate(checkpoint, windows).build("static")
    for name, weight in model.weights.items():
        if weight.dtype == np.int8:
            assert "zero" in name or (np.abs(weight).max(), weight.min() > -128) == (127, True)
            assert "zero" not in name or not weight.any()
    products = [node for node in model.nodes if node.op_type == "QuantizeLinear"]
    assert len(products) == 4 * checkpoint.config.num_layers
    assert model.weights["wte.weight"].dtype == np.float16
    assert model.weights["h.0.attn.c_attn.weight_scale"].shape == (96,)


@settings(max_examples=30)
@given(arrays.arrays(np.float32, (8, 4), elements=st.floats(-50, 50, width=32)))
def test_scale_covers_at_least_the_smallest_cut(rows):
    largest = np.abs(rows).max() or 1
    assert CUTS[-1] * largest <= choose_scale(rows) * 127 * 1.0001 <= largest * 1.001


@pytest.mark.parametrize("kv", ["concat", "none"])
def test_every_form_takes_8_bits(checkpoint, windows, tmp_path, kv):
    write_model(StaticInt8.calibrate(checkpoint, windows).build(kv), tmp_path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
