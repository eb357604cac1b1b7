import dataclasses
import importlib.util
import re

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.__main__ import main
from export.artifact import hash_files
from export.plan import plan_key
from export.profiles import profiles_of
from export.repository import publish
from export.scores import TEMPLATE
from nanotriton import contract
from nanotriton.errors import ArtifactError, RunnerError
from nanotriton.manifest import Manifest, PlanTarget

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed: run `pip install '.[rtx]'`",
)
QUICK = ("--tokens", "512", "--calibration-tokens", "1024")
SIZES = ("--max-batch", "4", "--chunk", "16")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="session")
def work_of(checkpoint_file, tmp_path_factory):
    """The tiny checkpoint's graph for TensorRT in a precision, without a plan; read only."""
    folders = {}

    def make(precision, kv="static"):
        if (precision, kv) not in folders:
            folder = tmp_path_factory.mktemp(precision) / "work"
            words = ("plan", checkpoint_file, "--out", folder, "--builder", "none", "--kv", kv)
            assert run(*words, "--precision", precision, *QUICK) == 0
            folders[precision, kv] = folder
        return folders[precision, kv]

    return make


@pytest.fixture
def copy_of(work_of, tmp_path):
    """A copy of `work_of` to write to."""

    def copy(*form):
        folder = tmp_path / "copy"
        folder.mkdir()
        for path in work_of(*form).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        return folder

    return copy


@pytest.fixture
def planned(copy_of):
    """A folder with a file that begins as a plan of some TensorRT does."""

    def write(magic=b"ftrt", version=(10, 15, 1, 29), said="10.15.1.29", kv="static"):
        folder = copy_of("fp16", kv)
        start = magic.ljust(0x18, b"\0") + bytes(version)
        (folder / contract.PLAN_FILE).write_bytes(start + b"\7" * 100)
        target = PlanTarget(said, "90", 16, 4)
        manifest = dataclasses.replace(Manifest.load(folder), plan=target, files=hash_files(folder))
        manifest.save(folder)
        return folder

    return write


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-static"])
def test_graph_is_proved_before_it_is_built(work_of, precision):
    manifest = Manifest.load(work_of(precision))
    assert (manifest.runner, manifest.precision, manifest.opset) == ("trt", precision, 24)
    assert manifest.kv_dtype == ("float32" if precision == "fp32" else "float16")
    assert manifest.parity["mean_kl"] < {"fp32": 1e-6, "fp16": 1e-4}.get(precision, 1e-2)
    assert (manifest.calibration_tokens > 0) is (precision == "int8-static")
    assert manifest.plan is None


@needs_rtx
@pytest.mark.parametrize("precision", ["fp16", "int8-static"])
@pytest.mark.parametrize("capability", ["75", "80"])
def test_builder_takes_the_engines_graph(copy_of, capability, precision):
    folder = copy_of(precision)
    assert run("plan", folder, "--builder", "rtx", "--sm", capability, *SIZES) == 0
    target = PlanTarget("1.7.1.116", capability, prefill_chunk=16, max_batch=4)
    assert Manifest.load(folder).plan == target
    log = (folder / "build.log").read_text()
    assert "INFO" in log
    assert "ERROR" not in log


@needs_rtx
@pytest.mark.parametrize("kv", ["concat", "none"])
def test_builder_takes_the_forms_of_plain_triton(copy_of, kv):
    folder = copy_of("fp16", kv)
    assert run("plan", folder, "--builder", "rtx", *SIZES) == 0
    with pytest.raises(ArtifactError, match=r"aren't those of the engine .L,2,S,H,M,D.: build"):
        publish(folder, folder / "repository", None, "pytest")


@needs_rtx
def test_plan_of_the_same_graph_is_taken_again(copy_of, capsys):
    folder = copy_of("fp16")
    for _ in range(2):
        assert run("plan", folder, "--builder", "rtx", *SIZES) == 0
    assert capsys.readouterr().err.count("is there, built of the same graph") == 1
    assert len(list((folder / "plans").glob("*.plan"))) == 1
    with pytest.raises(RunnerError, match=r"plan of TensorRT-RTX 1\.7\.1\.116.*with TensorRT on"):
        publish(folder, folder / "repository", None, "pytest")
    assert not (folder / "repository" / "gpt" / "1").exists()


