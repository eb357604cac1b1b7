"""Versions of precision auto: two graphs that take turns over one KV cache."""

import json
import shutil

import numpy as np
import pytest
from batches import chunk_of, decode, decode_of, prefill

from export.artifact import MAX_DECODE_ROWS
from export.model_file import read_model
from export.parity import generate
from nanotriton.contract import DECODE_GRAPH_FILE, GRAPH_FILE
from nanotriton.errors import ManifestError, RunnerError
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch
from nanotriton.runners.graphs import BY_ROWS, DETERMINISTIC, GraphUse
from nanotriton.runners.ort import OrtRunner

NUM_SLOTS = 2 * MAX_DECODE_ROWS
ONLY_INT4 = GraphUse(only=DECODE_GRAPH_FILE)


@pytest.fixture
def open_auto(artifact_of):
    """A runner over the tiny version with two graphs."""
    return lambda use=BY_ROWS: OrtRunner(artifact_of("auto"), NUM_SLOTS, 1, use)


@pytest.fixture
def prompts(ids):
    """One for each slot, of different lengths."""
    return [ids[: 8 + 3 * slot] for slot in range(NUM_SLOTS)]


def decode_same(runner, num_rows, ids, past=20):
    """Logits (R, V) of one step for the first slots, all of them at the same place."""
    return decode(runner, 0, [ids[past]] * num_rows, [past] * num_rows)


def fill(runner, ids, length=20):
    """The same prompt into every slot."""
    for slot in range(NUM_SLOTS):
        prefill(runner, slot, ids[:length])


def test_manifest_says_which_graph_serves_what(artifact_of):
    manifest = Manifest.load(artifact_of("auto"))
    assert manifest.precision == "auto"
    assert manifest.decode_graph.file == DECODE_GRAPH_FILE
    assert manifest.decode_graph.max_rows == MAX_DECODE_ROWS
    assert {"model.int4.onnx", "model.int4.onnx.data"} < manifest.files.keys()


@pytest.mark.parametrize(
    ("num_rows", "graph"), [(1, 1), (MAX_DECODE_ROWS, 1), (MAX_DECODE_ROWS + 1, 0)], ids=str
)
def test_graph_that_answered_is_named(open_auto, ids, num_rows, graph):
    runner = open_auto()
    fill(runner, ids)
    rows = decode_of(0, ids[:num_rows], [20] * num_rows)
    assert (
        runner.run(Batch(np.array([0]), decode=rows)).graph
        == (GRAPH_FILE, DECODE_GRAPH_FILE)[graph]
    )
    assert runner.run(Batch(np.array([4]), chunk_of(0, ids[:5]))).graph == GRAPH_FILE


def test_embeddings_are_stored_once_for_both_graphs(artifact_of):
    folder = artifact_of("auto")
    graphs = [read_model(folder, name).weights for name in (GRAPH_FILE, DECODE_GRAPH_FILE)]
    assert (graphs[0]["wte.codes"] == graphs[1]["wte.codes"]).all()
    alone = (artifact_of("int4") / "model.onnx.data").stat().st_size
    assert (folder / "model.int4.onnx.data").stat().st_size < alone - graphs[0]["wte.codes"].nbytes


@pytest.mark.parametrize(
    ("use", "limit"),
    [(BY_ROWS, MAX_DECODE_ROWS), (GraphUse(max_decode_rows=2), 2), (DETERMINISTIC, 0)],
    ids=["manifest's", "given", "pinned"],
)
def test_decode_of_few_rows_takes_the_decode_graph(open_auto, ids, use, limit):
    runner, int8, int4 = open_auto(use), open_auto(DETERMINISTIC), open_auto(ONLY_INT4)
    for one in (runner, int8):
        fill(one, ids)
    fill(int4, ids)
    int4._cache[:] = int8._cache
    for num_rows in range(1, NUM_SLOTS + 1):
        right, wrong = (int4, int8) if num_rows <= limit else (int8, int4)
        found = decode_same(runner, num_rows, ids)
        np.testing.assert_array_equal(found, decode_same(right, num_rows, ids))
        assert (found != decode_same(wrong, num_rows, ids)).any()


def test_prompts_take_the_main_graph(open_auto, ids):
    both, int8 = open_auto(), open_auto(DETERMINISTIC)
    fill(both, ids)
    fill(int8, ids)
    np.testing.assert_array_equal(both._cache, int8._cache)


def test_graphs_write_the_same_keys_and_values_up_to_rounding(open_auto, ids):
    int8, int4 = open_auto(DETERMINISTIC), open_auto(ONLY_INT4)
    fill(int8, ids, 64)
    fill(int4, ids, 64)
    for kind in range(2):  # keys, values; of the first layer one linear of 4 bits makes them
        exact, found = int8._cache[0, kind, 0, :, :64], int4._cache[0, kind, 0, :, :64]
        assert np.abs(found - exact).max() < 0.15 * np.abs(exact).max()
        exact, found = int8._cache[1, kind, 0, :, :64], int4._cache[1, kind, 0, :, :64]
        assert np.abs(found - exact).mean() < 0.25 * np.abs(exact).mean()


def test_graphs_that_take_turns_stay_between_the_two_alone(open_auto, ids):
    """Every token of a slot written by the other graph than the one before it."""
    both, int8 = open_auto(), open_auto(DETERMINISTIC)
    fill(both, ids)
    fill(int8, ids)
    for past in range(20, 60):
        found = decode_same(both, (1, NUM_SLOTS)[past % 2], ids, past)
        if past % 2 == 0:  # the other slots get this token too, or they would miss it
            for slot in range(1, NUM_SLOTS):
                decode(both, slot, [ids[past]], [past])
        expected = decode_same(int8, NUM_SLOTS, ids, past)
        assert np.abs(found[0] - expected[0]).max() < 0.25 * np.abs(expected).max()


def test_pinned_version_writes_what_int8_alone_writes(open_auto, artifact_of, prompts):
    pinned = generate(open_auto(DETERMINISTIC), prompts, (NUM_SLOTS, 1, 4))
    int8 = generate(OrtRunner(artifact_of("int8"), NUM_SLOTS, 1), prompts, (NUM_SLOTS,))
    np.testing.assert_array_equal(pinned, int8)


@pytest.mark.parametrize("name", ["model.int4.onnx", "model.int4.onnx.data"])
def test_missing_decode_graph_is_refused(artifact_of, tmp_path, name):
    folder = shutil.copytree(artifact_of("auto"), tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(RunnerError, match=f"holds no {name}: export the model again"):
        OrtRunner(folder, 1, 1)


def test_pinned_version_does_not_open_its_decode_graph(artifact_of, tmp_path):
    folder = shutil.copytree(artifact_of("auto"), tmp_path / "copy")
    (folder / "model.int4.onnx").unlink()
    for use in (DETERMINISTIC, GraphUse(max_decode_rows=0)):
        assert OrtRunner(folder, 1, 1, use).num_slots == 1


def test_decode_graph_outside_of_the_files_is_refused(artifact_of, tmp_path):
    folder = shutil.copytree(artifact_of("auto"), tmp_path / "copy")
    values = json.loads((folder / "manifest.json").read_text())
    values["decode_graph"]["file"] = "other.onnx"
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ManifestError, match=r"'other.onnx', which is not among its files"):
        OrtRunner(folder, 1, 1)


def test_negative_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="max_decode_rows is -1, the least is 0"):
        GraphUse(max_decode_rows=-1)
