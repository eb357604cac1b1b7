import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from nanotriton import contract
from nanotriton.contract import SETTINGS
from nanotriton.errors import ManifestError
from nanotriton.manifest import (
    DecodeGraph,
    Manifest,
    PlanTarget,
    newest_version,
    sha256_file,
    versions_of,
)

TEMPLATE = Path(__file__).parent.parent / "model_repository"
MODELS = ("preprocessing", "gpt", "postprocessing", "completion", "completion_stream")
DOORS = ("completion", "completion_stream")
MANIFEST = Manifest(
    precision="int8",
    num_layers=2,
    num_heads=4,
    head_dim=16,
    vocab_size=300,
    context=64,
    activation="gelu_erf",
    num_candidates=8,
    end_of_text=None,
    canary_prompt="déf",
    checkpoint_sha256="c" * 64,
    tokenizer_sha256="d" * 64,
    files={"model.onnx": "e" * 64},
    parity={"top1": 0.99},
    versions={"onnx": "1.17"},
    created_by="pytest",
    created_at="2026-01-01T00:00:00+00:00",
)


def load_config(model):
    """A model's config.pbtxt, read as Triton reads it."""
    text = (TEMPLATE / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def types_of(tensors):
    """Name to data type of a configuration's tensors, as the contract spells them."""
    names = model_config_pb2.DataType.Name
    return {
        one.name: names(one.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")
        for one in tensors
    }


def settings_of(model):
    """The inputs of a model that are sampling settings."""
    return [one for one in load_config(model).input if one.name in SETTINGS]


def step_of(model):
    """The step of the ensemble that calls a model."""
    (step,) = (
        one for one in load_config("completion").ensemble_scheduling.step if one.model_name == model
    )
    return step


@pytest.fixture
def edit(tmp_path):
    """Saves a manifest with keys changed; None removes one."""

    def write(**changes):
        MANIFEST.save(tmp_path)
        path = tmp_path / contract.MANIFEST_FILE
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: one for key, one in values.items() if one != "gone"}))
        return tmp_path

    return write


@pytest.fixture
def repository_with(tmp_path):
    """Makes a repository whose engine model has these folders, each with a manifest."""

    def write(*names):
        for name in names:
            folder = tmp_path / "gpt" / name
            folder.mkdir(parents=True)
            MANIFEST.save(folder)
        return tmp_path

    return write


def test_manifest_comes_back_as_it_was_saved(tmp_path):
    MANIFEST.save(tmp_path)
    assert Manifest.load(tmp_path) == MANIFEST


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 4}, "has format_version 4, this nanotriton reads 3: export the model"),
        ({"format_version": 2}, "has format_version 2, this nanotriton reads 3: export the model"),
        ({"format_version": "gone"}, "has format_version None, this nanotriton reads"),
        ({"context": "gone"}, "has missing or unknown keys context: export the model again"),
        ({"colour": 1, "anew": 2}, "has missing or unknown keys anew, colour: export"),
    ],
    ids=["newer", "older", "none", "missing", "unknown"],
)
def test_manifest_of_another_form_is_refused(edit, changes, words):
    folder = edit(**changes)
    with pytest.raises(ManifestError, match=re.escape(f"{folder}/manifest.json {words}")):
        Manifest.load(folder)


def test_keys_with_a_default_may_be_missing(edit):
    assert Manifest.load(edit(opset="gone")) == MANIFEST


def test_decode_graph_travels(tmp_path):
    graph = DecodeGraph("model.int4.onnx", "int4", 4)
    manifest = replace(MANIFEST, files={"model.int4.onnx": "f" * 64}, decode_graph=graph)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ({"file": "model.onnx"}, "needs file, precision and max_rows"),
        ("model.onnx", "needs file, precision and max_rows"),
        ({"file": "../x", "precision": "int4", "max_rows": 4}, "is not among its files"),
        ({"file": "model.onnx", "precision": "int4", "max_rows": 0}, "for 0 rows, it needs"),
        ({"file": "model.onnx", "precision": "int4", "max_rows": "4"}, "for '4' rows, it needs"),
    ],
    ids=["keys missing", "no object", "elsewhere", "no rows", "rows as text"],
)
def test_decode_graph_of_another_form_is_refused(edit, graph, words):
    with pytest.raises(ManifestError, match=words):
        Manifest.load(edit(decode_graph=graph))


def test_plan_travels(tmp_path):
    plan = PlanTarget("10.15.1.29", "90", prefill_chunk=128, max_batch=32)
    replace(MANIFEST, runner="trt", plan=plan).save(tmp_path)
    assert Manifest.load(tmp_path).plan == plan


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"tensorrt_version": "10"}, "needs tensorrt_version, .* and max_batch"),
        (["10.15"], "has plan"),
        (dict.fromkeys(("tensorrt_version", "compute_capability"), 9), "has plan"),
    ],
    ids=["keys missing", "no object", "numbers"],
)
def test_plan_of_another_form_is_refused(edit, plan, words):
    with pytest.raises(ManifestError, match=words):
        Manifest.load(edit(plan=plan))


