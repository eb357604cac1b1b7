import numpy as np
import pytest
from batches import decode, prefill

from export.__main__ import main
from export.artifact import write_artifact
from export.blockwise import BLOCK_SIZE, BLOCK_SIZES, pack, quantize_blocks, round_weight
from export.checkpoint import load_checkpoint
from export.embeddings import LARGEST, TABLES
from export.model_file import Model, read_model, write_model
from export.parity import default_text, measure_parity
from export.rotated import GAIN_BIAS, rotate_model
from nanotriton.runners.ort import OrtRunner

# An activation has 8 bits a block: half a step of 1/127 of its block's largest value, many of
# them averaged in a product and added over 9 linears (measured on the tiny model: 2.1e-2).
MAX_ACTIVATION_ERROR = 0.04
NUM_COMPARED = 32  # of the best tokens


def untie(content):
    content["model"]["lm_head.weight"] = content["model"]["lm_head.weight"].flip(0)


def restored(model):
    """The model whose weights are those that the codes stand for, in float32."""
    weights = {name: np.array(weight) for name, weight in model.weights.items()}
    for name in TABLES:
        if name in weights:
            scale = np.abs(weights[name]).max(axis=1, keepdims=True) / LARGEST
            weights[name] = np.rint(weights[name] / scale) * scale
    for node in model.nodes:
        if node.op_type == "MatMul" and node.input[1] in weights:
            name = node.input[1]
            found = round_weight(weights[name], 4 if name.startswith("h.") else 8)
            weights[name] = np.ascontiguousarray(found.restored(len(weights[name])))
    return Model(model.nodes, model.inputs, model.outputs, weights)


@pytest.mark.parametrize(
    ("change", "fields"),
    [(None, {}), (None, {"bias": False}), (untie, {})],
    ids=["bias", "no bias", "untied"],
)
def test_graph_computes_with_the_weights_that_its_codes_stand_for(
    nanogpt, tmp_path, ids, change, fields
):
    work = tmp_path / "work"
    write_artifact(load_checkpoint(nanogpt(change, **fields)), work, "pytest")
    exact = rotate_model(read_model(work))
    assert (GAIN_BIAS in exact.weights) == fields.get("bias", True)
    blocks, floats = quantize_blocks(exact), restored(exact)
    found = []
    for model in (blocks, floats):
        folder = tmp_path / f"{len(found)}"
        folder.mkdir()
        (folder / "manifest.json").write_bytes((work / "manifest.json").read_bytes())
        write_model(model, folder)
        found.append(prefill(OrtRunner(folder, 1, 1), 0, ids))
    settled = np.argsort(-found[0])[:, :NUM_COMPARED]  # the others have 4 bits in the head
    errors = np.take_along_axis(np.abs(found[0] - found[1]), settled, axis=1)
    assert errors.max() < MAX_ACTIVATION_ERROR * np.abs(found[1]).max()


def test_widths_that_blocks_do_not_divide_are_filled_up(huggingface, tmp_path):
    checkpoint = load_checkpoint(huggingface(n_inner=40, n_embd=48))
    write_artifact(checkpoint, tmp_path / "work", "pytest")
    write_model(quantize_blocks(rotate_model(read_model(tmp_path / "work"))), tmp_path / "work")
    runner = OrtRunner(tmp_path / "work", 4, 1)
    report = measure_parity(checkpoint, runner, default_text(), 600, lambda _: None)
    assert report.mean_kl < 0.03


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_rounded_within_the_step_of_their_block(bits):
    weight = np.random.default_rng(1).normal(size=(130, 7)).astype(np.float32)
    blocks = round_weight(weight, bits)
    scales = np.repeat(blocks.scales, BLOCK_SIZE, axis=1)[:, : len(weight)].T
    errors = np.abs(blocks.restored(len(weight)) - weight) / scales
    assert np.median(errors) < 0.3
    assert (errors[scales > 0] < 0.3 * 2**bits).all()  # the cut of a range: at most 30 % of it
    assert np.square(errors).mean() < 0.2  # even rounding has 1/12, cut ends a little more


def test_zeros_stay_zero_even_beside_large_weights():
    weight = np.zeros((64, 3), np.float32)
    weight[40:, 1] = 5
    found = round_weight(weight, 4).restored(64)
    np.testing.assert_allclose(found, weight, atol=1e-6)


def test_first_code_of_a_byte_stands_low():
    codes = np.array([[1, 2, 15]], np.uint8)
    assert pack(codes, 4).tolist() == [[0x21, 0x0F]]
    assert pack(codes, 8) is codes


def test_every_linear_has_blocks_and_no_matrix_stays_float32(artifact_of):
    model = read_model(artifact_of("int4"))
    matrices = {n for n, w in model.weights.items() if w.ndim == 2 and w.dtype == np.float32}
    assert {name for name in matrices if "scale" not in name} == set()
    bits = [n.attribute for n in model.nodes if n.op_type == "MatMulNBits"]
    found = [one.i for attributes in bits for one in attributes if one.name == "bits"]
    assert sorted(found) == [4] * 9 + [8]  # the last norm's gain


@pytest.mark.parametrize("mates", [[60, 1], [5, 33]], ids=str)
def test_row_hardly_depends_on_its_batch_mates(runner_of, ids, mates):
    # One row and several take different kernels, which add in another order; not bit for bit.
    runner = runner_of("int4")
    for slot, length in enumerate([20, *mates]):
        prefill(runner, slot, ids[:length])
    past = [20, *mates]
    alone = decode(runner, 0, ids[past[:1]], past[:1])
    together = decode(runner, 0, ids[past], past)
    assert np.abs(together[0] - alone[0]).max() < 0.01 * np.abs(alone).max()


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_block_size_is_that_of_every_4_bit_linear(nanogpt, tmp_path, block_size):
    work = tmp_path / "work"
    assert main(["graph", str(nanogpt()), "--out", str(work)]) == 0
    words = ["--precision", "int4", "--block-size", str(block_size), "--calibration-tokens", "1024"]
    assert main(["quantized", str(work), *words]) == 0
    blocks = [node for node in read_model(work).nodes if node.name.endswith(".blocks")]
    sizes = [one.i for node in blocks for one in node.attribute if one.name == "block_size"]
    assert sizes == [block_size] * 9
    report = measure_parity(
        load_checkpoint(nanogpt()), OrtRunner(work, 4, 1), default_text(), 600, lambda _: None
    )
    assert report.mean_kl < 0.02
