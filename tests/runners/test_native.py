"""Where our own attention is taken, and what is told of it."""

import shutil

import numpy as np
import onnx
import onnx.inliner
import pytest
from batches import prefill
from stepping import decode

from nanotriton.contract import GRAPH_FILE
from nanotriton.runners.graphs import GraphUse
from nanotriton.runners.native import NAME, describe_attention, find_library
from nanotriton.runners.ort import OrtRunner

STANDARD = GraphUse(native_attention=False)


@pytest.mark.parametrize("precision", ["fp32", "fp32+kv8", "int8", "auto"])
def test_it_is_taken_unless_it_is_switched_off(artifact_of, precision):
    folder = artifact_of(precision)
    assert OrtRunner(folder, 1, 1).has_native_attention
    assert not OrtRunner(folder, 1, 1, STANDARD).has_native_attention


def test_both_ways_bring_the_same_logits(artifact_of, ids):
    native, standard = (OrtRunner(artifact_of("fp32"), 2, 1, use) for use in (GraphUse(), STANDARD))
    np.testing.assert_allclose(prefill(native, 0, ids), prefill(standard, 0, ids), atol=1e-5)
    found, expected = (decode(one, 0, [ids[9]], [9], [0]) for one in (native, standard))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_version_from_before_it_is_attended_by_onnx_runtime(artifact_of, ids, tmp_path):
    folder = shutil.copytree(artifact_of("fp32"), tmp_path / "version")
    model = onnx.load_model(folder / GRAPH_FILE, load_external_data=False)
    inlined = onnx.inliner.inline_local_functions(model)
    del inlined.metadata_props[:]
    onnx.save_model(inlined, folder / GRAPH_FILE)
    old, new = OrtRunner(folder, 1, 1), OrtRunner(artifact_of("fp32"), 1, 1)
    assert not old.has_native_attention
    np.testing.assert_allclose(prefill(old, 0, ids), prefill(new, 0, ids), atol=1e-5)


def test_file_that_does_not_load_is_left_out(tmp_path):
    found = find_library()
    assert found is not None
    (tmp_path / found.name).write_bytes(b"for another machine")
    assert find_library(tmp_path) is None


def test_folder_without_one_has_none(tmp_path):
    assert find_library(tmp_path / NAME) is None


def test_instructions_are_told():
    assert describe_attention().startswith("native, with ")
