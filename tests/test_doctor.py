"""Doctor and serve on repositories and machines that will not do: one line each, with the mend."""

import dataclasses
import hashlib
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from running import ROOT, free_ports

from export.artifact import MAX_DECODE_ROWS
from nanotriton import host
from nanotriton.__main__ import main
from nanotriton.doctor import examine
from nanotriton.errors import NanotritonError
from nanotriton.machine import Machine, read_machine
from nanotriton.manifest import Manifest, PlanTarget, newest_version
from nanotriton.server import ServerOptions


def port_flags() -> list[str]:
    """Free ports for the command line."""
    names = ("--http-port", "--grpc-port", "--metrics-port")
    return [word for pair in zip(names, map(str, free_ports(3)), strict=True) for word in pair]


@pytest.fixture
def repository(demo_repository: Path, tmp_path: Path) -> Path:
    """A copy of the demo's repository, to be broken."""
    return Path(shutil.copytree(demo_repository, tmp_path / "repository"))


def found(repository: Path, is_good: bool) -> dict[str, str]:
    """What doctor says of the good, or of the bad, subject by subject."""
    findings = examine(ServerOptions(repository, *free_ports(3)))
    return {one.subject: one.seen for one in findings if one.is_good is is_good}


def write_manifest(repository: Path, **values: Any) -> None:
    """Another manifest, written as export writes it."""
    folder = newest_version(repository)
    dataclasses.replace(Manifest.load(folder), **values).save(folder)


def edit_manifest(repository: Path, **values: object) -> None:
    """Change keys of the manifest by hand."""
    path = repository / "gpt/1/manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def append(path: Path) -> None:
    """Make a file another one."""
    path.write_bytes(path.read_bytes() + b" ")


def drop_markers(repository: Path) -> None:
    """A model said to fill in the middle, and a tokenizer of as many ids without a mark."""
    folder = repository / "gpt/1"
    text = (folder / "tokenizer.json").read_text().replace("<|fim_middle|>", "<|other|>")
    (folder / "tokenizer.json").write_text(text)
    content = text.encode() + (folder / "tokenizer.tiktoken").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    edit_manifest(repository, infill=True, tokenizer_sha256=sha256)


def raise_opset(repository: Path) -> None:
    """The graph stamped with an opset of the future."""
    path = repository / "gpt/1/model.onnx"
    model = onnx.load_model(path, load_external_data=False)
    model.opset_import[0].version = 99
    onnx.save_model(model, path)


def add_plan(repository: Path, magic: bytes) -> None:
    """A version of the runner trt whose plan has nothing but a header."""
    target = PlanTarget("10.15.1.29", "80", prefill_chunk=128, max_batch=8)
    write_manifest(repository, runner="trt", plan=target)
    header = bytearray(64)
    header[:4], header[0x18:0x1C] = magic, bytes((10, 15, 1, 29))
    (repository / "gpt/1/model.plan").write_bytes(header)


BROKEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no version": (
        lambda it: shutil.rmtree(it / "gpt/1"),
        "manifest",
        "python -m export all CHECKPOINT",
    ),
    "newer format": (
        lambda it: edit_manifest(it, format_version=9),
        "manifest",
        "format_version 9",
    ),
    "file changed": (lambda it: append(it / "gpt/1/model.onnx.data"), "files", "SHA-256 differs"),
    "file missing": (lambda it: (it / "gpt/1/model.onnx").unlink(), "files", "is missing"),
    "adapter missing": (lambda it: (it / "gpt/1/model.py").unlink(), "files", "is missing"),
    "graph torn": (
        lambda it: (it / "gpt/1/model.onnx").write_bytes(b"torn"),
        "runtime",
        "does not load",
    ),
    "another tokenizer": (
        lambda it: edit_manifest(it, vocab_size=50257),
        "tokenizer",
        "tokens, the model's vocabulary is 50257",
    ),
    "manifest edited by hand": (
        lambda it: edit_manifest(it, parity={"top1": 1.0}),
        "seal",
        "was edited by hand",
    ),
    "tokenizer replaced, and its hash": (
        lambda it: edit_manifest(it, tokenizer_sha256="0" * 64),
        "tokenizer",
        "tokenizer.tiktoken are not the tokenizer",
    ),
    "older runtime than export's": (
        lambda it: edit_manifest(it, versions={"onnxruntime": "99.1.0"}),
        "runtime",
        "the model was proved with 99.1.0",
    ),
    "opset that the runtime lacks": (
        raise_opset,
        "runtime",
        "does not load model.onnx (it reads opsets up to",
    ),
    "no plan": (lambda it: edit_manifest(it, runner="trt"), "runtime", "build one with"),
    "plan of TensorRT-RTX": (lambda it: add_plan(it, b"vtrt"), "runtime", "TensorRT-RTX 10.15.1"),
    "plan without TensorRT": (
        lambda it: add_plan(it, b"ftrt"),
        "runtime",
        "pip install tensorrt==10.15.1.29",
    ),
    "infill without its tokens": (drop_markers, "tokenizer", "<|fim_middle|>"),
    "model folder gone": (
        lambda it: shutil.rmtree(it / "completion"),
        "repository",
        "lacks completion",
    ),
    "larger than memory": (
        lambda it: edit_manifest(it, context=2**40),
        "memory",
        "lower max_slots",
    ),
}


