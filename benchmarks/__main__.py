"""The command line of the measurements; `latency` and `soak` need a server that runs already."""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks import options
from benchmarks.gap import measure_gap
from benchmarks.latency import measure_latency
from benchmarks.machine import describe, machine
from benchmarks.overhead import measure_overhead
from benchmarks.peers.catalogue import PeerError, choose, install
from benchmarks.peers.measure import measure_peers
from benchmarks.peers.report import describe_tracks, table_lines
from benchmarks.peers.rounds import WORKLOADS
from benchmarks.random_model import write_random_version
from benchmarks.reference import measure_reference
from benchmarks.replay import measure_replay
from benchmarks.soak import run_soak
from benchmarks.steps import measure_steps
from benchmarks.typing_users import library_files
from nanotriton.contract import newest_version
from nanotriton.engine.request import Settings
from nanotriton.errors import NanotritonError

EXAMPLES = """examples (with a server running: make run):
  python -m benchmarks latency --rounds 300
  python -m benchmarks reference
  python -m benchmarks soak --clients 32 --seconds 60
without one:
  python -m benchmarks replay --users 1 4 --rounds 200
  python -m benchmarks steps --random --rounds 30
  python -m benchmarks overhead --random
  python -m benchmarks gap --random
  python -m benchmarks peers --install
  python -m benchmarks peers --json peers.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one measurement; 1 when it found something wrong, or can't be run."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = build_parser().parse_args(arguments)
    args.argv = arguments
    try:
        status: int = args.run(args)
    except (NanotritonError, PeerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def latency(args: argparse.Namespace) -> int:
    """Print one row a way."""
    rows = measure_latency(
        args.model_repository, args.grpc_url, args.http_url, args.prompt, args.rounds
    )
    if _printed_json(args, rows):
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
    settings = Settings(
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        top_k=40,
        seed=1,
        stop_at=args.stop_at,
    )
    rows = measure_replay(
        newest_version(args.model_repository),
        None if args.random_prompts else args.source or library_files(),
        args.users,
        settings,
        every=args.every,
        num_rounds=args.rounds,
        num_threads=args.threads,
    )
    if _printed_json(args, rows):
        return 0
    what = "new random prompts" if args.random_prompts else f"every {args.every} characters typed"
    print(f"up to {args.max_tokens} tokens for {what}, stop_at={args.stop_at}, {machine()}")
    print("medians over requests; 'times' is each request's own ratio to the plain engine")
    titles = ("first ms", "times", "decode/s", "times", "tokens/s", "times", "interval")
    print(f"{'users':<7}{'way':<12}" + "".join(f"{title:>9}" for title in titles), end="")
    print("    reused  accepted  differ")
    for row in rows:
        print(
            f"{row.users:<7}{row.way:<12}{row.first_ms:>9.2f}{row.first_ratio:>9.2f}"
            f"{row.decode_per_s:>9.0f}{row.decode_ratio:>9.2f}{row.tokens_per_s:>9.0f}"
            f"{row.speed.value:>9.2f}  {row.speed.low:>5.2f}-{row.speed.high:<5.2f}"
            f"{row.reused:>8.0%}{row.accepted:>10.0%}{row.num_different:>4}/{row.num_requests}"
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
    """Print one row a kind of step; 1 when the version has no second graph."""
    with _version(args) as folder:
        rows = measure_steps(folder, args.rounds, args.threads)
    if _printed_json(args, rows):
        return 0
    print(f"medians of {args.rounds} rounds in turn, {args.threads} threads, {machine()}")
    print(f"{'':<10}{'tokens':>8}{'main ms':>10}{'decode ms':>12}{'decode/main':>14}")
    for row in rows:
        print(
            f"{row.kind:<10}{row.num_tokens:>8}{row.main_ms:>10.2f}{row.decode_ms:>12.2f}"
            f"{row.ratio:>14.2f}"
        )
    return 0


def overhead(args: argparse.Namespace) -> int:
    """Print one row a batch size and way of sampling."""
    with _version(args) as folder:
        rows = measure_overhead(folder, args.threads, args.rounds)
    if _printed_json(args, rows):
        return 0
    print(f"the engine's process, {args.threads} threads, medians over steps, {machine()}")
    print(
        f"{'':<10}{'batch':>6}{'steps':>7}{'step ms':>9}{'not the graph ms':>18}{'of it CPU':>11}",
        end="",
    )
    print(f"{'share':>8}")
    for row in rows:
        print(
            f"{row.way:<10}{row.batch:>6}{row.num_steps:>7}{row.step_ms:>9.2f}"
            f"{row.overhead_ms:>18.3f}{row.overhead_cpu_ms:>11.3f}{row.share:>8.1%}"
        )
    return 0


def gap(args: argparse.Namespace) -> int:
    """Print one row a way of using the graphs."""
    with _version(args) as folder:
        rows = measure_gap(folder, args.prompt_tokens, args.rounds, args.threads)
    if _printed_json(args, rows):
        return 0
    print(
        f"ms between tokens of 4 streams, {args.rounds} prompts of {args.prompt_tokens} tokens "
        f"arriving, {args.threads} threads, {machine()}"
    )
    titles = ("quiet", "arriving", "p99", "p99/median", "p99/quiet", "its first")
    print(f"{'':<8}{'gaps':>6}" + "".join(f"{title:>12}" for title in titles))
    for row in rows:
        print(
            f"{row.way:<8}{row.num_gaps:>6}{row.quiet_ms:>12.2f}{row.median_ms:>12.2f}"
            f"{row.p99_ms:>12.2f}{row.ratio:>12.2f}{row.to_quiet:>12.2f}{row.first_ms:>12.0f}"
        )
    return 0


def peers(args: argparse.Namespace) -> int:
    """Print a table a workload, or install; 1 when a peer that was asked for failed."""
    if args.install is not None:
        failures = install(choose(args.install), args.venvs, os.environ)
        print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
        return 1 if failures else 0
    chosen = choose(args.only)
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


def _printed_json(args: argparse.Namespace, rows: Sequence[Any]) -> bool:
    """Whether JSON was asked for; then it is printed."""
    if args.json:
        figures = [dataclasses.asdict(row) for row in rows]
        print(json.dumps(describe(args.argv) | {"rows": figures}))
    return bool(args.json)


@contextmanager
def _version(args: argparse.Namespace) -> Iterator[Path]:
    """The version that the options name; one of random weights is gone afterwards."""
    if not args.random:
        yield newest_version(args.model_repository)
        return
    with tempfile.TemporaryDirectory(prefix="nanotriton-random-") as temporary:
        yield write_random_version(Path(temporary))


@dataclasses.dataclass(frozen=True, slots=True)
class _Command:
    """What `python -m benchmarks NAME` is."""

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS: Mapping[str, _Command] = MappingProxyType(
    {
        "latency": _Command(
            "what the server adds to the engine's own time", options.add_latency, latency
        ),
        "reference": _Command(
            "what Triton costs by itself, on its own server", options.add_reference, reference
        ),
        "soak": _Command("many clients at once; both doors must agree", options.add_soak, soak),
        "replay": _Command(
            "somebody types: prefix cache and speculation, on/off", options.add_replay, replay
        ),
        "steps": _Command(
            "a step by each graph of a version, without a server", options.add_steps, steps
        ),
        "overhead": _Command(
            "what a step costs beside the graph: scheduling, sampling, messages",
            options.add_overhead,
            overhead,
        ),
        "gap": _Command(
            "how long streams wait while somebody's long prompt comes in", options.add_gap, gap
        ),
        "peers": _Command(
            "other engines on the same weights, paired rounds", options.add_peers, peers
        ),
    }
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure a running server, or the engine by itself.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for name, command in COMMANDS.items():
        add = commands.add_parser(name, help=command.help)
        command.add_options(add)
        add.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