def test_plan_is_kept_under_all_that_decides_it(work_of):
    manifest, target = Manifest.load(work_of("fp16")), PlanTarget("10.15.1", "90", 16, 4)
    others = [
        (manifest, target, "rtx"),
        (Manifest.load(work_of("fp32")), target, "tensorrt"),
        (manifest, dataclasses.replace(target, compute_capability="80"), "tensorrt"),
        (manifest, dataclasses.replace(target, max_batch=2), "tensorrt"),
        (manifest, dataclasses.replace(target, tensorrt_version="10.15.2"), "tensorrt"),
    ]
    keys = {plan_key(*one) for one in (*others, (manifest, target, "tensorrt"))}
    assert len(keys) == len(others) + 1


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "capability", "words"),
    [
        ("fp16", "90", "can't build for SM 90: it takes .*75, 80"),
        ("fp16", "eighty", "can't build for SM eighty"),
        ("fp32", "75", "doesn't build model.onnx: "),
    ],
    ids=["unknown gpu", "no number", "no float32 there"],
)
def test_what_the_builder_refuses_is_one_line(copy_of, capsys, precision, capability, words):
    folder = copy_of(precision)
    assert run("plan", folder, "--builder", "rtx", "--sm", capability, *SIZES) == 1
    assert re.search(f"error: tensorrt_rtx.*{words}", capsys.readouterr().err)
    assert not (folder / contract.PLAN_FILE).exists()


@needs_rtx
def test_damaged_graph_is_one_line(copy_of, capsys):
    folder = copy_of("fp16")
    (folder / "model.onnx").write_bytes(b"no graph")
    assert run("plan", folder, "--builder", "rtx") == 1
    assert "doesn't read model.onnx" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is here")
def test_missing_tensorrt_is_one_line_with_the_command(copy_of, capsys):
    assert run("plan", copy_of("fp16")) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: building a plan needs the package tensorrt")
    assert "pip install tensorrt" in said


def test_plan_as_the_engine_serves_it_is_published(planned):
    folder = planned()
    version = publish(folder, folder / "repository", None, "pytest")
    assert Manifest.load(version) == dataclasses.replace(Manifest.load(folder), created_by="pytest")
    assert (version / contract.PLAN_FILE).read_bytes() == (folder / "model.plan").read_bytes()


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"magic": b"vtrt", "version": (1, 7, 1, 116)}, "plan of TensorRT-RTX"),
        ({"magic": b"ONNX"}, "is no TensorRT plan"),
        ({"said": "10.14.0.1"}, "built by TensorRT 10.15.1.29, its manifest says 10.14"),
        ({"kv": "none"}, "keys and values .none. aren't those of the engine"),
    ],
    ids=["of the check", "no plan", "other version", "no cache"],
)
def test_plan_that_can_not_be_served_is_refused(planned, form, words):
    folder = planned(**form)
    with pytest.raises((ArtifactError, RunnerError), match=words):
        publish(folder, folder / "repository", None, "pytest")


def test_graph_without_a_plan_is_refused(copy_of):
    folder = copy_of("fp16")
    with pytest.raises(ArtifactError, match=r"has no model\.plan yet: run"):
        publish(folder, folder / "repository", None, "pytest")


def test_truncated_plan_is_refused(planned):
    folder = planned()
    plan = folder / contract.PLAN_FILE
    plan.write_bytes(plan.read_bytes()[:80])
    with pytest.raises(ArtifactError, match=r"has model\.plan changed since"):
        publish(folder, folder / "repository", None, "pytest")


def test_graph_of_the_other_runner_is_refused(artifact_of, capsys):
    assert run("plan", artifact_of("fp32"), "--builder", "rtx") == 1
    assert "for the runner 'ort'" in capsys.readouterr().err


