import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoint import choose_infill, load_checkpoint
from nanotriton.errors import CheckpointError, NanotritonError, TokenizerError

NUM_TOKENS = 283


def rename(content, **names):
    for old, new in names.items():
        content["model"][new] = content["model"].pop(old)


def add_prefix(content):
    content["model"] = {f"_orig_mod.{name}": w for name, w in content["model"].items()}


def add_causal_masks(content):
    for layer in range(2):
        content["model"][f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64)


def untie(content):
    content["model"]["lm_head.weight"] = content["model"]["lm_head.weight"] + 1


def drop_head(content):
    del content["model"]["lm_head.weight"]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (None, {}),
        (None, {"bias": False}),
        (None, {"block_size": 17}),
        (add_prefix, {}),
        (add_causal_masks, {}),
        (drop_head, {}),
        (lambda content: content["model_args"].pop("bias"), {}),
    ],
    ids=["plain", "no bias", "block size", "compiled", "causal masks", "no head", "first nanoGPT"],
)
def test_nanogpt_checkpoint_is_read(nanogpt, change, fields):
    checkpoint = load_checkpoint(nanogpt(change, **fields))
    assert checkpoint.tied
    assert checkpoint.config.context == fields.get("block_size", 64)
    assert checkpoint.config.bias == fields.get("bias", True)
    assert ("ln_f.bias" in checkpoint.weights) == checkpoint.config.bias
    assert checkpoint.weights["h.1.mlp.c_proj.weight"].shape == (128, 32)


def test_untied_head_is_kept(nanogpt):
    checkpoint = load_checkpoint(nanogpt(untie))
    head, embedding = checkpoint.weights["lm_head.weight"], checkpoint.weights["wte.weight"]
    np.testing.assert_allclose(head, embedding + 1, atol=1e-6)


def test_padding_of_the_vocabulary_is_cut_off(nanogpt):
    checkpoint = load_checkpoint(nanogpt(vocab_size=320))
    assert checkpoint.config.vocab_size == checkpoint.vocabulary.tokenizer.num_tokens == NUM_TOKENS
    assert checkpoint.weights["wte.weight"].shape == (NUM_TOKENS, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_huggingface_weights_become_float32(huggingface, dtype):
    folder = huggingface(dtype)
    expected = load_file(folder / "model.safetensors")["transformer.h.0.attn.c_attn.weight"]
    found = load_checkpoint(folder).weights["h.0.attn.c_attn.weight"]
    np.testing.assert_array_equal(found, expected.float().numpy())


def test_huggingface_shards_are_joined(huggingface):
    folder = huggingface(shard="40KB")
    assert not (folder / "model.safetensors").exists()
    assert load_checkpoint(folder).config.num_layers == 2


def test_huggingface_names_may_lack_the_prefix(huggingface):
    path = huggingface() / "model.safetensors"
    tensors = load_file(path)
    save_file({name.removeprefix("transformer."): w for name, w in tensors.items()}, path)
    assert load_checkpoint(path.parent).config.activation == "gelu_tanh"


@pytest.mark.parametrize(
    ("function", "activation"),
    [("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("gelu", "gelu_erf")],
)
def test_huggingface_activation_is_taken_over(huggingface, function, activation):
    checkpoint = load_checkpoint(huggingface(activation_function=function, n_inner=48))
    assert checkpoint.config.activation == activation
    assert checkpoint.config.mlp_width == 48


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"scale_attn_weights": False}, "scale_attn_weights = False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn = True"),
        ({"n_head": 3}, "n_embd must be a multiple of n_head"),
        ({"n_layer": 10**9}, "num_layers is 1000000000"),
        ({"n_positions": "64"}, "context is '64'"),
        ({"n_embd": None}, "lacks 'n_embd'"),
        ({"n_positions": 32}, "wpe.weight of shape"),
        ({"n_layer": 3}, "lacks h.2.ln_1.weight"),
        ({"n_layer": 1}, "has h.1."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_huggingface_config_is_refused(huggingface, edit_json, values, words):
    folder = huggingface()
    edit_json(folder / "config.json", **values)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(folder)


def set_tensor(name, value):
    return lambda content: content["model"].update({f"transformer.{name}": value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("model_args"), "holds no 'model' and 'model_args'"),
        (lambda c: c["model_args"].pop("n_head"), "lacks 'n_head'"),
        (lambda c: c["model"].pop("transformer.h.1.ln_2.weight"), "lacks h.1.ln_2.weight"),
        (set_tensor("h.0.attn.q_norm.weight", torch.ones(3)), "has h.0.attn.q_norm.weight"),
        (set_tensor("ln_f.weight", torch.ones(31)), r"ln_f.weight of shape \(31,\).*\(32,\)"),
        (set_tensor("h.0.mlp.c_fc.weight", torch.ones(32, 128)), r"c_fc.*ask for \(128, 32\)"),
        (set_tensor("ln_f.bias", torch.full((32,), torch.nan)), "NaN or infinity in ln_f.bias"),
        (set_tensor("ln_f.bias", "no tensor"), "of type str"),
    ],
    ids=["other", "args", "missing", "unexpected", "shape", "layout", "nan", "type"],
)
def test_nanogpt_content_is_refused(nanogpt, change, words):
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(nanogpt(change))


@pytest.mark.parametrize("size", [0, 100, 0.5, 0.99], ids=str)
def test_truncated_pt_is_refused(nanogpt, size):
    path = nanogpt()
    content = path.read_bytes()
    path.write_bytes(content[: int(size * len(content)) if size < 1 else size])
    with pytest.raises(CheckpointError, match=r"truncated|refused"):
        load_checkpoint(path)


@pytest.mark.parametrize("size", [0, 100, 0.5, 0.99], ids=str)
def test_truncated_safetensors_is_refused(huggingface, size):
    path = huggingface() / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(size * len(content)) if size < 1 else size])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path.parent)


