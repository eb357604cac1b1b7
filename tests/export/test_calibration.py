import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export import calibration, parity
from export.__main__ import build_parser, main
from export.artifact import quantize_artifact
from export.calibration import (
    DEFAULT_TOKENS,
    Calibration,
    default_text,
    read_calibration,
    record_rows,
)
from export.checkpoint import load_checkpoint
from export.gate import Gate
from export.model_file import read_model
from export.reference import Reference
from nanotriton.errors import ArtifactError, ParityError
from nanotriton.manifest import Manifest, sha256_file

LOOSE = {"min_top1": 0.6, "min_greedy": 0.6}
DEMO = Path(__file__).parents[2] / "demo"
LONGEST_SHARED = 32  # tokens; imports and the like are the same everywhere


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def work(nanogpt, tmp_path):
    """A float32 artifact."""
    assert run("graph", nanogpt(), "--out", tmp_path / "work") == 0
    return tmp_path / "work"


def test_default_texts_of_calibration_and_parity_share_nothing():
    assert not set(calibration.DEFAULT_SOURCES) & set(parity.DEFAULT_SOURCES)
    vocabulary = load_checkpoint(DEMO).vocabulary
    fitted = Calibration(default_text(), 4096, print).windows(vocabulary, 512)
    measured = parity.encode_known(vocabulary, parity.default_text())
    shared = pieces(measured) & set().union(*map(pieces, fitted))
    assert not shared


def pieces(ids):
    """Every run of so many tokens."""
    starts = range(len(ids) - LONGEST_SHARED + 1)
    return {tuple(ids[at : at + LONGEST_SHARED].tolist()) for at in starts}


@pytest.mark.parametrize("precision", ["int4", "auto"])
def test_gate_refuses_the_text_of_calibration(checkpoint, artifact_of, tmp_path, precision):
    manifest = Manifest.load(artifact_of(precision))
    text = parity.default_text()
    sha256 = calibration.sha256_text(text)
    dataclasses.replace(manifest, calibration_tokens=4096, calibration_sha256=sha256).save(tmp_path)
    with pytest.raises(ParityError, match="the version was calibrated on"):
        Gate(text, 600, 1, LOOSE, print).measure(checkpoint, tmp_path)


@pytest.mark.parametrize("num_tokens", [1024, 1500, 10**9])
def test_windows_are_spread_over_the_text_and_never_overlap(checkpoint, num_tokens):
    text = "".join(f"{number} " for number in range(1000))
    ids = parity.encode_known(checkpoint.vocabulary, text)
    windows = Calibration(text, num_tokens, print).windows(checkpoint.vocabulary, 64)
    assert sum(map(len, windows)) == min(num_tokens, len(ids))
    assert max(map(len, windows)) <= 64
    if num_tokens > len(ids):
        np.testing.assert_array_equal(np.concatenate(windows), ids)
    else:
        assert checkpoint.vocabulary.tokenizer.decode(windows[-1])[-12:] in text[-300:]


def test_recorded_rows_are_the_references(checkpoint, artifact_of, ids, tmp_path):
    model = read_model(artifact_of("fp32"))
    (head,) = (node for node in model.nodes if node.op_type == "Gemm")
    read = head.input[0]
    rows = record_rows(model, {read: 32}, [ids[:40], ids[40:]], tmp_path)
    reference = Reference(checkpoint)
    expected = np.concatenate([reference.hidden(ids[:40]), reference.hidden(ids[40:])])
    np.testing.assert_allclose(rows[read], expected, atol=1e-4)


def test_calibrated_export_is_repeatable_and_nearest_needs_no_calibration(
    work, artifact_of, tmp_path, capsys
):
    files = []
    for words in ((), (), ("--rounding", "nearest")):
        assert run("graph", tmp_path / "ckpt.pt", "--out", work) == 0
        assert run("quantized", work, "--precision", "auto", *words) == 0
        files.append(Manifest.load(work))
    assert files[0].files == files[1].files != files[2].files
    assert files[2].files == Manifest.load(artifact_of("auto")).files
    assert [one.calibration_tokens for one in files] == [4096, 4096, 0]
    assert [one.rounding for one in files] == ["gptq", "gptq", "nearest"]
    assert files[0].calibration_sha256 == calibration.sha256_text(default_text())
    assert not files[2].calibration_sha256
    assert "error" not in capsys.readouterr().err
    assert not [path for path in work.iterdir() if path.is_dir()]