def test_folder_to_write_to_is_named_once(work_of, checkpoint_file, tmp_path, capsys):
    assert run("plan", checkpoint_file) == 1
    assert run("plan", work_of("fp16"), "--out", tmp_path / "other") == 1
    said = capsys.readouterr().err
    assert "--out is missing" in said
    assert "is already a working folder" in said


def test_calibration_text_that_is_too_short_is_refused(checkpoint_file, tmp_path, capsys):
    (tmp_path / "short").write_text("def f(): pass\n")
    words = ("plan", checkpoint_file, "--out", tmp_path / "w", "--precision", "int8-static")
    assert run(*words, "--calibration", tmp_path / "short", "--builder", "none") == 1
    assert re.search(r"calibration text has \d+ tokens", capsys.readouterr().err)


def test_profiles_cover_prompts_and_steps(work_of):
    manifest = Manifest.load(work_of("fp16"))
    prefill, decode = profiles_of(manifest, "static", max_batch=8, chunk=16)
    assert (prefill["input_ids"].least, prefill["input_ids"].most) == ((1, 1), (1, 16))
    assert (decode["input_ids"].least, decode["input_ids"].most) == ((1, 1), (8, 1))
    assert (prefill["rows"].most, decode["rows"].most) == ((16,), (8,))
    cache = decode[contract.past_name(1, "v")]
    assert (cache.least, cache.most) == ((1, 2, 72, 16), (8, 2, 72, 16))
    (concat,) = profiles_of(manifest, "concat", max_batch=8, chunk=16)
    assert concat[contract.past_name(0, "k")].least == (1, 2, 0, 16)


def config_of(repository, model):
    """A model's configuration as Triton reads it; raises when Triton would not."""
    text = (repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_scoring_plan_goes_to_tritons_own_backend(planned):
    folder = planned(kv="none")
    repository = folder / "repository"
    assert run("repository", folder, "--repository", repository) == 0
    plan, ensemble = config_of(repository, "gpt_plan"), config_of(repository, "score")
    assert (plan.platform, plan.max_batch_size) == ("tensorrt_plan", 4)
    assert plan.HasField("dynamic_batching")
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == [
        "score_tokens",
        "gpt_plan",
    ]
    found = (repository / "gpt_plan" / "1" / "model.plan").read_bytes()
    assert found == (folder / "model.plan").read_bytes()
    assert not (repository / "gpt_graph").exists()


def test_scoring_on_the_cpu_takes_the_plans_place(planned, work_of):
    folder = planned(kv="none")
    repository = folder / "repository"
    for work in (folder, work_of("fp32", "none")):
        assert run("repository", work, "--repository", repository) == 0
    assert sorted(path.name for path in repository.iterdir()) == [
        "gpt_graph",
        "score",
        "score_tokens",
    ]
    assert config_of(repository, "score").ensemble_scheduling.step[1].model_name == "gpt_graph"
    assert config_of(repository, "gpt_graph").backend == "python"
    files = Manifest.load(repository / "score_tokens" / "1").files
    assert set(files) == {"tokenizer.json", "tokenizer.tiktoken"}


def test_scoring_plan_of_the_check_is_refused(planned, capsys):
    folder = planned(magic=b"vtrt", version=(1, 7, 1, 116), kv="none")
    assert run("repository", folder, "--repository", folder / "repository") == 1
    assert "plan of TensorRT-RTX" in capsys.readouterr().err


def test_every_step_of_the_ensemble_fits_the_next():
    configs = {model: config_of(TEMPLATE, model) for model in ("score_tokens", "gpt_plan")}
    graph = config_of(TEMPLATE, "gpt_graph")
    assert (graph.input, graph.output) == (configs["gpt_plan"].input, configs["gpt_plan"].output)
    for step in config_of(TEMPLATE, "score").ensemble_scheduling.step:
        inputs = {one.name for one in configs[step.model_name].input}
        assert inputs == set(step.input_map)
        assert set(step.output_map) <= {one.name for one in configs[step.model_name].output}
