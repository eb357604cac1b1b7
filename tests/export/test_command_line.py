import argparse
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from export.__main__ import build_parser, main
from nanotriton.manifest import Manifest, newest_version
from nanotriton.tokenizer import load_tokenizer

SHORT = ["--tokens", "300", "--threads", "1"]
UNDECIDED = ["--min-top1", "0.9"]  # a random model's best token is a near-tie


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_all_stages_make_a_version(nanogpt, tmp_path, capsys):
    repository = tmp_path / "repo"
    assert run("all", nanogpt(), "--repository", repository, *SHORT) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(repository / "gpt" / "1")
    assert "parity: compared" in printed.err
    manifest = Manifest.load(repository / "gpt" / "1")
    assert manifest.created_by.startswith("python -m export all ckpt.pt --repository repo")
    assert manifest.parity["top1"] == 1


def test_manifest_says_infill_as_told(huggingface, tmp_path, capsys):
    assert run("graph", huggingface(), "--out", tmp_path / "work", "--infill", "no") == 0
    assert not Manifest.load(tmp_path / "work").infill
    assert run("graph", huggingface(), "--out", tmp_path / "work", "--infill", "yes") == 1
    assert "the tokenizer has no <|fim_prefix|>" in capsys.readouterr().err


def test_stages_one_by_one_make_what_all_makes(huggingface, tmp_path, capsys):
    checkpoint, work, repository = huggingface(), tmp_path / "work", tmp_path / "repo"
    assert run("graph", checkpoint, "--out", work) == 0
    assert run("quantized", work, "--precision", "int8") == 0
    assert run("parity", work, checkpoint, "--json", *SHORT, *UNDECIDED) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run("repository", work, "--repository", repository, "--version", 5) == 0
    words = ("all", checkpoint, "--repository", repository, "--precision", "int8")
    assert run(*words, *SHORT, *UNDECIDED) == 0
    alone, together = (Manifest.load(repository / "gpt" / name) for name in "56")
    assert alone.files == together.files
    assert alone.parity == together.parity == report


@pytest.mark.parametrize(
    ("precision", "files"),
    [
        ("int4", {"model.onnx", "model.onnx.data"}),
        (
            "auto",
            {"model.onnx", "model.onnx.data", "model.int4.onnx", "model.int4.onnx.data"},
        ),
    ],
)
def test_precision_decides_the_files_of_a_version(nanogpt, tmp_path, precision, files):
    repository = tmp_path / "repo"
    loose = ["--min-top1", "0.6", "--min-greedy", "0.6"]
    words = ("all", nanogpt(), "--repository", repository, "--precision", precision)
    assert run(*words, *SHORT, *loose) == 0
    manifest = Manifest.load(newest_version(repository))
    assert manifest.precision == precision
    assert {name for name in manifest.files if "model" in name} == files
    assert files <= {path.name for path in newest_version(repository).iterdir()}
    assert ("int4_mean_kl" in manifest.parity) == (precision == "auto")


def test_folder_written_anew_keeps_no_second_graph(nanogpt, tmp_path):
    checkpoint, work = nanogpt(), tmp_path / "work"
    assert run("graph", checkpoint, "--out", work) == 0
    assert run("quantized", work, "--precision", "auto") == 0
    assert (work / "model.int4.onnx").is_file()
    assert run("graph", checkpoint, "--out", work) == 0
    assert not list(work.glob("model.int4*"))
    assert Manifest.load(work).decode_graph is None


@pytest.mark.parametrize("stage", ["quantized", "all"])
def test_wrong_precision_names_those_there_are(stage, capsys):
    with pytest.raises(SystemExit):
        run(stage, "work", "--precision", "int2")
    assert re.search(r"invalid choice: 'int2' \(choose from .*int8.*auto", capsys.readouterr().err)


def test_checkpoint_is_described(nanogpt, capsys):
    assert run("checkpoint", nanogpt(bias=False), "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["vocab_size"], described["bias"], described["tied"]) == (283, False, True)
    assert run("checkpoint", nanogpt()) == 0
    assert "num_layers             2\n" in capsys.readouterr().out


def test_char_checkpoint_gets_a_prompt_it_can_read(nanogpt, tmp_path):
    path = nanogpt(vocab_size=96)
    (path.parent / "tokenizer.tiktoken").unlink()
    chars = [chr(code) for code in range(32, 127) if chr(code) != "f"] + ["\n"]
    (path.parent / "meta.pkl").write_bytes(pickle.dumps({"itos": dict(enumerate(chars))}))
    repository = tmp_path / "repo"
    assert run("all", path, "--repository", repository, *SHORT) == 0
    prompt = Manifest.load(newest_version(repository)).canary_prompt
    assert prompt == " !\"#$%&'"
    assert load_tokenizer(newest_version(repository)).encode(prompt) == list(range(8))


def test_failed_parity_writes_nothing(nanogpt, tmp_path, capsys):
    repository = tmp_path / "repo"
    words = ("all", nanogpt(), "--repository", repository, "--precision", "int8", *SHORT)
    assert run(*words, *UNDECIDED, "--max-kl", "1e-12") == 1
    assert "mean KL is" in capsys.readouterr().err
    assert not repository.exists()


def test_accepted_figure_stands_in_the_manifest(nanogpt, tmp_path, capsys):
    repository = tmp_path / "repo"
    words = ("all", nanogpt(), "--repository", repository, "--precision", "int8", *SHORT)
    budget = ("--max-perplexity-rise", "0", "--max-kl", "1e-12", "--accept", "kl")
    assert run(*words, *UNDECIDED, *budget, "--accept", "perplexity_rise") == 0
    parity = Manifest.load(repository / "gpt" / "1").parity
    assert parity["accepted_kl"] == 1e-12 < parity["mean_kl"]
    assert "accepted_kl" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [("--max-perplexity-rise", "5"), ("--max-kl", "nan"), ("--min-top1", "-1")]
)
def test_nonsense_budget_is_refused_before_anything_is_done(words, tmp_path, capsys):
    assert run("all", "absent", "--repository", tmp_path / "repo", *words) == 1
    assert "it needs a number from 0" in capsys.readouterr().err


def test_another_checkpoint_than_the_artifacts_is_refused(nanogpt, tmp_path, capsys):
    assert run("graph", nanogpt(), "--out", tmp_path / "work") == 0
    assert run("parity", tmp_path / "work", nanogpt(n_layer=1)) == 1
    assert "made from another checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("checkpoint", "absent.pt"),
        ("checkpoint", "/dev/null"),
        ("graph", "absent", "--out", "work"),
        ("quantized", "absent"),
        ("parity", "absent", "absent"),
        ("repository", "absent", "--repository", "repo"),
        ("all", "absent", "--repository", "repo"),
    ],
    ids=" ".join,
)
def test_error_is_one_line(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["0", "-1", "x"])
def test_version_must_be_a_number_from_1(version, capsys):
    with pytest.raises(SystemExit):
        run("repository", "work", "--repository", "repo", f"--version={version}")
    assert "no whole number from 1 up" in capsys.readouterr().err


def parsers() -> dict[str, argparse.ArgumentParser]:
    parser = build_parser()
    actions = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return {"": parser, **actions[0].choices}


@pytest.mark.parametrize("stage", parsers())
def test_every_option_has_help(stage):
    for action in parsers()[stage]._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action.dest


def test_help_shows_examples():
    command = [sys.executable, "-m", "export", "--help"]
    root = Path(__file__).parents[2]
    shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "examples:" in shown
    assert shown.count("python -m export") > 5


def test_export_needs_torch_only_for_pt():
    code = "import sys, export.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
