import dataclasses

import numpy as np
import pytest

from export.artifact import write_artifact
from export.blockwise import four_bit_inputs, quantize_blocks, round_weight
from export.calibration import Calibration, default_text, record_rows
from export.compensation import Compensation, compensate
from export.model_file import read_model
from export.rotated import rotate_model


def rows_of(seed, num_rows=600, width=70, num_outputs=9):
    """Correlated rows (N, in), and a weight (in, out); 70 is no multiple of a block."""
    mix = np.random.default_rng(0).normal(size=(width, width)) / width
    random = np.random.default_rng(seed)
    rows = random.normal(size=(num_rows, width)) @ (mix + np.eye(width)[:, ::-1] * 0.02)
    return rows, np.random.default_rng(5).normal(size=(width, num_outputs)).astype(np.float32)


def output_error(rows, weight, blocks):
    return float(np.square(rows @ (blocks.restored(len(weight)) - weight)).sum())


def test_products_of_held_out_rows_err_less():
    rows, weight = rows_of(1)
    plain = round_weight(weight, 4)
    found = compensate(weight, plain, rows.T @ rows)
    held_out, _ = rows_of(2)
    assert output_error(held_out, weight, found) < 0.8 * output_error(held_out, weight, plain)
    assert (found.scales == plain.scales).all()
    padding = [one.codes.reshape(9, -1)[:, 70:] for one in (found, plain)]
    assert (padding[0] == padding[1]).all()


def test_every_linear_of_a_model_errs_less_on_held_out_text(checkpoint, tmp_path):
    write_artifact(checkpoint, tmp_path, "pytest")
    model = rotate_model(read_model(tmp_path))
    windows = Calibration(default_text(), 4096, print).windows(checkpoint.vocabulary, 64)
    recorded = []
    for name, part in (("fitted", windows[::2]), ("held out", windows[1::2])):
        (tmp_path / name).mkdir()
        recorded.append(record_rows(model, four_bit_inputs(model), part, tmp_path / name))
    seen = []

    def refine(node, weight, plain):
        found = Compensation(recorded[0], pytest.fail)(node, weight, plain)
        rows = recorded[1][node.input[0]]
        seen.append(output_error(rows, weight, found) / output_error(rows, weight, plain))
        return found

    quantize_blocks(model, refine)
    assert len(seen) == 8
    assert max(seen) < 0.9


def test_dead_channels_are_rounded_plainly_and_do_no_harm():
    rows, weight = rows_of(1)
    rows[:, [3, 40]] = 0
    plain = round_weight(weight, 4)
    found = compensate(weight, plain, rows.T @ rows)
    codes, expected = (one.codes.reshape(9, -1) for one in (found, plain))
    assert (codes[:, [3, 40]] == expected[:, [3, 40]]).all()
    assert output_error(rows, weight, found) < output_error(rows, weight, plain)


def test_rows_of_zeros_leave_plain_rounding():
    _, weight = rows_of(1)
    plain = round_weight(weight, 4)
    assert (compensate(weight, plain, np.zeros((70, 70))).codes == plain.codes).all()


def test_fewer_rows_than_channels_are_enough():
    rows, weight = rows_of(1, num_rows=5)  # singular moments
    plain = round_weight(weight, 4)
    found = compensate(weight, plain, rows.T @ rows)
    assert output_error(rows, weight, found) < output_error(rows, weight, plain)
    assert found.codes.max() <= 15


@pytest.mark.parametrize("fill", [np.inf, np.nan, 1e25], ids=str)
def test_bad_rows_leave_plain_rounding_and_a_sentence(fill):
    rows, weight = rows_of(1)
    rows = rows.astype(np.float32)
    rows[7, 7] = fill
    said = []
    node = dataclasses.make_dataclass("Node", ["input"])(["x", "h.0.mlp.c_fc.weight"])
    plain = round_weight(weight, 4)
    assert Compensation({"x": rows}, said.append)(node, weight, plain) is plain
    (line,) = said
    assert line.startswith("calibration: h.0.mlp.c_fc.weight is rounded without it: ")
    assert "overflow" in line


def test_moments_that_are_none_are_refused():
    _, weight = rows_of(1)
    with pytest.raises(np.linalg.LinAlgError):
        compensate(weight, round_weight(weight, 4), -np.eye(70))
