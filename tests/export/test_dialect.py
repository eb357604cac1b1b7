import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from dialects import DTYPES, TEXT, runner_of
from stepping import decode, prefill

from export.checkpoint import load_checkpoint
from export.comparison import TOLERANCES
from export.dialect import build_dialect
from export.model_file import write_model
from export.parity import measure_parity
from export.reference import Reference
from nanotriton import contract
from nanotriton.errors import CheckpointError
from nanotriton.runners.base import Copy


def session_of(checkpoint, folder, kv, half=False):
    write_model(build_dialect(checkpoint, half=half, kv=kv), folder)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(folder / "model.onnx", options)


def expected_logits(checkpoint, ids):
    reference = Reference(checkpoint)
    return reference.logits(reference.hidden(ids))


def log_softmax(logits):
    exact = logits.astype(np.float64)
    return exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))


def no_past(config):
    shape = (config.num_layers, 2, 1, config.num_heads, 0, config.head_dim)
    return np.zeros(shape, np.float32)


def as_past(cache):
    """(L, 2, B, H, P, D) by the graph's names."""
    return {
        contract.past_name(layer, kind): cache[layer, at]
        for layer in range(len(cache))
        for at, kind in enumerate("kv")
    }


def untie(content):
    content["model"]["lm_head.weight"] = content["model"]["lm_head.weight"].flip(0)


@pytest.mark.parametrize(
    ("change", "fields"),
    [(None, {}), (None, {"bias": False}), (untie, {}), (None, {"n_head": 4, "block_size": 33})],
    ids=["bias", "no bias", "untied", "other sizes"],
)
def test_static_dialect_of_nanogpt_computes_its_logits(nanogpt, tmp_path, change, fields):
    checkpoint = load_checkpoint(nanogpt(change, **fields))
    runner = runner_of(checkpoint, tmp_path / "work")
    report = measure_parity(checkpoint, runner, TEXT, 500, progress=lambda _: None)
    report.check(TOLERANCES["fp32"])
    assert report.max_abs_delta < 2e-5


@pytest.mark.parametrize(
    "fields",
    [{}, {"activation_function": "gelu"}, {"n_inner": 40, "layer_norm_epsilon": 0.01}],
    ids=["tanh", "erf", "other mlp and epsilon"],
)
def test_static_dialect_of_huggingface_computes_its_logits(huggingface, tmp_path, fields):
    checkpoint = load_checkpoint(huggingface(**fields))
    report = measure_parity(
        checkpoint, runner_of(checkpoint, tmp_path / "work"), TEXT, 500, progress=lambda _: None
    )
    report.check(TOLERANCES["fp32"])


def test_half_dialect_stays_near(checkpoint, tmp_path):
    runner = runner_of(checkpoint, tmp_path, half=True)
    report = measure_parity(checkpoint, runner, TEXT, 500, progress=lambda _: None)
    assert report.mean_kl < 1e-4
    assert report.top1 > 0.97


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_types_stand_in_the_graph(checkpoint, half):
    model = build_dialect(checkpoint, half=half, kv="static")
    types = {
        value.name: value.type.tensor_type.elem_type for value in (*model.inputs, *model.outputs)
    }
    cache = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    assert types[contract.past_name(0, "k")] == types[contract.present_name(1, "v")] == cache
    assert types[contract.GRAPH_TOP_LOGITS] == types[contract.GRAPH_LSE] == onnx.TensorProto.FLOAT
    assert model.weights["h.0.ln_1.weight"].dtype == model.weights["ln_f.bias"].dtype == np.float32
    assert model.weights["h.0.attn.c_attn.bias"].dtype == np.dtype(DTYPES[half])
    assert not any(node.domain for node in model.nodes)


