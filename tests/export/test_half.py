import dataclasses

import numpy as np
import onnx
import pytest

from export.artifact import quantize_artifact, write_artifact
from export.comparison import TOLERANCES
from export.model_file import read_model
from export.parity import measure_parity
from nanotriton.errors import CheckpointError, RunnerError
from nanotriton.runners.ort import OrtRunner

TEXT = "".join(map(chr, range(32, 127))) * 6


def test_half_weights_keep_the_function_and_take_half_the_bytes(checkpoint, artifact_of):
    folder = artifact_of("fp16")
    report = measure_parity(checkpoint, OrtRunner(folder, 4, 1), TEXT, 500, lambda _: None)
    report.check(TOLERANCES["fp16"])
    sizes = [(artifact_of(one) / "model.onnx.data").stat().st_size for one in ("fp16", "fp32")]
    assert sizes[0] < 0.75 * sizes[1]  # of the tiny model much is padding
    assert read_model(folder).weights["wte.weight_half"].dtype == np.float16


def test_weight_that_half_can_not_hold_is_named(checkpoint, tmp_path):
    weights = dict(checkpoint.weights)
    weights["h.0.mlp.c_fc.weight"] = weights["h.0.mlp.c_fc.weight"] * 1e6
    write_artifact(dataclasses.replace(checkpoint, weights=weights), tmp_path, "pytest")
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"h\.0\.mlp\.c_fc\.weight reaches .*65504"):
        quantize_artifact(tmp_path, "fp16")
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_opset_that_the_runner_lacks_is_one_line(checkpoint, tmp_path):
    write_artifact(checkpoint, tmp_path, "pytest")
    path = tmp_path / "model.onnx"
    proto = onnx.load_model(path, load_external_data=False)
    proto.opset_import[0].version = 999
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(RunnerError, match=r"can.t load .*model\.onnx") as refused:
        OrtRunner(tmp_path, 1, 1)
    assert "\n" not in str(refused.value)