def test_healthy_repository_has_only_good_findings(
    demo_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(demo_repository), *port_flags()]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert all(line.startswith("ok ") for line in lines)


def test_both_graphs_of_a_version_are_looked_at(auto_repository: Path, tmp_path: Path) -> None:
    seen = found(auto_repository, is_good=True)
    assert "auto, 5 layers" in seen["manifest"]
    assert f"int4 for decode steps of up to {MAX_DECODE_ROWS} rows" in seen["manifest"]
    assert seen["files"].startswith("6 files, ")
    assert seen["runtime"].endswith("loads model.onnx and model.int4.onnx")

    repository = Path(shutil.copytree(auto_repository, tmp_path / "repository"))
    (repository / "gpt/1/model.int4.onnx").write_bytes(b"torn")
    bad = found(repository, is_good=False)
    assert "model.int4.onnx is not the file" in bad["files"]
    assert "does not load model.int4.onnx" in bad["runtime"]


@pytest.mark.parametrize(("damage", "subject", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_named(
    repository: Path, damage: Callable[[Path], None], subject: str, words: str
) -> None:
    damage(repository)

    bad = found(repository, is_good=False)

    assert words in bad[subject]
    assert "\n" not in bad[subject]


def test_json_findings_can_be_read(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(repository / "gpt/1/model.onnx.data")

    assert main(["doctor", str(repository), "--json", *port_flags()]) == 1

    findings = json.loads(capsys.readouterr().out)
    assert [one["subject"] for one in findings if not one["is_good"]] == ["files"]


def test_serve_refuses_a_repository_without_artifacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model-repository", str(tmp_path)]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("nanotriton: ") for line in lines)
    assert "python -m export all CHECKPOINT" in lines[-1]


def test_serve_refuses_a_port_that_is_taken(
    demo_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        status = main(["serve", "--model-repository", str(demo_repository), "--http-port", port])

    assert status == 1
    assert f"--http-port {port}" in capsys.readouterr().err


def test_what_is_meant_can_be_accepted(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_manifest(repository, created_by="me")
    words = ["doctor", str(repository), *port_flags()]

    assert main(words) == 1
    assert main([*words, "--accept", "seal"]) == 0
    assert "BAD  seal" in capsys.readouterr().out


def test_accepted_figures_of_the_gate_are_told(repository: Path) -> None:
    write_manifest(repository, parity={"mean_kl": 0.1, "accepted_kl": 0.02})

    assert found(repository, is_good=True)["manifest"].endswith("beyond its budget: accepted_kl")


def test_checkpoint_of_a_version_is_known(
    demo_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", str(demo_repository), *port_flags(), "--checkpoint"]
    other = tmp_path / "ckpt.pt"
    other.write_bytes(b"another")

    assert main([*words, str(ROOT / "demo")]) == 0
    for path in (other, tmp_path / "absent", tmp_path):
        assert main([*words, str(path)]) == 1
        assert "BAD  checkpoint" in capsys.readouterr().out


def test_port_that_is_taken_is_found_by_doctor(
    demo_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = [*port_flags(), "--grpc-port", str(taken.getsockname()[1])]
        assert main(["doctor", str(demo_repository), *flags]) == 1

    assert "BAD  ports         --grpc-port" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("max_slots=100000000", "full KV slots of"),
        ("max_slot=8", "no setting 'max_slot'"),
    ],
    ids=["too-many", "unknown"],
)
def test_setting_that_will_not_do_keeps_serve_from_starting(
    demo_repository: Path, capsys: pytest.CaptureFixture[str], setting: str, sentence: str
) -> None:
    words = ["serve", "--model-repository", str(demo_repository), "--engine", setting]

    assert main([*words, *port_flags()]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


@pytest.mark.parametrize("check", [host.check_shared_memory, host.check_disk])
def test_little_room_is_refused(
    check: Callable[[Path], str], small_disk: Callable[..., Path]
) -> None:
    with pytest.raises(NanotritonError, match=r"has 1 MB free, .* need"):
        check(small_disk(1))


@pytest.mark.parametrize(
    ("flags", "may_saturate"),
    [
        ("fpu avx2 avx512f", True),
        ("fpu avx2 avx_vnni", False),
        ("fpu amx_int8", False),
        (None, False),
    ],
)
def test_processor_without_vnni_may_saturate(flags: str | None, may_saturate: bool) -> None:
    lines = ["processor : 0", "model name\t: Some CPU @ 2 GHz"]
    lines += [f"flags : {flags}"] if flags else ["Features : asimd asimddp"]

    machine = read_machine("\n".join(lines))

    assert machine.cpu == "Some CPU @ 2 GHz"
    assert machine.may_saturate is may_saturate


def test_eight_bits_on_such_a_processor_are_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "this_machine", lambda: Machine("old", 2, may_saturate=True))

    assert host.check_processor(Manifest.load(newest_version(repository))) == "old, 2 cores"
    write_manifest(repository, precision="int8", versions={"processor": "old"})
    assert "processor" not in found(repository, is_good=False)  # proved right here
    write_manifest(repository, versions={"processor": "new"})
    assert "old, 2 cores has no VNNI" in found(repository, is_good=False)["processor"]
