import dataclasses
import shutil

import numpy as np
import pytest

from export.artifact import write_artifact
from export.checkpoint import load_checkpoint
from export.comparison import TOLERANCES, Report
from export.model_file import read_model, write_model
from export.parity import default_text, measure_parity
from export.quantized import quantize_model
from export.rotated import rotate_model, rotation
from nanotriton.runners.ort import OrtRunner

OUTLIERS = [3, 11]


def untie(content):
    content["model"]["lm_head.weight"] = content["model"]["lm_head.weight"].flip(0)


def measure(checkpoint, model, work) -> Report:
    """Parity of a rewritten model that takes the place of the one in `work`."""
    folder = work.with_name("rewritten")
    shutil.copytree(work, folder, dirs_exist_ok=True)
    write_model(model, folder)
    runner = OrtRunner(folder, num_slots=4, num_threads=1)
    return measure_parity(checkpoint, runner, default_text(), 600, lambda _: None)


@pytest.mark.parametrize("width", [1, 2, 32, 96])
def test_rotation_is_orthogonal_and_keeps_the_mean(width):
    turn = rotation(width)
    np.testing.assert_allclose(turn @ turn.T, np.eye(width), atol=1e-12)
    np.testing.assert_allclose(np.ones(width) @ turn, np.ones(width), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "fields"),
    [(None, {}), (None, {"bias": False}), (untie, {})],
    ids=["bias", "no bias", "untied"],
)
def test_rotated_model_computes_the_same_logits(nanogpt, tmp_path, change, fields):
    checkpoint = load_checkpoint(nanogpt(change, **fields))
    work = tmp_path / "work"
    write_artifact(checkpoint, work, "pytest")
    report = measure(checkpoint, rotate_model(read_model(work)), work)
    report.check(TOLERANCES["fp32"])


def with_outliers(checkpoint):
    """The same function, with channels 50 times larger behind every norm."""
    weights = {name: np.array(weight) for name, weight in checkpoint.weights.items()}
    for layer in range(2):
        for norm, linear in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
            weights[f"h.{layer}.{norm}.weight"][OUTLIERS] *= 50
            weights[f"h.{layer}.{norm}.bias"][OUTLIERS] *= 50
            weights[f"h.{layer}.{linear}.weight"][OUTLIERS] /= 50
    return dataclasses.replace(checkpoint, weights=weights)


def test_outlier_channels_do_no_harm_to_a_rotated_model(nanogpt, tmp_path):
    checkpoint = with_outliers(load_checkpoint(nanogpt()))
    work = tmp_path / "work"
    write_artifact(checkpoint, work, "pytest")
    plain = measure(checkpoint, quantize_model(read_model(work)), work)
    rotated = measure(checkpoint, quantize_model(rotate_model(read_model(work))), work)
    assert rotated.mean_kl < plain.mean_kl / 20
