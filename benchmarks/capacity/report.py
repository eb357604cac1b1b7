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
from pathlib import Path

from benchmarks.capacity.curve import ServiceCurve
from benchmarks.capacity.developers import Habits
from benchmarks.capacity.measuring import Load, measure_curve, running_servers
from benchmarks.capacity.monthly import Month, month_of
from benchmarks.capacity.pictures import draw_checks, draw_days
from benchmarks.capacity.questions import Questions
from benchmarks.capacity.rule import Rule
from benchmarks.capacity.tally import GOAL_S
from benchmarks.capacity.validation import FIGURES, Check, validate
from benchmarks.capacity.world import Day, simulate_day
from benchmarks.keystrokes import typed_texts
from benchmarks.machine import describe, machine, told_json
from benchmarks.prices import Prices, load_prices
from benchmarks.random_model import write_random_repository
from benchmarks.typing_users import library_files

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
        load = Load(
            Questions(typed_texts(library_files()), args.max_tokens),
            args.level_seconds,
            args.rounds,
        )
        if args.validate:
            return _validate(args, repository, load)
        if args.measure:
            with running_servers(repository, 1) as servers:
                curve = measure_curve(servers, load, _progress)
            curve.save(args.curve, describe(args.argv))
    return _simulate(args, ServiceCurve.load(args.curve), prices)


def _validate(args: argparse.Namespace, repository: Path, load: Load) -> int:
    checks, curves = validate(repository, load, args.seconds, _progress)
    if args.plot:
        draw_checks(checks, curves, args.plot)
    figures = [*map(dataclasses.asdict, checks)], [*map(dataclasses.asdict, curves)]
    if told_json(args, {"rows": figures[0], "curves": figures[1]}):
        return 0
    print(f"{args.seconds:g} s of Poisson arrivals at each rate, {machine()}")
    for number, curve in enumerate(curves, start=1):
        print(*_curve_lines(curve, f"each of {number}"), sep="\n")
    print(f"{'replicas':<9}{'per s':>7}{'asked':>7}{'failed':>7}", end="")
    print("".join(f"{name + ' measured':>18}{'simulated':>11}{'error':>8}" for name in FIGURES))
    for one in checks:
        print(*_check_line(one), sep="")
    return 1 if any(one.num_failed for one in checks) else 0


def _check_line(check: Check) -> list[str]:
    """Outside of what nine of ten simulated runs had: marked."""
    words = [f"{check.num_replicas:<9}{check.per_s:>7.1f}{check.num_asked:>7}{check.num_failed:>7}"]
    for name in FIGURES:
        form = "{:.1%}" if name == "goodput" else "{:.0f}"
        mark = "" if check.is_within(name) else " *"
        shown = (form.format(getattr(one, name)) for one in (check.measured, check.simulated))
        words += [f"{text:>{width}}" for text, width in zip(shown, (18, 11), strict=True)]
        words.append(f"{f'{check.error(name):+.0%}{mark}':>8}")
    return words


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
    with ProcessPoolExecutor() as pool:
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
            f"{row.num_developers:<12}{row.day:<22}{replicas:>16}{row.p50_ms:>8.0f}{row.p95_ms:>8.0f}"
            f"{row.goodput:>9.1%}{row.refused:>9.2%}{row.failed:>9.3%}"
            f"{one.on_demand:>11.3f}{one.base_reserved:>11.3f}{one.spot:>9.3f}"
        )
    return lines


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
