"""The measurements of the engine without a server: what each one prints, and its exit status."""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.common.machine import machine, printed_json
from benchmarks.common.random_model import chosen_version, write_random_version
from benchmarks.common.typing_users import library_files
from benchmarks.engine.gap import measure_gap
from benchmarks.engine.healing import measure_healing
from benchmarks.engine.replay import measure_replay
from benchmarks.engine.steps import (
    Pair,
    compare_attention,
    compare_graphs,
    compare_mixed,
    compare_recorded,
    compare_versions,
    measure,
)
from benchmarks.engine.threads import measure_threads
from nanotriton.contract import ORT_KV_DTYPES
from nanotriton.engine.request import Settings
from nanotriton.manifest import Manifest, newest_version


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
    if printed_json(args, rows):
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


def healing(args: argparse.Namespace) -> int:
    """Print one row a kind of cut, with and without healing."""
    rows = measure_healing(
        newest_version(args.model_repository),
        args.source or library_files(),
        args.cuts,
        args.seed,
        args.threads,
    )
    if printed_json(args, rows):
        return 0
    print(f"greedy completions that are what the author wrote, {machine()}")
    print(f"{'cuts':<10}{'number':>8}{'healing':>10}{'characters':>12}{'line':>8}")
    for row in rows:
        print(
            f"{row.cuts:<10}{row.num_cuts:>8}{'on' if row.healing else 'off':>10}"
            f"{row.characters:>12.1%}{row.line:>8.1%}"
        )
    return 0


def steps(args: argparse.Namespace) -> int:
    """Print one row a kind of step."""
    with tempfile.TemporaryDirectory(prefix="nanotriton-steps-") as temporary:
        ways, pairs = _compared(args, Path(temporary))
        clock = time.process_time if args.cpu_time else time.perf_counter
        rows = measure(pairs, args.rounds, clock)
    if printed_json(args, rows):
        return 0
    what = "processor time" if args.cpu_time else "time"
    print(f"median {what} of {args.rounds} rounds in turn, {args.threads} threads, {machine()}")
    print(f"{'':<14}" + "".join(f"{way + ' ms':>14}" for way in ways) + f"{'ratio':>10}")
    for row in rows:
        print(f"{row.kind:<14}{row.first_ms:>14.2f}{row.second_ms:>14.2f}{row.ratio:>10.2f}")
    return 0


def threads(args: argparse.Namespace) -> int:
    """Print one row a choice and kind of step."""
    with chosen_version(args.model_repository, is_random=args.random) as folder:
        spinning = [word == "on" for word in args.spin]
        rows = measure_threads(folder, args.threads, spinning, args.rounds, args.busy)
    print(f"medians of {args.rounds} rounds in turn, {args.busy} busy beside, {machine()}")
    print(f"{'step':<14}{'threads':>8}{'spin':>6}{'ms':>10}{'to first':>10}")
    for row in rows:
        spin = "on" if row.spinning else "off"
        print(
            f"{row.kind:<14}{row.num_threads:>8}{spin:>6}{row.median_ms:>10.2f}{row.ratio:>10.2f}"
        )
    return 0


def gap(args: argparse.Namespace) -> int:
    """Print one row a way of using the graphs."""
    with chosen_version(args.model_repository, is_random=args.random) as folder:
        rows = measure_gap(folder, args.prompt_tokens, args.rounds, args.threads)
    if printed_json(args, rows):
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


def _compared(args: argparse.Namespace, folder: Path) -> tuple[list[str], list[Pair]]:
    """The names of both ways, and the steps; random versions lie in `folder`."""
    if args.compare == "kv":
        folders = [write_random_version(folder, "int8", dtype) for dtype in ORT_KV_DTYPES]
        return [*ORT_KV_DTYPES], compare_versions(folders, args.threads)
    if args.compare == "attention8":
        version = write_random_version(folder, "int8", "int8")
        return ["standard", "native"], compare_attention(version, args.threads)
    version = write_random_version(folder) if args.random else newest_version(args.model_repository)
    if Manifest.load(version).runner == "trt":
        return ["launched", "recorded"], compare_recorded(version)
    if args.compare == "attention":
        return ["standard", "native"], compare_attention(version, args.threads)
    if args.compare == "mixed":
        return ["apart", "together"], compare_mixed(version, args.threads)
    return ["main", "decode"], compare_graphs(version, args.threads)