def test_batched_verify_equals_single_sequences(checkpoint, ids, tmp_path):
    runner = runner_of(checkpoint, tmp_path)
    expected = expected_logits(checkpoint, ids)
    for slot, length in ((1, 40), (2, 3)):
        prefill(runner, slot, ids[:length])
    both = np.stack([ids[40:45], ids[3:8]])
    found = runner.call(1, both, np.array([40, 3]))
    np.testing.assert_allclose(found.full, expected[[*range(40, 45), *range(3, 8)]], atol=1e-5)


def test_dead_row_of_a_full_slot_harms_no_slot(checkpoint, ids, tmp_path):
    runner = runner_of(checkpoint, tmp_path)
    expected = expected_logits(checkpoint, ids)
    for slot, length in ((0, 63), (1, 64), (2, 5)):
        prefill(runner, slot, ids[:length])
    found = decode(runner, 0, ids[[63, 0, 5]], [63, 64, 5], [0, 2])
    np.testing.assert_allclose(found, expected[[63, 5]], atol=1e-5)


def test_copied_slot_goes_on(checkpoint, ids, tmp_path):
    runner = runner_of(checkpoint, tmp_path)
    prefill(runner, 3, ids[:20])
    found = prefill(runner, 0, ids[20:21], copies=(Copy(3, 0, 20),), past=20)
    np.testing.assert_allclose(found, expected_logits(checkpoint, ids)[[20]], atol=1e-5)


def test_concat_dialect_takes_rows_of_different_lengths(checkpoint, ids, tmp_path):
    session = session_of(checkpoint, tmp_path, "concat")
    expected = expected_logits(checkpoint, ids)
    feeds = {"input_ids": ids[None, :12], "position_ids": np.arange(12)[None]}
    feeds |= {"places": np.array([[0]])} | as_past(no_past(checkpoint.config))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds), strict=True))
    cache = np.stack(
        [[found[contract.present_name(layer, k)] for k in "kv"] for layer in range(2)]
    )  # (L, 2, 1, H, 12, D)
    cache = np.concatenate([cache, cache], axis=2)  # the second row holds 5 of them
    feeds = {
        "input_ids": np.stack([ids[12:15], ids[5:8]]),
        "position_ids": np.stack([np.arange(12, 15), np.arange(5, 8)]),
        "places": np.array([[0, 2], [1, 2]]),
    } | as_past(cache)
    logits = session.run([contract.GRAPH_LOGITS], feeds)[0]
    np.testing.assert_allclose(logits[0], expected[[12, 14]], atol=1e-5)
    np.testing.assert_allclose(logits[1], expected[[6, 7]], atol=1e-5)


def test_scores_are_the_models_log_probabilities(checkpoint, ids, tmp_path):
    session = session_of(checkpoint, tmp_path, "none")
    log = log_softmax(expected_logits(checkpoint, ids[:30]))
    places, targets = np.array([[3, 28, 0]]), np.array([[ids[4], 77, -1]])
    feeds = {"input_ids": ids[None, :30], "places": places, "targets": targets}
    names = [contract.GRAPH_LOGPROBS, contract.GRAPH_RANKS, contract.GRAPH_LOGPROB]
    logprobs, ranks, total = session.run(names, feeds)
    asked = log[places[0, :2], targets[0, :2]]
    np.testing.assert_allclose(logprobs[0], [*asked, 0], atol=1e-5)
    np.testing.assert_allclose(total, [[asked.sum()]], atol=1e-5)
    assert ranks[0].tolist() == [*(log[places[0, :2]] > asked[:, None]).sum(axis=1).tolist(), 0]


def test_weight_that_half_can_not_hold_is_named(checkpoint):
    weights = dict(checkpoint.weights)
    weights["h.1.mlp.c_fc.bias"] = weights["h.1.mlp.c_fc.bias"] + 70_000
    with pytest.raises(CheckpointError, match=r"h\.1\.mlp\.c_fc\.bias reaches 7\d+.*65504"):
        build_dialect(dataclasses.replace(checkpoint, weights=weights), half=True, kv="static")
