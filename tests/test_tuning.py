"""`nanotriton tune`: what it chooses, where that holds, and what outranks it."""

import dataclasses
import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.__main__ import main
from nanotriton.doctor import examine
from nanotriton.engine import process
from nanotriton.errors import ManifestError
from nanotriton.machine import this_machine
from nanotriton.manifest import newest_version
from nanotriton.server import ServerOptions
from nanotriton.tuned import Choice, Tuned, read_tuned
from nanotriton.tuning import fewest, largest, last_gain, smallest, thread_counts

FIGURES = st.dictionaries(
    st.integers(1, 64).map(str), st.floats(0.1, 1e4, allow_nan=False), min_size=1
)


@pytest.fixture
def version(auto_repository: Path, tmp_path: Path) -> Path:
    """A version with two graphs, to be tuned."""
    return Path(shutil.copytree(newest_version(auto_repository), tmp_path / "gpt" / "1"))


@pytest.fixture
def tuned(version: Path) -> Tuned:
    """Choices for this machine, lying in the version."""
    machine = this_machine()
    values = {"threads": 1, "prefill_chunk": 48, "max_slots": 5, "max_decode_rows": 2}
    choices = {name: Choice(value, "x", {str(value): 1.0}, 0.1) for name, value in values.items()}
    made = Tuned(machine.cpu, machine.num_cores, onnxruntime.__version__, "now", choices)
    made.save(version)
    return made


def settings(version: Path, *words: str) -> dict[str, object]:
    """What the engine would run with."""
    words = (str(version), "--socket", "socket", *words)
    args = process.build_parser().parse_args(words)
    process.fill_settings(args)
    return {name: getattr(args, name) for name in process.DEFAULTS}


def test_tuning_measures_this_machine_and_tells_its_figures(version, capsys):
    assert main(["tune", str(version.parent.parent), "--seconds", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = read_tuned(version)
    assert dataclasses.asdict(found) == told
    found.check(this_machine())
    assert found.choices.keys() <= process.DEFAULTS.keys()
    for choice in found.choices.values():
        assert choice.value == 0 or str(choice.value) in choice.figures


def test_what_was_tuned_holds_where_nothing_is_said(version, tuned):
    assert settings(version) == {name: one.value for name, one in tuned.choices.items()}
    said = settings(version, "--max-slots", "7", "--threads", "2")
    assert (said["max_slots"], said["threads"], said["prefill_chunk"]) == (7, 2, 48)


def test_defaults_hold_without_tuning(version):
    assert settings(version) == process.DEFAULTS


@pytest.mark.parametrize(
    "change", [{"cpu": "another"}, {"num_cores": 999}, {"onnxruntime": "1.0"}], ids=str
)
def test_tuning_of_another_machine_is_left_aside(version, tuned, change, capsys):
    dataclasses.replace(tuned, **change).save(version)
    assert settings(version) == process.DEFAULTS
    assert "was measured on another machine" in capsys.readouterr().err
    repository = version.parent.parent
    bad = {one.subject for one in examine(ServerOptions(repository)) if not one.is_good}
    assert "tuning" in bad


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"choices": {"threads": {"value": "2"}}}'])
def test_torn_file_is_one_line_and_no_obstacle(version, text, capsys):
    (version / "tuned.json").write_text(text)
    with pytest.raises(ManifestError, match="run `nanotriton tune` again"):
        read_tuned(version)
    assert settings(version) == process.DEFAULTS
    assert capsys.readouterr().err.count("\n") == 1


def test_folder_without_a_version_is_one_line(tmp_path, capsys):
    assert main(["tune", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@given(FIGURES)
def test_choice_is_nearly_the_best(figures):
    best = max(figures.values())
    for pick in (smallest, largest):
        assert figures[str(pick(figures))] >= 0.95 * best
    assert smallest(figures) <= largest(figures)


@pytest.mark.parametrize(
    ("figures", "threads"), [({"1": 1.0, "2": 1.07}, 1), ({"1": 1, "2": 1.8}, 2)]
)
def test_more_threads_are_taken_where_they_bring_more_than_a_little(figures, threads):
    assert fewest(figures) == threads


@pytest.mark.parametrize(
    ("ratios", "rows"),
    [
        ({"1": 1.5, "2": 1.2, "3": 0.9, "4": 1.3}, 2),
        ({"1": 0.9, "2": 1.2}, 0),
        ({"1": 2.0, "16": 1.1}, 16),
    ],
)
def test_second_graph_serves_up_to_where_it_first_loses(ratios, rows):
    assert last_gain(ratios) == rows


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_thread_counts_reach_every_core(cores, counts):
    assert thread_counts(cores) == counts
