"""`python -m gateway usage`: a month's accounts as a table, CSV or JSON on stdout.

Numbers are exact decimals; only a quotient without end is rounded, to nine digits. Errors leave as
GatewayError.
"""

import argparse
import csv
import json
import re
import sys
import time
from decimal import Context, Decimal
from fractions import Fraction

from rich.console import Console
from rich.table import Table

from gateway.account.budget import Month
from gateway.account.ledger import JOURNALS
from gateway.account.usage import Line, month_lines, num_undrained
from gateway.storage.options import add_database_options, open_database

_DIGITS = Context(prec=9)
_EXAMPLES = """examples:
  python -m gateway usage
  python -m gateway usage --month 2026-11 --by version --format csv > november.csv
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `usage` to the gateway's commands."""
    parser = commands.add_parser(
        "usage",
        help="a month's requests, tokens and cost",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--month", type=parse_month, metavar="YYYY-MM", help="in UTC; default: this one"
    )
    parser.add_argument(
        "--by",
        choices=["key", "model", "version", "user"],
        default="key",
        help="what a line stands for; default: %(default)s",
    )
    parser.add_argument(
        "--format",
        choices=["table", "csv", "json"],
        default="table",
        help="default: %(default)s",
    )
    add_database_options(parser)
    parser.set_defaults(run=run)


def parse_month(text: str) -> Month:
    """A month such as 2026-11."""
    found = re.fullmatch(r"([12][0-9]{3})-(0[1-9]|1[0-2])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no month: give one such as 2026-11")
    return Month.of(int(found[1]), int(found[2]))


def run(arguments: argparse.Namespace) -> int:
    """Show the month; what isn't in the database yet is told on stderr."""
    month = arguments.month or Month.at(time.time())
    database = open_database(arguments)
    try:
        lines = month_lines(database, month, arguments.by)
        num_missing = num_undrained(database, arguments.state / JOURNALS)
    finally:
        database.close()
    rows = [_row(line) for line in lines]
    if arguments.format == "json":
        told = {"month": f"{month.begin:%Y-%m}", "by": arguments.by, "not_drained": num_missing}
        print(json.dumps(told | {"lines": rows}))
    elif arguments.format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_HEADINGS)
        writer.writerows(list(map(_cell, row.values())) for row in rows)
    else:
        width = None if sys.stdout.isatty() else 240
        Console(markup=False, highlight=False, width=width).print(_table(rows))
    if num_missing:
        print(
            f"{num_missing} finished requests are in the journal and not yet in the database",
            file=sys.stderr,
        )
    return 0


_HEADINGS = (
    *("name", "requests", "prompt_tokens", "completion_tokens", "wasted_tokens", "cached_tokens"),
    *("interrupted", "cost", "shown", "accepted", "accepted_tokens", "acceptance"),
    "cost_per_accepted_token",
)


def _row(line: Line) -> dict[str, str | int | None]:
    """By heading; a decimal is a text, so that no reader rounds it."""
    told = {
        "cost": _decimal(line.cost),
        "accepted_tokens": _quotient(line.accepted_tokens),
        "acceptance": _quotient(line.acceptance),
        "cost_per_accepted_token": _quotient(line.cost_per_accepted_token),
    }
    return {name: told[name] if name in told else getattr(line, name) for name in _HEADINGS}


def _decimal(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _quotient(number: Fraction | None) -> str | None:
    if number is None:
        return None
    return _decimal(_DIGITS.divide(Decimal(number.numerator), Decimal(number.denominator)))


def _cell(value: str | int | None) -> str | int:
    """A spreadsheet takes a text that begins like this for a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value


def _table(rows: list[dict[str, str | int | None]]) -> Table:
    table = Table(box=None)
    for name in _HEADINGS:
        table.add_column(name.replace("_", " "), justify="left" if name == "name" else "right")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    return table
