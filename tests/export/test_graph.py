import numpy as np
import onnx
import pytest
from batches import chunk_of, logits_of

from export.artifact import write_artifact
from export.checkpoint import load_checkpoint
from export.comparison import TOLERANCES
from export.graph import build_graph
from export.model_file import ALIGNMENT_BYTES, Weights, read_model, write_model
from export.parity import measure_parity
from nanotriton import contract
from nanotriton.errors import CheckpointError
from nanotriton.runners.ort import OrtRunner

NUM_TOKENS = 283


def untie(content):
    content["model"]["lm_head.weight"] = content["model"]["lm_head.weight"].flip(0)


def axes_of(values):
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in values
    }


def caches_of(name):
    """Axes of both parts' caches."""
    names = [name(layer, kind) for layer in range(2) for kind in "kv"]
    decode = {one: ["B", 2, "M", 16] for one in names}
    return decode | {contract.chunk_name(one): [1, 2, "chunk_M", 16] for one in names}


def check_logits(checkpoint, folder):
    """Hold the written graph to the reference, through every cache path."""
    write_artifact(checkpoint, folder, "pytest")
    runner = OrtRunner(folder, 4, 1)
    text = "".join(map(chr, range(32, 127))) * 6
    report = measure_parity(checkpoint, runner, text, 500, progress=lambda _: None)
    report.check(TOLERANCES["fp32"])
    assert report.positions > 400
    assert report.max_abs_delta < 2e-5


@pytest.mark.parametrize(
    ("change", "fields"),
    [(None, {}), (None, {"bias": False}), (untie, {}), (None, {"n_head": 4, "block_size": 33})],
    ids=["bias", "no bias", "untied", "other sizes"],
)
def test_graph_of_nanogpt_computes_its_logits(nanogpt, tmp_path, change, fields):
    check_logits(load_checkpoint(nanogpt(change, **fields)), tmp_path / "work")


@pytest.mark.parametrize(
    "fields",
    [{}, {"activation_function": "gelu"}, {"n_inner": 40, "layer_norm_epsilon": 0.01}],
    ids=["tanh", "erf", "other mlp and epsilon"],
)
def test_graph_of_huggingface_computes_its_logits(huggingface, tmp_path, fields):
    check_logits(load_checkpoint(huggingface(**fields)), tmp_path / "work")


def test_names_and_axes_are_the_contracts(artifact_of):
    model = read_model(artifact_of("fp32"))
    assert axes_of(model.inputs) == {
        contract.GRAPH_INPUT_IDS: ["N"],
        contract.GRAPH_POSITION_IDS: ["N"],
        contract.GRAPH_ROWS: ["R"],
        contract.GRAPH_ATTENTION_ROWS: ["N"],
        contract.GRAPH_ATTENDED: ["B", 1],
        contract.GRAPH_SEQLENS_K: ["B"],
        contract.GRAPH_TOTAL_LEN: [1],
        contract.chunk_name(contract.GRAPH_ATTENDED): [1, "T"],
        contract.chunk_name(contract.GRAPH_SEQLENS_K): [1],
        contract.chunk_name(contract.GRAPH_TOTAL_LEN): [1],
    } | caches_of(contract.past_name)
    assert axes_of(model.outputs) == {
        contract.GRAPH_TOP_LOGITS: ["R", 64],
        contract.GRAPH_TOP_TOKENS: ["R", 64],
        contract.GRAPH_LSE: ["R"],
        contract.GRAPH_LOGITS: ["R", NUM_TOKENS],
    } | caches_of(contract.present_name)


@pytest.mark.parametrize("rows", [[31], [0, 7, 31], [31, 0]], ids=str)
def test_rows_that_are_not_wanted_change_nothing(runner_of, ids, rows):
    """Only wanted rows pass the last layer's MLP, yet all leave their keys and values."""
    part, whole = runner_of("fp32"), runner_of("fp32")
    found, expected = [], []
    for start in (0, 32):
        chunk = chunk_of(0, ids[start : start + 32], start)
        found.append(logits_of(part, chunk, rows=rows))
        expected.append(logits_of(whole, chunk)[rows])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(part._cache, whole._cache)


def test_tied_embedding_is_stored_once(checkpoint):
    weights = build_graph(checkpoint).weights
    assert [name for name, w in weights.items() if w.shape == (NUM_TOKENS, 32)] == ["wte.weight"]


def test_weights_lie_outside_of_the_graph_at_page_boundaries(artifact_of):
    graph = onnx.load(artifact_of("fp32") / "model.onnx", load_external_data=False).graph
    for tensor in graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            assert place["location"] == contract.WEIGHTS_FILE
            assert int(place["offset"]) % ALIGNMENT_BYTES == 0
    assert (artifact_of("fp32") / "model.onnx").stat().st_size < 40_000


def test_written_weights_are_read_back(checkpoint, tmp_path):
    write_model(build_graph(checkpoint), tmp_path)
    found = read_model(tmp_path).weights
    assert isinstance(found, Weights)
    for name, weight in checkpoint.weights.items():
        assert (found[name] == weight).all(), name


def test_heads_that_attention_does_not_take_are_refused(nanogpt):
    checkpoint = load_checkpoint(nanogpt(n_head=8))
    with pytest.raises(CheckpointError, match=r"heads have 4 dimensions.*multiples of 8"):
        build_graph(checkpoint)
