"""The command line of the measurements; `latency` and `soak` need a server that runs already."""

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency import measure_latency
from benchmarks.random_model import write_random_version
from benchmarks.reference import measure_reference
from benchmarks.replay import measure_replay
from benchmarks.soak import run_soak
from benchmarks.steps import (
    Pair,
    compare_graphs,
    compare_mixed,
    compare_recorded,
    compare_versions,
    measure,
)
from benchmarks.typing_users import library_files
from nanotriton.contract import ORT_KV_DTYPES, Manifest, newest_version
from nanotriton.engine.request import Settings
from nanotriton.errors import NanotritonError

EXAMPLES = """examples (with a server running: make run):
  python -m benchmarks latency --rounds 300
  python -m benchmarks reference
  python -m benchmarks soak --clients 32 --seconds 60
without one:
  python -m benchmarks replay --users 1 4 --rounds 200
  python -m benchmarks steps --random --rounds 30
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one measurement; 1 when it found something wrong."""
    args = build_parser().parse_args(argv)
    status: int = args.run(args)
    return status


def latency(args: argparse.Namespace) -> int:
    """Print one row a way."""
    rows = measure_latency(
        args.model_repository, args.grpc_url, args.http_url, args.prompt, args.rounds
    )
    if args.json:
        print(json.dumps({"machine": machine(), "rows": [dataclasses.asdict(row) for row in rows]}))
        return 0
    print(f"one token after {args.prompt!r}, {args.rounds} rounds in turn, {machine()}")
    print(f"{'':<26}{'median ms':>10}{'p95 ms':>10}{'added ms':>10}")
    for row in rows:
        print(f"{row.way:<26}{row.median_ms:>10.2f}{row.p95_ms:>10.2f}{row.added_ms:>10.2f}")
    return 0


def reference(args: argparse.Namespace) -> int:
    """Print what empty models cost."""
    found = measure_reference(args.rounds, (args.port, args.port + 1, args.port + 2))
    print(f"one empty Python model {found['first']:.2f} ms, three in an ensemble ", end="")
    print(f"{found['ensemble']:.2f} ms (medians of {args.rounds}), {machine()}")
    return 0


def replay(args: argparse.Namespace) -> int:
    """Print one row a way and number of users."""
    rows = measure_replay(
        newest_version(args.model_repository),
        args.source or library_files(),
        args.users,
        Settings(max_tokens=args.max_tokens, temperature=args.temperature, top_k=40, seed=1),
        every=args.every,
        num_rounds=args.rounds,
        num_threads=args.threads,
    )
    if args.json:
        print(json.dumps({"machine": machine(), "rows": [dataclasses.asdict(row) for row in rows]}))
        return 0
    print(f"{args.max_tokens} tokens every {args.every} characters typed, {machine()}")
    print("medians over requests; 'times' is each request's own ratio to the plain engine")
    titles = ("first ms", "times", "tokens/s", "times", "reused", "accepted", "differ")
    print(f"{'users':<7}{'way':<13}" + "".join(f"{title:>10}" for title in titles))
    for row in rows:
        print(
            f"{row.users:<7}{row.way:<13}{row.first_ms:>10.2f}{row.first_ratio:>10.2f}"
            f"{row.tokens_per_s:>10.0f}{row.speed_ratio:>10.2f}{row.reused:>10.0%}"
            f"{row.accepted:>10.0%}{row.num_different:>6}/{row.num_requests:<4}"
        )
    return 0


def soak(args: argparse.Namespace) -> int:
    """Print the counts; 1 when anything failed or differed."""
    result = run_soak(args.grpc_url, args.http_url, args.clients, args.seconds, args.max_tokens)
    print(json.dumps({"machine": machine(), "clients": args.clients, **result.describe()}))
    for line in (*result.errors[:5], *result.differences[:5]):
        print(line, file=sys.stderr)
    return 1 if result.errors or result.differences else 0


