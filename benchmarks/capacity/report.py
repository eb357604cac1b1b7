"""What `python -m benchmarks capacity` does and prints.

Comes in: its options. Goes out: tables, JSON, pictures, and the exit status.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from benchmarks.capacity.curve import ServiceCurve
from benchmarks.capacity.developers import Habits
from benchmarks.capacity.measuring import Load, measure_curve, running_servers
from benchmarks.capacity.monthly import Month, month_of
from benchmarks.capacity.pictures import draw_checks, draw_days
from benchmarks.capacity.rule import Rule
from benchmarks.capacity.tally import GOAL_S
from benchmarks.capacity.validation import FIGURES, Check, validate
from benchmarks.capacity.world import Day, simulate_day
from benchmarks.common.machine import describe, machine, told_json
from benchmarks.common.prices import Prices, load_prices
from benchmarks.common.random_model import write_random_repository
from benchmarks.common.typing_users import library_files
from benchmarks.serving.workload import demo_tokenizer, tokens_of

WAITING_TARGET = 1.0  # that many in the line of each replica
WAITING_DEVELOPERS = 10_000  # one more row at that size


def run(args: argparse.Namespace) -> int:
    """Print a row for each day, or for each check."""
    prices = load_prices(args.prices)
    prices.machine(args.machine)
    with tempfile.TemporaryDirectory(prefix="nanotriton-capacity-") as temporary:
        repository = args.model_repository
        if args.random and (args.measure or args.validate):
            repository = write_random_repository(Path(temporary))
        files = tokens_of(library_files(), demo_tokenizer())
        load = Load(files, args.levels, args.level_seconds, args.rounds)
        if args.validate:
            return _validate(args, repository, load)
        if args.measure:
            with running_servers(repository, 1) as servers:
                curve = measure_curve(servers, load, _progress)
            about = describe(args.argv) | {"load_average": args.load_average}
            curve.save(args.curve, about)
    return _simulate(args, ServiceCurve.load(args.curve), prices)


def _validate(args: argparse.Namespace, repository: Path, load: Load) -> int:
    checks, curves = validate(repository, load, args.replicas, args.seconds, _progress)
    if args.plot:
        draw_checks(checks, args.plot)
    figures = {
        "rows": [*map(dataclasses.asdict, checks)],
        "curves": [*map(dataclasses.asdict, curves)],
    }
    if not told_json(args, figures):
        print(f"{args.seconds:g} s of Poisson arrivals at each rate, {machine()}")
        for number, curve in zip(args.replicas, curves, strict=True):
            print(*_curve_lines(curve, f"each of {number}"), sep="\n")
        print(f"{'replicas':<9}{'per s':>7}{'asked':>7}{'failed':>7}  {'':<9}", end="")
        print(f"{'measured':>10}{'simulated':>10}{'error':>8}   9 of 10 runs")
        print(*(line for one in checks for line in _check_lines(one)), sep="\n")
    return 1 if any(one.num_failed for one in checks) else 0


def _check_lines(check: Check) -> list[str]:
    """A line for each figure; marked where it is not as nine of ten simulated runs were."""
    head = f"{check.num_replicas:<9}{check.per_s:>7.1f}{check.num_asked:>7}{check.num_failed:>7}"
    lines = []
    for name in FIGURES:
        form = "{:.1%}" if name == "goodput" else "{:.0f}"
        measured, simulated, low, high = (
            form.format(getattr(one, name))
            for one in (check.measured, check.simulated, check.low, check.high)
        )
        mark = "" if check.is_within(name) else " *"
        lines.append(
            f"{head}  {name:<9}{measured:>10}{simulated:>10}{check.error(name):>+8.0%}   "
            f"{low} to {high}{mark}"
        )
        head = " " * len(head)
    return lines


def _simulate(args: argparse.Namespace, curve: ServiceCurve, prices: Prices) -> int:
    habits = Habits(questions_per_day=args.questions_per_day)
    rule = Rule("in flight", args.target or max(1.0, curve.streams_within(GOAL_S) / 2))
    days = [
        Day(curve, rule, habits, count, scenario, args.cold_start_s, args.seed)
        for count in args.developers
        for scenario in args.days
    ]
    others = [one for one in days if one.num_developers == WAITING_DEVELOPERS][:1]
    days += [replace(one, rule=Rule("waiting", WAITING_TARGET)) for one in others]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        simulated = []
        for row, moments in pool.map(simulate_day, days):
            _progress(
                f"{row.num_developers} developers, {row.scenario}: {row.num_simulated} simulated"
            )
            simulated.append((row, moments))
    months = [
        month_of(row, day, prices.machine(args.machine), prices.hours_per_month)
        for (row, _), day in zip(simulated, days, strict=True)
    ]
    if args.plot:
        draw_days(simulated, months, curve, args.plot)
    figures = {
        "rows": [dataclasses.asdict(row) for row, _ in simulated],
        "months": [*map(dataclasses.asdict, months)],
        "rule": dataclasses.asdict(rule),
        "habits": dataclasses.asdict(habits),
        "curve": dataclasses.asdict(curve),
    }
    if not told_json(args, figures):
        print(*_curve_lines(curve, "a replica"), sep="\n")
        print(*_day_lines(months, rule, prices, args.machine), sep="\n")
    return 0


def _curve_lines(curve: ServiceCurve, what: str) -> list[str]:
    lines = [f"{what}, with so many questions always under way (p50 first, p50 and p95 whole, ms):"]
    for one in curve.levels:
        first, middle, late = (
            value * 1e3 for value in (one.first_p50_s, one.total_p50_s, one.total_p95_s)
        )
        lines.append(
            f"  {one.num_streams:>3}: {one.per_s:6.1f} a second, {one.tokens_per_s:7.1f} tokens, "
            f"{first:6.0f}{middle:7.0f}{late:7.0f}  spread {one.spread:.0%}"
        )
    return lines


def _day_lines(months: Sequence[Month], rule: Rule, prices: Prices, name: str | None) -> list[str]:
    currency, bought = prices.currency, prices.machine(name)
    lines = [
        f"a working day, autoscaled to {rule.target:g} in flight at each replica; {bought.name} at "
        f"{bought.on_demand:g} {currency} an hour ({prices.dated}); at the right {currency} for a "
        "developer and month",
        f"{'developers':<12}{'day':<22}{'replicas':>16}{'p50 ms':>8}{'p95 ms':>8}{'goodput':>9}"
        f"{'refused':>9}{'failed':>9}{'on demand':>11}{'base res.':>11}{'spot':>9}",
    ]
    for one in months:
        row = one.row
        replicas = f"{row.least} {row.mean:.1f} {row.most}"
        lines.append(
            f"{row.num_developers:<12}{row.day:<22}{replicas:>16}{row.p50_ms:>8.0f}"
            f"{row.p95_ms:>8.0f}{row.goodput:>9.1%}{row.refused:>9.2%}{row.failed:>9.3%}"
            f"{one.on_demand:>11.3f}{one.base_reserved:>11.3f}{one.spot:>9.3f}"
        )
    return lines


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
