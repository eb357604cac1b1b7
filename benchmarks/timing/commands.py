"""The measurements of where time goes: what each one prints, and its exit status."""

import argparse
import sys
from itertools import groupby

from benchmarks.common.machine import machine, printed_json
from benchmarks.common.plots import write_picture
from benchmarks.common.random_model import chosen_version
from benchmarks.timing import pictures
from benchmarks.timing.agreement import measure_agreement
from benchmarks.timing.breakdown import measure_breakdown
from benchmarks.timing.floor import measure_floor
from benchmarks.timing.perf_analyzer import install_analyzer
from benchmarks.timing.ways import Figures, Load
from nanotriton.tracing import check_installed


def breakdown(args: argparse.Namespace) -> int:
    """Print one row a part of the step, for each batch size and way of sampling."""
    with chosen_version(args.model_repository, is_random=args.random) as folder:
        rows = measure_breakdown(folder, args.threads, args.rounds)
    if args.plot:
        write_picture(pictures.breakdown_panels(rows), args.plot, "breakdown")
    if printed_json(args, rows):
        return 0
    print(f"the engine's process, {args.threads} threads, medians over steps, {machine()}")
    print(f"{'':<10}{'batch':>6}{'steps':>7}  {'part':<12}{'ms':>9}{'CPU ms':>9}{'share':>8}")
    for row in rows:
        print(
            f"{row.way:<10}{row.batch:>6}{row.num_steps:>7}  {row.part:<12}{row.ms:>9.3f}"
            f"{row.cpu_ms:>9.3f}{row.share:>8.1%}"
        )
    return 0


def floor(args: argparse.Namespace) -> int:
    """Print one row a kind of step."""
    with chosen_version(args.model_repository, is_random=args.random) as folder:
        rows = measure_floor(folder, args.threads, args.rounds)
    if args.plot:
        write_picture(pictures.floor_panels(rows), args.plot, "floor")
    if printed_json(args, rows):
        return 0
    print(f"the engine's steps and the least time here, {args.threads} threads, {machine()}")
    titles = ("weights MB", "KV MB", "Gop", "GB/s", "Gop/s", "read ms", "compute", "step ms")
    print(f"{'':<13}{'':<5}" + "".join(f"{title:>11}" for title in titles), end="")
    print(f"{'over it':>9}  quartiles")
    for row in rows:
        amounts = (row.weight_mb, row.kv_mb, row.giga_operations, row.read_gb_s, row.compute_gop_s)
        times = (row.read_ms, row.compute_ms, row.step_ms)
        print(f"{row.kind:<13}{row.precision:<5}", end="")
        print("".join(f"{one:>11.2f}" for one in (*amounts, *times)), end="")
        print(f"{row.ratio:>9.2f}  {row.low:.2f} to {row.high:.2f}")
    return 0


def waterfall(args: argparse.Namespace) -> int:
    """Print one row a stage, for each way to a completion and number of users."""
    check_installed()  # OpenTelemetry is an extra, which nothing else here takes
    from benchmarks.timing.waterfall import Users, measure_waterfall  # noqa: PLC0415

    loads = [Users(number, args.rounds, args.max_tokens) for number in args.users]
    rows = measure_waterfall(args.model_repository, loads)
    if args.plot:
        write_picture(pictures.waterfall_panels(rows), args.plot, "waterfall")
    if printed_json(args, rows):
        return 0
    print(f"stages of a completion of {args.max_tokens} tokens in ms, {machine()}")
    for (way, number), stages in groupby(rows, key=lambda row: (row.way, row.num_users)):
        found = list(stages)
        title = f"{way}, {number} users, {found[0].num_requests} traces"
        print(f"{title:<46}{'median':>9}{'p95':>9}{'mean':>9}{'of it':>8}")
        for row in found:
            share = row.mean_ms / found[-1].mean_ms
            print(f"  {row.stage:<44}{row.median_ms:>9.2f}{row.p95_ms:>9.2f}", end="")
            print(f"{row.mean_ms:>9.2f}{share:>8.1%}")
    return 0


def perf_analyzer(args: argparse.Namespace) -> int:
    """Print perf_analyzer's figures and ours for each way and load, or install it."""
    if args.install:
        install_analyzer(args.venvs)
        return 0
    loads = [Load("users", number, args.max_tokens, args.seconds) for number in args.users]
    loads += [Load("rate", number, args.max_tokens, args.seconds) for number in args.rates]
    rows = measure_agreement(
        args.model_repository,
        args.venvs,
        loads,
        args.rounds,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if args.plot:
        write_picture(pictures.agreement_panels(rows), args.plot, "perf_analyzer")
    if printed_json(args, rows):
        return 0
    print(f"completions of {args.max_tokens} tokens, medians of rounds, {machine()}")
    titles = ("a second", "mean ms", "p50", "p95", "p99", "first", "CPU ms")
    print(f"{'':<45}" + "".join(f"{title:>9}" for title in titles))
    for row in rows:
        print(f"{row.way}, {row.load}: {row.verdict}")
        for name, figures in {"perf_analyzer": row.theirs, "ours": row.ours}.items():
            print(f"  {name:<43}" + _shown(figures))
        ratios = (
            f"{name} {one.value:.2f} ({one.low:.2f} to {one.high:.2f})"
            for name, one in row.ratios.items()
        )
        print(f"  {'ratio':<43}{', '.join(ratios)}")
    return 0


def _shown(figures: Figures) -> str:
    times = (figures.mean_ms, figures.p50_ms, figures.p95_ms, figures.p99_ms)
    first = f"{'-':>9}" if figures.first_ms is None else f"{figures.first_ms:>9.1f}"
    numbers = "".join(f"{one:>9.1f}" for one in (figures.per_s, *times))
    return f"{numbers}{first}{figures.cpu_ms:>9.2f}"
