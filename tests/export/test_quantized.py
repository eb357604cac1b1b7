import numpy as np
import pytest
from batches import chunk_of, decode, logits_of, prefill
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from export.artifact import quantize_artifact
from export.model_file import CONTRIB_DOMAIN, OPSET, Model, read_model, write_model
from export.quantized import NORM_RANGE, quantize_model
from export.rotated import rotate_model
from nanotriton.errors import ArtifactError
from nanotriton.runners.ort import OrtRunner


def run_nodes(nodes, weights, x):
    """What a chain of nodes makes of x (N, width)."""
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(weights[name], name) for name in used if name in weights]
    read = helper.make_tensor_value_info(nodes[0].input[0], TensorProto.FLOAT, ("N", x.shape[1]))
    made = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ("N", None))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB_DOMAIN, 1)]
    graph = helper.make_graph(nodes, "chain", [read], [made], tensors)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {read.name: x})[0]


@pytest.mark.parametrize("mates", [[60, 1], [5, 33], [0, 63]], ids=str)
def test_row_does_not_depend_on_its_batch_mates(runner_of, ids, mates):
    runner = runner_of("int8")
    for slot, length in enumerate([20, *mates]):
        if length:
            prefill(runner, slot, ids[:length])
    alone = decode(runner, 0, [ids[20]], [20])
    together = decode(runner, 0, [ids[20], 7, 9], [20, *mates])
    np.testing.assert_array_equal(together[0], alone[0])


def test_row_does_not_depend_on_which_rows_are_asked_for(runner_of, ids):
    runner = runner_of("int8")
    expected = prefill(runner, 0, ids)
    found = logits_of(runner, chunk_of(1, ids), rows=[63, 4])
    np.testing.assert_array_equal(found, expected[[63, 4]])


def test_sequence_does_not_depend_on_what_follows_it(runner_of, ids):
    # Attention sums in float32 and in another order for another T, and rounding to 8 bits turns
    # some of those last bits into one step of an activation: small, but not zero.
    runner = runner_of("int8")
    long, short = prefill(runner, 0, ids), prefill(runner, 1, ids[:17])
    assert np.abs(long[:17] - short).max() < 0.01 * np.abs(long).max()


def test_only_vectors_stay_float32(artifact_of):
    weights = read_model(artifact_of("int8")).weights
    floats = {name for name, weight in weights.items() if weight.dtype == np.float32}
    assert all(max(weights[name].shape, default=1) == weights[name].size for name in floats)
    matrices = [name for name, w in weights.items() if w.dtype == np.int8 and w.ndim == 2]
    assert len(matrices) == 2 * 4 + 1  # the last norm's gain


def test_columns_are_rounded_to_the_nearest_step(artifact_of):
    exact = rotate_model(read_model(artifact_of("fp32"))).weights["h.0.mlp.c_fc.weight"]
    weights = read_model(artifact_of("int8")).weights
    scale = weights["h.0.mlp.c_fc.weight_scale"]
    error = weights["h.0.mlp.c_fc.weight_int8"] * scale - exact
    assert (np.abs(error) <= scale / 2 * 1.001).all()


def test_row_and_column_of_zeros_stay_zero(artifact_of, tmp_path, ids):
    model = read_model(artifact_of("fp32"))
    zeroed = {
        name: np.zeros_like(weight) if name.startswith("ln_f") else np.array(weight)
        for name, weight in model.weights.items()
    }
    zeroed["h.0.mlp.c_fc.weight"][:, 3] = 0
    (tmp_path / "manifest.json").write_bytes((artifact_of("fp32") / "manifest.json").read_bytes())
    write_model(quantize_model(Model(model.nodes, model.inputs, model.outputs, zeroed)), tmp_path)
    assert (prefill(OrtRunner(tmp_path, 1, 1), 0, ids) == 0).all()


def test_only_values_that_no_norm_bounds_have_a_scale_of_their_row(artifact_of):
    model = read_model(artifact_of("int8"))
    by_row = {node.name.partition(".row8")[0] for node in model.nodes if node.op_type == "Div"}
    last = {f"h.{layer}.{name}.c_proj" for layer in range(2) for name in ("attn", "mlp")}
    assert by_row == {*last, "wte"}
    # A model that isn't turned may have values of any size behind a norm, even one without a gain.
    gained = quantize_model(read_model(artifact_of("fp32")))
    assert sum(node.op_type == "Div" for node in gained.nodes) == 2 * 4 + 1


def test_product_behind_a_norm_is_that_of_the_rounded_values(artifact_of):
    model = quantize_model(rotate_model(read_model(artifact_of("fp32"))))
    name = "h.0.mlp.c_fc"
    nodes = [node for node in model.nodes if node.name.startswith(f"{name}.row8")]
    x = np.random.default_rng(5).normal(scale=2, size=(6, 32)).astype(np.float32)
    found = run_nodes(nodes, model.weights, x)
    scale = np.float32(NORM_RANGE / 127)
    rounded = np.clip(np.rint(x / scale), -128, 127) * scale  # beyond the range: cut
    weights = model.weights
    weight = weights[f"{name}.weight_int8"] * weights[f"{name}.weight_scale"]
    np.testing.assert_allclose(found, rounded @ weight + weights[f"{name}.bias"], atol=1e-4)


def test_rounding_behind_a_norm_hardly_changes_the_model(runner_of, ids):
    exact, found = (prefill(runner_of(precision), 0, ids) for precision in ("fp32", "int8"))
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


def test_quantizing_twice_is_refused(artifact_of):
    with pytest.raises(ArtifactError, match="precision int8, only fp32"):
        quantize_artifact(artifact_of("int8"), "int8")