def test_plan_for_no_sequences_is_refused(edit):
    plan = {"tensorrt_version": "10", "compute_capability": "90", "prefill_chunk": 128}
    with pytest.raises(ManifestError, match="two whole numbers from 1 up"):
        Manifest.load(edit(plan=plan | {"max_batch": 0}))


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b""], ids=["json", "utf8", "empty"])
def test_unreadable_manifest_is_refused_with_its_path(tmp_path, raw):
    (tmp_path / "manifest.json").write_bytes(raw)
    with pytest.raises(ManifestError, match=r"manifest.json can't be read .*: export the model"):
        Manifest.load(tmp_path)


def test_manifest_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(ManifestError, match="has format_version None"):
        Manifest.load(tmp_path)


def test_missing_manifest_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(ManifestError) as refusal:
        Manifest.load(tmp_path / "gpt" / "1")
    assert str(refusal.value) == (
        f"{tmp_path}/gpt/1 holds no manifest.json: run `python -m export all CHECKPOINT "
        f"--repository {tmp_path}` first"
    )


def test_versions_are_numbers_with_a_manifest(repository_with):
    repository = repository_with("2", "10", ".3.tmp-77", "backup")
    (repository / "gpt" / "11").mkdir()
    assert versions_of(repository) == [2, 10]
    assert newest_version(repository) == repository / "gpt" / "10"


def test_repository_without_a_version_names_the_command_that_makes_one(tmp_path):
    assert versions_of(tmp_path) == []
    with pytest.raises(ManifestError, match="holds no exported version: run `python -m export"):
        newest_version(tmp_path)


def test_file_hash_is_sha256(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_file(path).startswith("ba7816bf8f01cfea414140de5dae2223")  # FIPS 180-2, B.1


def test_optional_end_of_text_travels(tmp_path):
    replace(MANIFEST, end_of_text=42).save(tmp_path)
    assert Manifest.load(tmp_path).end_of_text == 42


@pytest.mark.parametrize("model", MODELS)
def test_configuration_is_one_that_triton_reads(model):
    assert load_config(model).name == model


def test_every_model_of_the_repository_is_known_here():
    assert {path.parent.name for path in TEMPLATE.glob("*/config.pbtxt")} == {*MODELS}


@pytest.mark.parametrize("model", ["gpt", *DOORS])
def test_settings_inputs_are_those_of_the_contract(model):
    assert types_of(settings_of(model)) == SETTINGS
    assert all(one.optional for one in settings_of(model))


def test_preprocessing_takes_settings_as_the_contract_types_them():
    found = types_of(settings_of("preprocessing"))
    assert found.items() <= SETTINGS.items()
    assert all(one.optional for one in settings_of("preprocessing"))


@pytest.mark.parametrize("model", ["gpt", *DOORS])
def test_each_setting_is_one_value_a_row_but_for_stop(model):
    dims = {one.name: list(one.dims) for one in settings_of(model)}
    assert dims == {name: [-1] if name == "stop" else [1] for name in SETTINGS}


@pytest.mark.parametrize("model", ["gpt", "preprocessing", "postprocessing"])
def test_ensemble_hands_every_input_on_under_its_own_name(model):
    inputs = [one.name for one in load_config(model).input]
    assert dict(step_of(model).input_map) == {name: name for name in inputs}


@pytest.mark.parametrize("model", ["gpt", "preprocessing", "postprocessing"])
def test_ensemble_takes_every_output_under_its_own_name(model):
    outputs = [one.name for one in load_config(model).output]
    assert dict(step_of(model).output_map) == {name: name for name in outputs}


@pytest.mark.parametrize("model", DOORS)
def test_both_doors_answer_with_the_same_tensors(model):
    pieces = {contract.INDEX: "INT32"} if model == "completion_stream" else {}
    assert types_of(load_config(model).output) == pieces | {
        contract.TEXT_OUTPUT: "BYTES",
        contract.FINISH_REASON: "BYTES",
        contract.PROMPT_TOKENS: "INT32",
        contract.COMPLETION_TOKENS: "INT32",
        contract.LOGPROBS: "BYTES",
    }


@pytest.mark.parametrize("model", DOORS)
def test_doors_take_nothing_but_the_text_and_the_settings(model):
    others = {one.name for one in load_config(model).input} - {*SETTINGS}
    assert others - {contract.STREAM, contract.CANCEL} == {contract.TEXT_INPUT, contract.SUFFIX}
