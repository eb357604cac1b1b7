"""`python -m benchmarks load`: its options, its table, its pictures."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.developers import Most
from benchmarks.load import SHAPES, Load, Shape
from benchmarks.load_rounds import Row, find_developers, measure_load
from benchmarks.machine import machine, told_json
from benchmarks.opened import GATEWAY, TRITON, URL, open_servers
from benchmarks.options import add_json, add_plot, count
from benchmarks.performance import LIMIT_S, Performance
from benchmarks.plots import Line, Panel, write_picture
from benchmarks.typing_users import library_files
from benchmarks.workload import demo_tokenizer, tokens_of, typed_functions

USERS, RATES = (1, 8, 32, 100), (2, 8, 16)
OPEN_SHAPES = ("open", "burst")
TITLES = (
    *("first p50", "gap p50", "p50 ms", "p95 ms", "p99 ms", "tokens/s", "good", "wasted", "errors"),
    *("CPU ms/token", "$/1K"),
)


def add_load(add: argparse.ArgumentParser) -> None:
    """Which servers, which load, for how long."""
    add.add_argument(
        "--target",
        nargs="+",
        default=[GATEWAY],
        metavar="NAME",
        help=f"{GATEWAY} and {TRITON} are started for it, {URL}HOST:PORT runs already and has "
        "OpenAI's /v1/completions; the first is what the others are compared with; default: "
        f"{GATEWAY}",
    )
    add.add_argument(
        "--shape",
        choices=SHAPES,
        default="closed",
        help="who asks: users who ask anew when they are answered, questions at chance moments, "
        "the same in bursts, people who type; default: %(default)s",
    )
    add.add_argument(
        "--users", type=count, nargs="+", default=list(USERS), help="at once; default: %(default)s"
    )
    add.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=list(RATES),
        help="questions a second of the shapes open and burst; default: %(default)s",
    )
    add.add_argument(
        "--find-most",
        action="store_true",
        help="instead: the most people who may type while 95 %% of answers come within "
        f"{LIMIT_S * 1e3:.0f} ms, searched from the first of --users on",
    )
    add.add_argument("--max-probes", type=count, default=8, help="of that; default: %(default)s")
    add.add_argument("--seconds", type=float, default=10, help="of a round; default: %(default)s")
    add.add_argument(
        "--warm-up", type=float, default=4, help="seconds before each round; default: %(default)s"
    )
    add.add_argument("--rounds", type=count, default=1, help="default: %(default)s")
    add.add_argument("--seed", type=int, default=1, help="of all chance; default: %(default)s")
    add.add_argument(
        "--max-tokens", type=count, default=24, help="that a typist's editor asks for; %(default)s"
    )
    add.add_argument(
        "--debounce-ms",
        type=float,
        default=200,
        help="without a key before an editor asks; default: %(default)s",
    )
    add.add_argument(
        "--source", type=Path, nargs="+", help="Python files; default: some of Python's own"
    )
    add.add_argument(
        "--price-per-hour",
        type=float,
        default=0.1,
        help="of this machine, in dollars; default: %(default)s",
    )
    add.add_argument(
        "--model-repository", type=Path, default=Path("model_repository"), help="what ours serve"
    )
    add_json(add)
    add_plot(add)


def load(args: argparse.Namespace) -> int:
    """Print a row for each server and level; 1 when anything failed."""
    most, rows = _measure(args)
    figures = {
        "limit_ms": LIMIT_S * 1e3,
        "price_per_hour": args.price_per_hour,
        "rows": [dataclasses.asdict(row) for row in rows],
        "developers": dataclasses.asdict(most) if most else None,
    }
    if not told_json(args, figures):
        print(*_lines(args, rows, most), sep="\n")
    if args.plot:
        write_picture(_panels(rows), args.plot, f"load-{args.shape}")
    return 1 if any(row.errors for row in rows) else 0


def _measure(args: argparse.Namespace) -> tuple[Most | None, list[Row]]:
    files, tokenizer = args.source or library_files(), demo_tokenizer()
    shape: Shape = "typing" if args.find_most else args.shape
    is_typed = shape == "typing"
    wanted = Load(
        shape=shape,
        level=args.users[0],
        seconds=args.seconds,
        warm_s=args.warm_up,
        seed=args.seed * 1000,
        files=[] if is_typed else tokens_of(files, tokenizer),
        texts=typed_functions(files, tokenizer, args.max_tokens) if is_typed else [],
        max_tokens=args.max_tokens,
        debounce_s=args.debounce_ms / 1e3,
    )
    levels = args.rates if args.shape in OPEN_SHAPES else args.users
    with open_servers(args.target, args.model_repository) as servers:
        if args.find_most:
            return find_developers(servers[0], wanted, max(args.users), args.max_probes, _progress)
        return None, measure_load(servers, wanted, levels, args.rounds, _progress)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _lines(args: argparse.Namespace, rows: Sequence[Row], most: Most | None) -> Iterator[str]:
    yield f"{args.shape}, {args.seconds:g} s after {args.warm_up:g}, {machine()}"
    yield f"{'':<20}{'per s' if args.shape in OPEN_SHAPES else 'users':>6}{_columns(TITLES)}"
    for row in rows:
        yield _line(row, args.price_per_hour)
        yield from (f"    {number} times {kind}" for kind, number in row.errors.items())
    for row in rows:
        if ratio := row.speed:
            yield (
                f"{rows[0].target} brings {ratio.value:.2f} times the tokens of {row.target} at "
                f"{row.level:g} ({ratio.low:.2f} to {ratio.high:.2f}, {ratio.num_rounds} rounds): "
                f"{ratio.verdict}"
            )
    if most:
        beyond = "no probe failed" if most.failed is None else f"{most.failed} were too many"
        yield f"{most.held} developers at p95 of {LIMIT_S * 1e3:.0f} ms; {beyond}"


def _line(row: Row, price: float) -> str:
    figures: list[tuple[Callable[[Performance], float], str]] = [
        (lambda one: one.first.p50_ms, ".1f"),
        (lambda one: one.gap.p50_ms, ".1f"),
        (lambda one: one.total.p50_ms, ".1f"),
        (lambda one: one.total.p95_ms, ".1f"),
        (lambda one: one.total.p99_ms, ".1f"),
        (lambda one: one.tokens_per_s, ".0f"),
        (lambda one: one.goodput, ".1%"),
        (lambda one: one.wasted_tokens, ".0f"),
        (lambda one: one.error_rate, ".1%"),
        (lambda one: one.cpu_ms_per_token, ".2f"),
        (lambda one: one.cost_per_1k(price), ".5f"),
    ]
    shown = [f"{row.median(figure):{form}}" for figure, form in figures]
    return f"{row.target:<20}{row.level:>6g}{_columns(shown)}"


def _columns(words: Sequence[str]) -> str:
    return "".join(f"{word:>{len(title) + 2}}" for word, title in zip(words, TITLES, strict=True))


def _panels(rows: Sequence[Row]) -> list[Panel]:
    limit_ms = LIMIT_S * 1e3
    label = "questions a second" if rows[0].shape in OPEN_SHAPES else "users"
    return [
        Panel(
            "whole answers, 95 of 100",
            label,
            "ms",
            _drawn(rows, lambda one: one.total.p95_ms),
            limit_ms,
            is_log_y=True,
        ),
        Panel("throughput", label, "tokens/s", _drawn(rows, lambda one: one.tokens_per_s)),
        Panel(
            f"whole within {limit_ms:.0f} ms",
            label,
            "% of what was asked",
            _drawn(rows, lambda one: 100 * one.goodput),
        ),
    ]


def _drawn(rows: Sequence[Row], figure: Callable[[Performance], float]) -> list[Line]:
    """A line for each server, with the rounds' spread."""
    lines = []
    for name in dict.fromkeys(row.target for row in rows):
        own = sorted((row for row in rows if row.target == name), key=lambda row: row.level)
        lines.append(
            Line(
                name,
                [row.level for row in own],
                [row.median(figure) for row in own],
                [min(map(figure, row.rounds)) for row in own],
                [max(map(figure, row.rounds)) for row in own],
            )
        )
    return lines
