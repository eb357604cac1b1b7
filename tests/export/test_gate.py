"""Parity of versions with 4-bit weights: the tiny model's, loosened, and the demo's as they are."""

from pathlib import Path

import pytest

from export.checkpoint import load_checkpoint
from export.comparison import TOLERANCES, check_alternation
from export.gate import Gate
from export.parity import default_text, encode_known, generate
from nanotriton.errors import ParityError
from nanotriton.manifest import Manifest, newest_version
from nanotriton.runners.graphs import DETERMINISTIC, GraphUse
from nanotriton.runners.ort import OrtRunner

# The tiny random model is nearly undecided everywhere: its best tokens say nothing of the graph.
UNDECIDED = {"min_top1": 0.6, "min_greedy": 0.6}
DEMO = Path(__file__).parents[2] / "demo"


def gate_of(tokens=600, **limits) -> Gate:
    return Gate(default_text(), tokens, 1, limits, lambda _: None)


def test_int4_artifact_is_close_to_its_checkpoint(checkpoint, artifact_of):
    figures = gate_of(**UNDECIDED).measure(checkpoint, artifact_of("int4"))
    assert 0 < figures["mean_kl"] <= TOLERANCES["int4"].max_kl
    assert not [name for name in figures if name.startswith(("int4_", "alternating_"))]


def test_every_graph_of_auto_is_measured(checkpoint, artifact_of):
    figures = gate_of(**UNDECIDED).measure(checkpoint, artifact_of("auto"))
    int8 = gate_of(**UNDECIDED).measure(checkpoint, artifact_of("int8"))
    int4 = gate_of(**UNDECIDED).measure(checkpoint, artifact_of("int4"))
    assert int8.items() <= figures.items()
    assert {f"int4_{name}": value for name, value in int4.items()}.items() <= figures.items()
    assert figures["alternating_texts"] > 8
    assert 0.7 < figures["alternating_greedy"] <= 1


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_kl": figure}, f"mean KL is .*, the limit is {figure}")
        for figure in (1e-05, 0.001)  # below the 8-bit graph's, and between the two graphs'
    ],
)
def test_graph_outside_of_its_tolerance_is_refused(checkpoint, artifact_of, limits, words):
    with pytest.raises(ParityError, match=words):
        gate_of(**UNDECIDED | limits).measure(checkpoint, artifact_of("auto"))


def test_disagreement_of_graphs_that_take_turns_is_refused():
    check_alternation({"alternating_greedy": 0.9}, 0.9)
    for share in (0.89, float("nan")):
        with pytest.raises(ParityError, match="graphs that take turns is"):
            check_alternation({"alternating_greedy": share}, 0.9)


@pytest.fixture(scope="module")
def demo(auto_repository):
    """The demo's version of precision auto."""
    return newest_version(auto_repository)


def test_demo_passes_with_two_graphs(demo):
    parity = Manifest.load(demo).parity
    assert parity["mean_kl"] < 2e-3
    assert parity["int4_mean_kl"] < 3e-2
    assert parity["alternating_greedy"] > 0.9


def test_demo_pinned_to_one_graph_writes_the_same_however_many_rows(demo):
    tokens = encode_known(load_checkpoint(DEMO).vocabulary, default_text())
    prompts = [tokens[start : start + 40] for start in range(0, 400, 50)]
    pinned = [
        generate(OrtRunner(demo, 8, 1, DETERMINISTIC), prompts, rows) for rows in ((8,), (1, 4))
    ]
    assert [list(text) for text in pinned[0]] == [list(text) for text in pinned[1]]
    int4 = generate(OrtRunner(demo, 8, 1, GraphUse(only="model.int4.onnx")), prompts)
    assert [list(text) for text in int4] != [list(text) for text in pinned[0]]
