import numpy as np
import pytest
from batches import chunk_of, decode, logits_of, prefill

from export.artifact import quantize_artifact
from export.model_file import Model, read_model, write_model
from export.quantized import quantize_model
from export.rotated import rotate_model
from nanotriton.errors import ArtifactError
from nanotriton.runners.ort import OrtRunner


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


def test_only_embeddings_and_vectors_stay_float32(artifact_of):
    weights = read_model(artifact_of("int8")).weights
    matrices = {name for name, w in weights.items() if w.ndim == 2 and w.dtype == np.float32}
    assert matrices == {"wte.weight", "wpe.weight"}
    assert sum(w.dtype == np.int8 for w in weights.values()) == 2 * 4 + 1


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


def test_quantizing_twice_is_refused(artifact_of):
    with pytest.raises(ArtifactError, match="precision int8, only fp32"):
        quantize_artifact(artifact_of("int8"), "int8")
