"""One 8-bit array for the embedding and a tied head: in the file once, read in two forms."""

import dataclasses

import numpy as np
import pytest
from batches import prefill

from export.artifact import quantize_artifact, write_artifact
from export.checkpoint import load_checkpoint
from export.embeddings import LARGEST_BLOCK, SMALLEST_BLOCK, block_form, quantize_embeddings
from export.model_file import ALIGNMENT_BYTES, MIN_EXTERNAL_BYTES, Model, read_model
from export.parity import default_text, measure_parity
from export.rotated import rotate_model
from nanotriton.runners.ort import OrtRunner

WIDTHS = {"a block": 32, "three blocks": 48, "half a block is filled up": 24}


def untie(content):
    content["model"]["lm_head.weight"] = content["model"]["lm_head.weight"].flip(0)


def written(checkpoint, folder, precision):
    write_artifact(checkpoint, folder, "pytest")
    quantize_artifact(folder, precision)
    return folder


@pytest.mark.parametrize(
    ("precision", "change", "num_arrays"),
    [("int8", None, 1), ("int4", None, 1), ("int8", untie, 2)],
    ids=["int8", "int4", "untied"],
)
def test_file_holds_one_array_for_the_embedding_and_a_tied_head(
    nanogpt, tmp_path, precision, change, num_arrays
):
    checkpoint = load_checkpoint(nanogpt(change))
    folder = written(checkpoint, tmp_path / "work", precision)
    weights = read_model(folder).weights
    table = checkpoint.weights["wte.weight"].size  # in bytes, of 8 bits each
    assert [weight.nbytes for weight in weights.values()].count(table) == num_arrays
    size = (folder / "model.onnx.data").stat().st_size
    outside = [one.nbytes for one in weights.values() if one.nbytes >= MIN_EXTERNAL_BYTES]
    assert size <= sum(-(-one // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for one in outside)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_any_width_that_attention_takes_is_read_in_both_forms(
    huggingface, tmp_path, precision, width
):
    checkpoint = load_checkpoint(huggingface(n_embd=width, n_head=width // 8))
    runner = OrtRunner(written(checkpoint, tmp_path / "work", precision), 4, 1)
    report = measure_parity(checkpoint, runner, default_text(), 600, lambda _: None)
    assert report.mean_kl < {"int8": 1e-3, "int4": 0.05}[precision]


def test_both_forms_of_the_head_compute_with_the_same_codes(checkpoint, ids, tmp_path):
    """In graphs whose blocks add nothing, only embedding, last norm and head are left."""
    weights = {
        name: np.zeros_like(weight) if ".c_proj." in name else weight
        for name, weight in checkpoint.weights.items()
    }
    found = []
    for precision in ("int8", "int4"):
        folder = tmp_path / precision
        silent = dataclasses.replace(checkpoint, weights=weights)
        found.append(prefill(OrtRunner(written(silent, folder, precision), 1, 1), 0, ids))
    assert np.abs(found[0] - found[1]).max() < 0.02 * np.abs(found[0]).max()


@pytest.mark.parametrize(
    ("width", "size", "num_blocks"),
    [(768, 256, 3), (1600, 64, 25), (24, 16, 2), (8, 16, 1), (512, 256, 2)],
    ids=str,
)
def test_blocks_divide_a_row_where_they_can(width, size, num_blocks):
    form = block_form(Model([], [], [], {"wte.weight": np.zeros((5, width), np.float32)}))
    assert form.block_size == size
    assert form.weights["head.shape"].tolist() == [5, num_blocks, size]
    assert SMALLEST_BLOCK <= size <= LARGEST_BLOCK


def test_rows_are_rounded_to_the_nearest_step_and_zeros_stay_zero(checkpoint, tmp_path):
    write_artifact(checkpoint, tmp_path, "pytest")
    model = rotate_model(read_model(tmp_path))
    exact = np.array(model.weights["wpe.weight"])
    weights = quantize_embeddings(model).weights
    scale = weights["wpe.scale"]
    restored = (weights["wpe.codes"].astype(np.float32) - 128) * scale
    assert (np.abs(restored - exact) <= scale / 2 * 1.001).all()
    zeros = {"wte.weight": np.zeros((3, 16), np.float32), "wpe.weight": exact}
    rounded = quantize_embeddings(Model(model.nodes, [], [], zeros)).weights
    assert (rounded["wte.codes"] == 128).all()