class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("hostile-code-ran",))


def test_hostile_pt_is_refused_and_does_not_run(nanogpt, monkeypatch):
    path = nanogpt(lambda content: content.update(config=Hostile()))
    monkeypatch.chdir(path.parent)
    with pytest.raises(CheckpointError, match=r"refused, it asks to load posix\.mkdir"):
        load_checkpoint(path)
    assert not Path("hostile-code-ran").exists()


@pytest.mark.parametrize("size", [282, 1025], ids=["too small", "too large"])
def test_vocabulary_that_does_not_fit_is_refused(nanogpt, size):
    with pytest.raises(TokenizerError, match=f"has 283 tokens, the model {size}.*283 to 1024"):
        load_checkpoint(nanogpt(vocab_size=size))


def test_missing_files_are_named(tmp_path, huggingface):
    with pytest.raises(CheckpointError, match="absent does not exist"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"config.json does not exist"):
        load_checkpoint(tmp_path)
    folder = huggingface()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors does not exist.*save_pretrained"):
        load_checkpoint(folder)


def test_index_outside_its_folder_is_refused(huggingface):
    folder = huggingface()
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="outside its folder"):
        load_checkpoint(folder)


def test_every_refusal_is_one_line(nanogpt):
    path = nanogpt(lambda content: content.update(config=Hostile()))
    with pytest.raises(NanotritonError) as refused:
        load_checkpoint(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({}, "gelu_erf"), ({"activation": "gelu_new"}, "gelu_tanh")],
    ids=["nanoGPT", "tuned GPT-2"],
)
def test_nanogpt_activation_is_read(nanogpt, fields, kind):
    assert load_checkpoint(nanogpt(**fields)).config.activation == kind


def test_unknown_nanogpt_activation_is_refused(nanogpt):
    path = nanogpt(lambda content: content["model_args"].update(activation="relu"))
    with pytest.raises(CheckpointError, match="the activation 'relu'"):
        load_checkpoint(path)


FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def write_sidecar(folder: Path, *names: str) -> None:
    """A tokenizer.json beside the ranks that has these special tokens."""
    special = {name: NUM_TOKENS - 1 + i for i, name in enumerate(("<|endoftext|>", *names))}
    spec = {"kind": "tiktoken", "pattern": ".|\n", "special_tokens": special}
    (folder / "tokenizer.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("names", "config", "infill"),
    [
        (FIM_TOKENS, {"fim_rate": 0.5}, True),
        (FIM_TOKENS, {"fim_rate": 0.0}, False),
        (FIM_TOKENS, {"batch_size": 8}, True),
        (FIM_TOKENS[:2], {"fim_rate": 0.5}, False),
        ((), {}, False),
    ],
    ids=["trained", "not trained", "not said", "a token missing", "no tokens"],
)
def test_nanogpt_checkpoint_says_whether_it_fills_in(nanogpt, names, config, infill):
    path = nanogpt(lambda content: content.update(config=config))
    write_sidecar(path.parent, *names)
    assert load_checkpoint(path).infill is infill


@pytest.mark.parametrize(("rate", "infill"), [(0.5, True), (0.0, False), (None, True)], ids=str)
def test_folder_says_whether_it_fills_in(huggingface, edit_json, rate, infill):
    folder = huggingface()
    edit_json(folder / "config.json", fim_rate=rate)
    write_sidecar(folder, *FIM_TOKENS)
    assert load_checkpoint(folder).infill is infill


@pytest.mark.parametrize(("rate", "order"), [(0.5, "spm"), (0.0, "psm"), (None, "psm")], ids=str)
def test_folder_says_in_which_order_it_fills_in(huggingface, edit_json, rate, order):
    folder = huggingface()
    edit_json(folder / "config.json", fim_rate=0.5, fim_spm_rate=rate)

    assert load_checkpoint(folder).infill_order == order


@pytest.mark.parametrize(("choice", "infill"), [("auto", True), ("yes", True), ("no", False)])
def test_infill_can_be_chosen(nanogpt, choice, infill):
    path = nanogpt()
    write_sidecar(path.parent, *FIM_TOKENS)
    assert choose_infill(load_checkpoint(path), choice).infill is infill


def test_infill_without_its_tokens_can_not_be_chosen(nanogpt):
    with pytest.raises(TokenizerError, match=r"no <\|fim_prefix\|>, .*: export the model with"):
        choose_infill(load_checkpoint(nanogpt()), "yes")


@pytest.mark.parametrize("rate", [-0.1, 1.5, "half", float("nan")], ids=str)
def test_impossible_fim_rate_is_refused(huggingface, edit_json, rate):
    folder = huggingface()
    edit_json(folder / "config.json", fim_rate=rate)
    with pytest.raises(CheckpointError, match=r"fim_rate is .*, it must lie between 0 and 1"):
        load_checkpoint(folder)
