"""The benchmark of steps: both ways of each pair do the same work, on a real version."""

import numpy as np

from benchmarks.__main__ import main
from benchmarks.engine.steps import Pair, StepTime, compare_graphs, compare_mixed, measure


def test_ratio_is_that_of_the_second_way_to_the_first():
    now = iter(np.cumsum([0, 9, 0, 9, 0, 2, 0, 1, 0, 4, 0, 1, 0, 2, 0, 1]))
    found = measure([Pair("x", list, list)], 3, lambda: float(next(now)))
    assert found == [StepTime("x", 2000.0, 1000.0, 0.5)]


def test_steps_together_and_apart_run_on_a_real_version(artifact_of):
    found = measure(compare_mixed(artifact_of("int8"), 1, (8, 16), (1, 3)), 1)
    assert [one.kind for one in found] == ["8 + 1", "8 + 3", "16 + 1", "16 + 3"]
    assert all(one.ratio > 0 for one in found)


def test_graphs_of_a_version_are_compared(artifact_of):
    found = measure(compare_graphs(artifact_of("auto"), 1), 1)
    assert [one.kind for one in found][-2:] == ["decode 32", "prefill 64"]


def test_version_with_one_graph_is_one_line(demo_repository, capsys):
    assert main(["steps", "--model-repository", str(demo_repository)]) == 1
    assert "has one graph, of precision" in capsys.readouterr().err
