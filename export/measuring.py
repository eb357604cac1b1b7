"""The stages that measure what exists and write no artifact: `compare` and `verify`.

Comes in: their options. Goes out: tables, JSON and reports.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from export.calibration import sha256_text
from export.comparison import TOLERANCES
from export.contender import Contender, check_comparable, find_contenders
from export.options import SERVED_LIMITS
from export.output import log, print_values
from export.parity import default_text, encode_known, read_text
from export.standing import NUM_SLOTS, Contest
from export.standing_report import print_table, to_json, write_report
from export.vocabulary import find_vocabulary
from nanotriton.errors import ArtifactError
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


def verify_stage(options: argparse.Namespace) -> None:
    """Ask the server, print the figures, and hold them to their limits."""
    try:
        # The client library is an extra of its own.
        from export.verification import cut_prompts, open_doors, verify  # noqa: PLC0415
    except ImportError as error:
        raise ArtifactError(f"{error.name} is missing: pip install '.[client]'") from None
    text = read_text(options.text, "--text") if options.text else default_text()
    given = {name: getattr(options, name) for name in SERVED_LIMITS}
    limits = {name: value for name, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory(prefix="nanotriton-verify-") as temporary:
        found = _find_all(options.contenders, options.tokenizer, Path(temporary))
        tolerance = TOLERANCES[options.precision or found[-1].precision]
        tolerance = dataclasses.replace(tolerance, **limits)
        runner = found[0].open(NUM_SLOTS, options.threads or 1)  # the server has the other cores
        vocabulary = find_vocabulary(found[0].folder)
        ids = encode_known(vocabulary, text)
        tokenizer = vocabulary.tokenizer
        prompts = cut_prompts(ids, tokenizer, runner.context, options.tokens)
        with open_doors(options.url, options.protocol) as doors:
            verification = verify(doors, runner, tokenizer, prompts, log)
    print_values(verification.to_dict(), options.json)
    verification.check(tolerance, options.accept)


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
