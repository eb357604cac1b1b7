"""`python -m benchmarks peers`: its options, what it prints, and its exit status."""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.common.machine import describe
from benchmarks.common.options import add_rounds, count
from benchmarks.peers.catalogue import DEFAULT_VENVS, PEERS, choose, choose_engines, install
from benchmarks.peers.measure import measure_peers
from benchmarks.peers.report import describe_tracks, table_lines
from benchmarks.peers.rounds import WORKLOADS


def add_options(add: argparse.ArgumentParser) -> None:
    """Which peers, on which weights, for how long."""
    add.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"an engine, or one of: {', '.join(one.name for one in PEERS)}; default: all",
    )
    add.add_argument(
        "--install",
        nargs="*",
        metavar="NAME",
        help="make the virtual environments of these engines (of all without a name), and end",
    )
    add.add_argument(
        "--venvs", type=Path, default=DEFAULT_VENVS, help="where those are; default: %(default)s"
    )
    weights = add.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", type=Path, help="Hugging Face GPT-2 folder")
    weights.add_argument(
        "--random", action="store_true", help="the default: random weights in GPT-2's size (124M)"
    )
    add.add_argument(
        "--work", type=Path, help="folder that keeps what peers make of the weights, for next time"
    )
    add_rounds(add, 5)
    add.add_argument(
        "--max-minutes",
        type=float,
        default=12,
        help="in all: no second round begins that would end later; default: %(default)s",
    )
    add.add_argument("--threads", type=count, default=2, help="of each peer; default: %(default)s")
    add.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")


def run(args: argparse.Namespace) -> int:
    """Print a table a workload, or install; 1 when a peer that was asked for failed."""
    if args.install is not None:
        failures = install(choose_engines(args.install), args.venvs, os.environ)
        print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
        return 1 if failures else 0
    chosen = choose(args.only, PEERS)
    about = describe(args.argv)
    measured = measure_peers(
        chosen,
        args.checkpoint,
        venvs=args.venvs,
        work=args.work,
        num_threads=args.threads,
        num_rounds=args.rounds,
        max_s=args.max_minutes * 60,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(f"{about['machine']}, load {about['load_average']:.1f} at the start, ", end="")
    print(f"{args.threads} threads each, {args.checkpoint or 'random GPT-2 124M'}")
    print(*table_lines(measured.tracks, WORKLOADS, measured.errors), sep="\n")
    if args.json:
        figures = describe_tracks(measured.tracks, WORKLOADS, measured.errors)
        args.json.write_text(json.dumps(about | figures, indent=1) + "\n")
    return 1 if measured.errors or any(one.error for one in measured.tracks) else 0
