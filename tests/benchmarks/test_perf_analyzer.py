"""perf_analyzer's files, as it wrote them, to figures; and whether two clients agree."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.common.ratios import Ratio
from benchmarks.timing.agreement import agreement_of, verdict_of
from benchmarks.timing.perf_analyzer import Analyzer, data_of, first_s_of, options_of, read_table
from benchmarks.timing.prompts import code_prompts
from benchmarks.timing.same_load import measure_same
from benchmarks.timing.ways import WAYS, Figures, Load, Way

RECORDED = Path(__file__).parent / "recorded"
EIGHT, FIVE_A_SECOND = Load("users", 8, 32, 6.0), Load("rate", 5.0, 32, 6.0)


def test_program_that_is_missing_is_told_with_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["perf-analyzer", "--venvs", str(tmp_path / "none")]) == 1
    assert "python -m benchmarks perf-analyzer --install" in capsys.readouterr().err


def test_program_that_fails_is_told_with_its_status():
    failing = Analyzer(Path("/bin/false"), {})

    with pytest.raises(ValueError, match="perf_analyzer ended with 1: silently"):
        failing.measure(WAYS[0], "localhost:1", EIGHT, ["def f("])


@pytest.mark.parametrize(
    ("way", "load", "words"),
    [
        (WAYS[0], EIGHT, "-m completion -u u -i grpc --concurrency-range 8 --async --measure"),
        (WAYS[1], FIVE_A_SECOND, "-i http --request-rate-range 5 --request-distribution constant"),
        (WAYS[2], EIGHT, "-m completion_stream -u u -i grpc --concurrency-range 8 --async --str"),
    ],
    ids=["users", "rate", "stream"],
)
def test_command_line_asks_one_load_of_one_model(way, load, words):
    assert words in " ".join(options_of(way, "u", load))
    assert "--measurement-interval 2000 " in " ".join(options_of(way, "u", load))


def test_requests_hold_a_prompt_each_and_the_same_settings():
    first, second = data_of(["a", "b"], 32)["data"]

    assert first == {"text_input": ["a"], "max_tokens": [32], "ignore_eos": [True]}
    assert second["text_input"] == ["b"]


def test_prompts_are_the_same_but_for_their_first_line():
    one, other = code_prompts(20, 1, "one"), code_prompts(20, 1, "other")

    assert [text.split("\n", 1)[1] for text in one] == [text.split("\n", 1)[1] for text in other]
    assert len({text.split("\n", 1)[0] for text in (*one, *other)}) == 40


@pytest.mark.parametrize(
    ("name", "first_ms", "expected"),
    [
        ("completion.csv", None, Figures(21.207, 93.754, 93.239, 134.149, 168.056, None, 1.0)),
        ("stream.csv", 45.0, Figures(20.6332, 94.202, 93.963, 136.686, 149.669, 45.0, 1.0)),
    ],
    ids=["unary", "stream"],
)
def test_recorded_table_is_read(name, first_ms, expected):
    assert read_table((RECORDED / name).read_text(), first_ms, 1.0) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Concurrency,p50 latency\n", "has 0 lines of figures, expected one"),
        ("Concurrency,p50 latency\n1,5\n2,5\n", "has 2 lines of figures"),
        ("Inferences/Second\n5\n", "has no column 'Avg latency', only Inferences/Second"),
    ],
    ids=["none", "a sweep", "other columns"],
)
def test_table_of_another_kind_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_table(text, None, 1.0)


def test_first_response_of_each_recorded_request_is_timed():
    export = json.loads((RECORDED / "stream.json").read_text())

    found = first_s_of(export)

    assert len(found) == len(export["experiments"][0]["requests"]) == 3
    assert all(0.01 < one < 1 for one in found)


FIGURES = Figures(10.0, 90.0, 80.0, 200.0, 300.0, 12.0, 1.0)


def test_agreement_is_that_of_the_figure_that_is_furthest_off():
    theirs = [replace(FIGURES, per_s=10 + number, p50_ms=120) for number in range(5)]
    ours = [replace(FIGURES, per_s=10 + number) for number in range(5)]

    found = agreement_of(WAYS[2], EIGHT, list(zip(theirs, ours, strict=True)))

    assert found.ratios["per_s"].value == 1
    assert found.ratios["p50_ms"].value == 1.5
    assert found.verdict == "apart"
    assert found.ours.per_s == 12


def test_unary_answers_are_compared_without_a_first_text():
    figures = [replace(FIGURES, first_ms=None)] * 5

    found = agreement_of(WAYS[0], EIGHT, list(zip(figures, figures, strict=True)))

    assert "first_ms" not in found.ratios
    assert found.verdict == "within 10 %"


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Ratio(1.08, 0.5, 2.0, 9), "within 10 %"),
        (Ratio(1.15, 1.05, 1.3, 9), "noise swallows it"),
        (Ratio(0.7, 0.65, 0.8, 9), "apart"),
    ],
)
def test_verdict_asks_whether_the_interval_reaches_the_tolerance(ratio, verdict):
    assert verdict_of(ratio) == verdict


@pytest.mark.parametrize("way", WAYS, ids=[one.name for one in WAYS])
@pytest.mark.parametrize(
    "load", [Load("users", 2, 4, 0.2), Load("rate", 50.0, 4, 0.1)], ids=["users", "rate"]
)
def test_our_client_takes_the_figures_of_a_load(way: Way, load: Load, server):
    url = f"127.0.0.1:{server.grpc_port if way.protocol == 'grpc' else server.http_port}"

    found = measure_same(way, url, load, code_prompts(5, 0, load.name))

    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms
    assert (found.first_ms is not None) == way.is_stream
