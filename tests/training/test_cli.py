"""The command line: the stages in order, mistakes in one line, help for everything."""

import argparse
import json
from pathlib import Path

import pytest

from training.__main__ import build_parser, main

SETTINGS = ("n_layer=1", "n_head=2", "n_embd=32", "block_size=32", "batch_size=4", "max_steps=4")
SIZES = [part for setting in SETTINGS for part in ("--set", setting)]


def test_stages_run_in_order_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "src").mkdir()
    for i in range(12):
        (tmp_path / "src" / f"f{i}.py").write_text(f"def f{i}(x):\n    return x + {i}\n" * 30)
    data, run, demo = (str(tmp_path / name) for name in ("data", "run", "demo"))

    assert main(["corpus", str(tmp_path / "src"), "--out", data, "--val-share", "0.3"]) == 0
    assert main(["tokenizer", "--data", data, "--vocab-size", "270"]) == 0
    assert main(["train", "--data", data, "--out", run, *SIZES]) == 0
    capsys.readouterr()
    release = ["release", "--data", data, "--checkpoint", f"{run}/ckpt.pt", "--out", demo]
    assert main([*release, "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() >= {"model.safetensors", "README.md"}


def test_mistake_is_one_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", str(tmp_path), "--out", str(tmp_path)]) == 1

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1


def test_every_option_has_help() -> None:
    actions = build_parser()._actions
    (stages,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))

    for name, stage in stages.choices.items():
        for action in stage._actions:
            assert action.help, f"{name} {action.dest}"
