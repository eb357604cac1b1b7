"""`python -m benchmarks cost`: its options, what it prints, and its exit status."""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.machine import machine, told_json
from benchmarks.common.options import add_json, add_plot, count
from benchmarks.common.plots import Bars, write_picture
from benchmarks.common.prices import DEFAULT_PRICES, PURCHASES, Prices, load_prices
from benchmarks.common.random_model import write_checkpoint
from benchmarks.common.typing_users import library_files
from benchmarks.cost.billing import Bill, bill_of, saved
from benchmarks.cost.ladder import Rung, Work, climb

# Ways whose bills are printed, one for each precision and one with everything; JSON has all.
PRINTED = ("batching", "int8", "int4", "int8 and int4", "speculation")
DEMO = Path(__file__).parent.parent.parent / "demo"


def add_options(add: argparse.ArgumentParser) -> None:
    """A checkpoint, prices, and how much is asked."""
    weights = add.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint", type=Path, default=DEMO, help="Hugging Face GPT-2 folder; default: the demo"
    )
    weights.add_argument(
        "--random", action="store_true", help="random weights in GPT-2's size (124M)"
    )
    add.add_argument(
        "--source", type=Path, nargs="+", help="Python files to type; default: some of Python's own"
    )
    add.add_argument("--users", type=count, default=8, help="who ask at once; default: %(default)s")
    add.add_argument("--rounds", type=count, default=9, help="default: %(default)s")
    add.add_argument("--max-tokens", type=count, default=24, help="default: %(default)s")
    add.add_argument(
        "--threads",
        type=count,
        default=len(os.sched_getaffinity(0)),
        help="of the runtime; default: one a usable core",
    )
    add.add_argument(
        "--questions-per-day", type=float, default=300, help="of a developer; default: %(default)s"
    )
    add.add_argument(
        "--utilisation",
        type=float,
        default=0.25,
        help="share of what a machine could write that it does write over a month, see "
        "python -m benchmarks capacity; default: %(default)s",
    )
    add.add_argument(
        "--prices", type=Path, default=DEFAULT_PRICES, metavar="FILE", help="default: %(default)s"
    )
    add_json(add)
    add_plot(add)


def run(args: argparse.Namespace) -> int:
    """Print a row for each optimisation, and one for each precision and machine."""
    prices = load_prices(args.prices)
    if not 0 < args.utilisation <= 1:
        raise ValueError(f"--utilisation is {args.utilisation:g}: give more than 0, at most 1")
    work = Work(args.users, args.rounds, args.max_tokens, args.threads)
    with tempfile.TemporaryDirectory(prefix="nanotriton-cost-") as temporary:
        checkpoint = args.checkpoint
        if args.random:
            checkpoint = Path(temporary) / "checkpoint"
            write_checkpoint(checkpoint)
        rungs = climb(checkpoint, args.source or library_files(), work, Path(temporary), _progress)
    monthly_tokens = args.questions_per_day * 21 * args.max_tokens
    bills = [
        bill_of(rung, one, monthly_tokens, args.utilisation)
        for rung in rungs
        for one in prices.machines
    ]
    if args.plot:
        _draw(rungs, prices, args.plot)
    figures = {
        "rungs": [*map(dataclasses.asdict, rungs)],
        "bills": [*map(dataclasses.asdict, bills)],
    }
    if not told_json(args, figures | {"prices_dated": str(prices.dated)}):
        print(f"{work.num_users} people at once, up to {work.max_tokens} tokens each, ", end="")
        print(f"{work.num_threads} threads, {args.rounds} rounds, {machine()}")
        print(*_rung_lines(rungs, prices), sep="\n")
        print(*_bill_lines(bills, prices, args), sep="\n")
    return 0


def _rung_lines(rungs: Sequence[Rung], prices: Prices) -> list[str]:
    bought = prices.machine(None)
    lines = [
        f"{'':<22}{'tokens/s':>10}{'times':>9}  {'interval':<14}{'of':<22}{'saves':>7}"
        f"{f'{prices.currency}/1K':>11}"
    ]
    for one in rungs:
        cost = bill_of(one, bought, 0, 1).per_thousand["on_demand"]
        gain = one.gain
        shown = f"{gain.value:>9.2f}  {f'{gain.low:.2f}-{gain.high:.2f}':<14}{one.before:<22}"
        verdict = "" if gain.verdict == "ahead" or one.before == one.way else f"  {gain.verdict}"
        if one.before == one.way:
            shown = " " * 47
        lines.append(
            f"{one.way:<22}{one.tokens_per_s:>10.1f}{shown}{saved(gain.value):>7.0%}"
            f"{cost:>11.6f}{verdict}"
        )
    lines.append(f"{prices.currency} for 1,000 new tokens on {bought.name} on demand, never idle")
    return lines


def _bill_lines(bills: Sequence[Bill], prices: Prices, args: argparse.Namespace) -> list[str]:
    lines = [
        f"a developer's month: {args.questions_per_day:g} questions on 21 days, "
        f"{args.utilisation:.0%} of the machine used; prices of {prices.dated}",
        f"{'':<22}{'machine':<12}"
        + "".join(f"{f'1K {name}':>14}{'month':>9}" for name in PURCHASES),
    ]
    for one in (bill for bill in bills if bill.way in PRINTED):
        figures = "".join(
            f"{one.per_thousand[name]:>14.6f}{one.per_month[name]:>9.4f}" for name in PURCHASES
        )
        assumed = "  (assumed: " + ", ".join(one.assumed) + ")" if one.assumed else ""
        lines.append(f"{one.way:<22}{one.machine:<12}{figures}{assumed}")
    return lines


def _draw(rungs: Sequence[Rung], prices: Prices, folder: Path) -> None:
    bought = prices.machine(None)
    parts = {
        one.way: {"on demand": bill_of(one, bought, 0, 1).per_thousand["on_demand"] * 1000}
        for one in rungs
    }
    title = f"{prices.currency} for a million new tokens, {bought.name}"
    write_picture([Bars(title, prices.currency, parts)], folder, "cost")


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
