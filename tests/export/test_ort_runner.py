import dataclasses
import shutil

import numpy as np
import pytest
from stepping import prefill

from nanotriton.errors import ManifestError, RunnerError
from nanotriton.manifest import Manifest
from nanotriton.runners.bindings import MAX_BINDINGS
from nanotriton.runners.ort import OrtRunner


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
