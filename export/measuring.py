"""The stages that measure what exists and write no artifact: `compare`.

Comes in: their options. Goes out: tables, JSON and reports.
"""

import argparse
import importlib.metadata
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from export.calibration import sha256_text
from export.contender import Contender, check_comparable, find_contenders
from export.output import log
from export.parity import default_text, read_text
from export.standing import Contest
from export.standing_report import print_table, to_json, write_report
from nanotriton.machine import this_machine


def compare_stage(options: argparse.Namespace) -> None:
    """Measure, print, and write the report."""
    text = read_text(options.text, "--text") if options.text else default_text()
    num_threads = options.threads or os.cpu_count() or 1
    contest = Contest(text, options.tokens, options.rounds, num_threads, log)
    with tempfile.TemporaryDirectory(prefix="nanotriton-compare-") as temporary:
        contenders = _find_all(options.contenders, options.tokenizer, Path(temporary))
        check_comparable(contenders, text)
        standings = contest.measure(contenders)
    circumstances = {
        "command": options.command_line,
        "machine": str(this_machine()),
        "threads": str(num_threads),
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "text": sha256_text(text),
    }
    if options.json:
        print(to_json(standings, circumstances))
    else:
        print_table(standings)
    if options.out:
        for path in write_report(standings, circumstances, options.out):
            log(f"compare: wrote {path}")


def _find_all(paths: Sequence[Path], tokenizer: str | None, scratch: Path) -> list[Contender]:
    """Named after the last part of their paths where that tells them apart."""
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = list(map(str, paths))
    return [
        contender
        for index, (path, name) in enumerate(zip(paths, names, strict=True))
        for contender in find_contenders(path, name, tokenizer, scratch / str(index))
    ]