def test_int8_needs_no_calibration(work):
    quantize_artifact(work, "int8", Calibration("short", 4096, pytest.fail))
    assert Manifest.load(work).calibration_tokens == 0


def test_calibration_improves_a_graph_and_stands_in_its_figures(
    checkpoint, work, artifact_of, tmp_path
):
    file = tmp_path / "code.py"
    file.write_text(default_text()[:30_000])
    words = ("--calibration", file, "--calibration-tokens", 2000)
    assert run("quantized", work, "--precision", "int4", *words) == 0
    gate = Gate(parity.default_text(), 600, 1, LOOSE, print)
    figures = gate.measure(checkpoint, work)
    assert figures["calibration_tokens"] == 2000
    plain = gate.measure(checkpoint, artifact_of("int4"))
    assert "calibration_tokens" not in plain
    assert figures["mean_kl"] < plain["mean_kl"]


@pytest.mark.parametrize("content", [b"", b"def f():\n", b"\xff\xfe\xff"], ids=repr)
def test_bad_calibration_text_is_one_line(work, tmp_path, capsys, content):
    (tmp_path / "code.py").write_bytes(content)
    words = ("--precision", "int4", "--calibration", tmp_path / "code.py")
    capsys.readouterr()
    assert run("quantized", work, *words) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert "code.py" in line or "at least 1024 are needed" in line
    assert Manifest.load(work).precision == "fp32"


@pytest.mark.parametrize("number", ["-1", "0", "x", "1.5"])
def test_calibration_tokens_are_a_number_from_1(number, capsys):
    with pytest.raises(SystemExit):
        run("quantized", "work", f"--calibration-tokens={number}")
    assert "no whole number from 1 up" in capsys.readouterr().err


def test_too_few_calibration_tokens_are_refused():
    with pytest.raises(ArtifactError, match="5 tokens is no help: take at least 1024, or"):
        Calibration("text", 5, print)


@pytest.fixture
def bins(tmp_path, checkpoint):
    """Tokens as training writes them: every second one is 7."""
    ids = np.random.default_rng(3).integers(0, checkpoint.vocabulary.tokenizer.num_tokens, 8000)
    ids[::2] = 7
    ids.astype("<u2").tofile(tmp_path / "val.bin")
    return tmp_path / "val.bin"


def calibration_of(*words):
    return read_calibration(
        build_parser().parse_args(["quantized", "work", *map(str, words)]), print
    )


def test_file_of_training_gives_its_own_tokens(bins, checkpoint):
    windows = calibration_of("--calibration", bins).windows(checkpoint.vocabulary, 64)
    assert sum(map(len, windows)) == DEFAULT_TOKENS
    ids = np.fromfile(bins, "<u2")
    np.testing.assert_array_equal(windows[0], ids[: len(windows[0])])


def test_samples_are_whole_windows_drawn_by_the_seed(bins, checkpoint):
    def drawn(seed):
        words = ("--calibration", bins, "--calibration-samples", 40, "--seed", seed)
        return np.array(calibration_of(*words).windows(checkpoint.vocabulary, 64))

    assert drawn(1).shape == (40, 64)
    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert (drawn(1) != drawn(2)).any()
    assert len({window.tobytes() for window in drawn(1)}) == 40


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (b"odd", (), "has 3 bytes, tokens have 2 each"),
        (b"\x01\x00" * 20, (), "has 20 tokens of this vocabulary, at least 1024 are needed"),
        (b"\xff\xff" * 2000, (), "holds the token 65535, this vocabulary has 283"),
        (b"\x01\x00" * 2000, ("--calibration-samples", 3), "take at least 16 with --calib"),
    ],
    ids=["no tokens", "too few", "another vocabulary", "too few samples"],
)
def test_tokens_that_are_no_help_are_refused(work, capsys, content, words, message):
    file = work / "bad.bin"
    file.write_bytes(content)
    words = ("--calibration", file, *words)
    assert run("quantized", work, "--precision", "int4", *words) == 1
    assert message in capsys.readouterr().err


def test_version_says_what_tokens_it_was_fitted_to(work, bins):
    words = ("--calibration", bins, "--calibration-samples", 20, "--seed", 5)
    assert run("quantized", work, "--precision", "int4", *words) == 0
    manifest = Manifest.load(work)
    assert manifest.calibration_tokens == 20 * 64
    assert manifest.calibration_sha256 == sha256_file(bins)
