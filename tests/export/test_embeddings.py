"""One 8-bit array for the embedding and a tied head: in the file once, read in two forms."""

import dataclasses

import numpy as np
import pytest
from batches import prefill
from onnx import helper

from export.artifact import quantize_artifact, write_artifact
from export.checkpoint import load_checkpoint
from export.embeddings import NUM_SETTLED, OFFSET, quantize_tables, settled_head
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


def test_best_tokens_are_settled_with_whole_codes(checkpoint, ids, tmp_path):
    """In graphs whose blocks add nothing, only embedding, last norm and head are left."""
    weights = {
        name: np.zeros_like(weight) if ".c_proj." in name else weight
        for name, weight in checkpoint.weights.items()
    }
    silent = dataclasses.replace(checkpoint, weights=weights)
    exact, found = (
        prefill(OrtRunner(written(silent, tmp_path / name, name), 1, 1), 0, ids)
        for name in ("int8", "int4")
    )
    order = np.argsort(-exact, axis=1)
    errors = np.take_along_axis(np.abs(found - exact), order, axis=1) / np.abs(exact).max()
    assert errors[:, : NUM_SETTLED // 2].max() < 0.02
    assert 0.005 < errors[:, 2 * NUM_SETTLED :].mean() < 0.05  # the tail has 4 bits


@pytest.mark.parametrize(
    ("width", "size", "num_blocks"),
    [(768, 256, 3), (1600, 64, 25), (24, 16, 2), (8, 16, 1), (512, 256, 2)],
    ids=str,
)
def test_blocks_divide_a_row_where_they_can(width, size, num_blocks):
    head = helper.make_node("Gemm", ["x", "wte.weight"], ["logits"])
    part = settled_head(head, (5, width))
    assert part.weights["head.shape"].tolist() == [5, num_blocks, size // 2]
    assert any(node.op_type == "Pad" for node in part.nodes) == (width % size > 0)


def test_rows_are_rounded_to_the_nearest_step_and_zeros_stay_zero(checkpoint, tmp_path):
    write_artifact(checkpoint, tmp_path, "pytest")
    model = rotate_model(read_model(tmp_path))
    exact = np.array(model.weights["wpe.weight"])
    weights = quantize_tables(model).weights
    scale = weights["wpe.scale"]
    restored = (weights["wpe.codes"].astype(np.float32) - OFFSET) * scale
    assert (np.abs(restored - exact) <= scale / 2 * 1.001).all()
    zeros = {"wte.weight": np.zeros((3, 16), np.float32), "wpe.weight": exact}
    rounded = quantize_tables(Model(model.nodes, [], [], zeros)).weights
    assert (rounded["wte.codes"] == OFFSET).all()
