"""`compare`: the figures of several artifacts, and the forms in which they are told."""

import hashlib
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.__main__ import main
from export.standing import BATCHES
from export.standing_report import pareto

QUICK = ("--tokens", "300", "--rounds", "2", "--threads", "1")


def compare(*words: object) -> int:
    return main(["compare", *map(str, words), *QUICK])


def test_checkpoint_and_artifacts_stand_beside_each_other(nanogpt, artifact_of, tmp_path, capsys):
    models = (nanogpt(), artifact_of("int8"), artifact_of("auto"))
    assert compare(*models, "--json", "--out", tmp_path / "out") == 0
    told = json.loads(capsys.readouterr().out)
    first, *others = told["standings"]
    assert [one["precision"] for one in others] == ["int8", "int8", "int4"]
    assert first["mean_kl"] == 0 < others[0]["mean_kl"] < others[2]["mean_kl"]
    assert first["top1"] == first["greedy_texts"] == 1
    assert set(first["speeds"]) == {*(f"decode {rows}" for rows in BATCHES), "prefill 64"}
    assert all(one["speeds"]["decode 1"]["tokens_s"] > 0 for one in others)
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == told


def test_report_has_a_row_for_each_model_and_its_plots(artifact_of, tmp_path, capsys):
    assert compare(artifact_of("fp32"), artifact_of("int4"), "--out", tmp_path) == 0
    lines = (tmp_path / "compare.md").read_text().splitlines()
    assert [line.split(" | ")[1] for line in lines if "(+" in line or "(-" in line][-1] == "int4"
    assert {path.name for path in tmp_path.iterdir()} == {
        *("compare.json", "compare.md", "pareto.png", "pareto.svg")
    }
    assert "greedy texts" in capsys.readouterr().out


def test_two_graphs_share_what_they_store(artifact_of, capsys):
    assert compare(artifact_of("auto"), "--json") == 0
    int8, int4 = json.loads(capsys.readouterr().out)["standings"]
    assert int8["size_bytes"] == int4["size_bytes"]


def test_another_tokenizer_is_refused(artifact_of, edit_json, tmp_path, capsys):
    other = shutil.copytree(artifact_of("fp32"), tmp_path / "other")
    edit_json(other / "manifest.json", tokenizer_sha256="0")
    assert compare(artifact_of("fp32"), other) == 1
    assert "other has another tokenizer than fp32" in capsys.readouterr().err


def test_artifact_fitted_to_the_text_is_refused(artifact_of, edit_json, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("x = 1\n" * 400)
    sha256 = hashlib.sha256(text.read_bytes()).hexdigest()
    other = shutil.copytree(artifact_of("int4"), tmp_path / "other")
    edit_json(other / "manifest.json", calibration_sha256=sha256)
    assert compare(artifact_of("fp32"), other, "--text", text) == 1
    assert "which flatters" in capsys.readouterr().err


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8))
def test_what_is_beaten_is_beaten_by_one_of_the_front(points):
    best = pareto(points)
    front = [point for point, is_best in zip(points, best, strict=True) if is_best]
    assert front
    for point, is_best in zip(points, best, strict=True):
        beaten = any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in front)
        assert is_best != beaten


@pytest.mark.parametrize("words", [("absent",), ("/dev/null",)])
def test_path_without_a_model_is_one_line(words, capsys):
    assert compare(*words) == 1
    assert capsys.readouterr().err.count("\n") == 1