def steps(args: argparse.Namespace) -> int:
    """Print one row a kind of step; 1 when the version has neither a second graph nor a plan."""
    with tempfile.TemporaryDirectory(prefix="nanotriton-steps-") as temporary:
        try:
            ways, pairs = _compared(args, Path(temporary))
            clock = time.process_time if args.cpu_time else time.perf_counter
            rows = measure(pairs, args.rounds, clock)
        except (NanotritonError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    if args.json:
        print(json.dumps({"machine": machine(), "rows": [dataclasses.asdict(row) for row in rows]}))
        return 0
    what = "processor time" if args.cpu_time else "time"
    print(f"median {what} of {args.rounds} rounds in turn, {args.threads} threads, {machine()}")
    print(f"{'':<14}" + "".join(f"{way + ' ms':>14}" for way in ways) + f"{'ratio':>10}")
    for row in rows:
        print(f"{row.kind:<14}{row.first_ms:>14.2f}{row.second_ms:>14.2f}{row.ratio:>10.2f}")
    return 0


def _compared(args: argparse.Namespace, folder: Path) -> tuple[list[str], list[Pair]]:
    """The names of both ways, and the steps; random versions lie in `folder`."""
    if args.compare == "kv":
        folders = [write_random_version(folder, "int8", dtype) for dtype in ORT_KV_DTYPES]
        return [*ORT_KV_DTYPES], compare_versions(folders, args.threads)
    version = write_random_version(folder) if args.random else newest_version(args.model_repository)
    if Manifest.load(version).runner == "trt":
        return ["launched", "recorded"], compare_recorded(version)
    if args.compare == "mixed":
        return ["apart", "together"], compare_mixed(version, args.threads)
    return ["main", "decode"], compare_graphs(version, args.threads)


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure a running server.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="NAME")
    add = commands.add_parser("latency", help="what the server adds to the engine's own time")
    _add_urls(add)
    add.add_argument(
        "--model-repository", type=Path, default=Path("model_repository"), help="what it serves"
    )
    add.add_argument("--prompt", default="def fib(n):", help="default: %(default)r")
    add.add_argument("--rounds", type=int, default=300, help="default: %(default)s")
    add.add_argument("--json", action="store_true", help="print JSON")
    add.set_defaults(run=latency)

    add = commands.add_parser("reference", help="what Triton costs by itself, on its own server")
    add.add_argument("--rounds", type=int, default=300, help="default: %(default)s")
    add.add_argument(
        "--port", type=int, default=8200, help="first of three to use; default: %(default)s"
    )
    add.set_defaults(run=reference)

    add = commands.add_parser("replay", help="somebody types: prefix cache and speculation, on/off")
    add.add_argument(
        "--model-repository", type=Path, default=Path("model_repository"), help="what to run"
    )
    add.add_argument(
        "--source", type=Path, nargs="+", help="Python files to type; default: some of Python's own"
    )
    add.add_argument("--users", type=int, nargs="+", default=[1, 4], help="default: %(default)s")
    add.add_argument("--rounds", type=int, default=200, help="of each user; default: %(default)s")
    add.add_argument("--every", type=int, default=12, help="characters; default: %(default)s")
    add.add_argument("--max-tokens", type=int, default=24, help="default: %(default)s")
    add.add_argument("--temperature", type=float, default=0.0, help="default: %(default)s")
    add.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core"
    )
    add.add_argument("--json", action="store_true", help="print JSON")
    add.set_defaults(run=replay)

    add = commands.add_parser("soak", help="many clients at once; both doors must agree")
    _add_urls(add)
    add.add_argument("--clients", type=int, default=32, help="default: %(default)s")
    add.add_argument("--seconds", type=float, default=60, help="default: %(default)s")
    add.add_argument("--max-tokens", type=int, default=48, help="at most; default: %(default)s")
    add.set_defaults(run=soak)

    add = commands.add_parser("steps", help="a step in one way and another, without a server")
    add.add_argument(
        "--compare",
        choices=("graphs", "mixed", "kv"),
        default="graphs",
        help="the graphs of a version of --precision auto; a prompt's chunk and decode rows, mixed "
        "and apart; KV caches of float32 and int8, on random weights; default: %(default)s",
    )
    add.add_argument(
        "--model-repository",
        type=Path,
        default=Path("model_repository"),
        help="its newest version, which may be a TensorRT plan",
    )
    add.add_argument(
        "--random", action="store_true", help="instead: random weights in the size of GPT-2 (124M)"
    )
    add.add_argument("--rounds", type=int, default=30, help="default: %(default)s")
    add.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="of the runtime; default: one a usable core",
    )
    add.add_argument(
        "--cpu-time",
        action="store_true",
        help="of all threads instead of the clock on the wall, for machines with much else to do",
    )
    add.add_argument("--json", action="store_true", help="print JSON")
    add.set_defaults(run=steps)
    return parser


def _add_urls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grpc-url", default="localhost:8001", help="default: %(default)s")
    parser.add_argument("--http-url", default="localhost:8000", help="default: %(default)s")


if __name__ == "__main__":
    sys.exit(main())
