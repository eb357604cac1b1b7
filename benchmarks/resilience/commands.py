"""The measurements of failures and of long loads: what each one prints, and its exit status."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.common.machine import describe, machine
from benchmarks.resilience.drill import Lost, Plan, measure_drill
from benchmarks.resilience.failover import Outage, measure_failover
from benchmarks.resilience.people import Crowd
from benchmarks.resilience.soak import run_soak
from benchmarks.resilience.streams import Load, run_streams


def failover(args: argparse.Namespace) -> int:
    """Print a row for each scenario; 1 when a request failed that had no right to."""
    crowd = Crowd(args.users, args.max_tokens)
    rows = measure_failover(args.model_repository, crowd, args.only, args.seconds)
    _write_json(args, rows)
    print(f"{args.users} people, {args.max_tokens} tokens each, half of them streamed, {machine()}")
    print(
        f"{'':<18}{'asked':>7}{'failed':>8}{'broken':>8}{'again':>7}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'before':>9}{'ratio':>7}{'gap s':>7}  what was done"
    )
    for row in rows:
        _print_outage(row)
    errors = [f"{row.scenario}: {error}" for row in rows for error in row.errors]
    for line in errors:
        print(line, file=sys.stderr)
    return 1 if any(row.num_failed for row in rows) else 0


def _print_outage(row: Outage) -> None:
    counts = f"{row.num_asked:>7}{row.num_failed:>8}{row.num_broken:>8}{row.num_again:>7}"
    times = f"{row.p50_ms:>9.0f}{row.p99_ms:>9.0f}{row.before_p99_ms:>9.0f}{row.p99_ratio:>7.2f}"
    print(f"{row.scenario:<18}{counts}{times}{row.longest_gap_s:>7.2f}  {row.told}")


def drill(args: argparse.Namespace) -> int:
    """Print what was lost and how long it took; 1 when the standby doesn't answer as it should."""
    crowd = Crowd(args.users, args.max_tokens)
    plan = Plan(args.seconds, args.backup_every, tuple(args.databases or ()))
    lost = measure_drill(args.model_repository, crowd, plan)
    _write_json(args, [lost])
    _print_lost(lost, args.backup_every)
    for line in lost.faults:
        print(line, file=sys.stderr)
    return 1 if lost.faults else 0


def _print_lost(lost: Lost, every_s: float) -> None:
    print(f"{lost.database}, a backup every {every_s:g} s, {machine()}")
    for name, seconds in lost.steps.items():
        print(f"  {name:<34}{seconds:>8.2f} s")
    print(f"  {'RTO: from the loss to an answer':<34}{lost.rto_s:>8.2f} s")
    print(f"  {'RPO: age of the newest backup':<34}{lost.rpo_s:>8.2f} s")
    print(f"  {lost.num_lost_rows} of {lost.num_answered} booked requests are lost, ", end="")
    print(f"{lost.num_failed} requests failed until the standby answered")


def soak(args: argparse.Namespace) -> int:
    """Print the counts; 1 when anything failed or differed."""
    if args.streams:
        return soak_streams(args)
    result = run_soak(args.grpc_url, args.http_url, args.clients, args.seconds, args.max_tokens)
    print(json.dumps({"machine": machine(), "clients": args.clients, **result.describe()}))
    for line in (*result.errors[:5], *result.differences[:5]):
        print(line, file=sys.stderr)
    return 1 if result.errors or result.differences else 0


def soak_streams(args: argparse.Namespace) -> int:
    """Print what many streams left behind; 1 when anything failed, leaked or grew."""
    load = Load(args.streams, args.minutes, args.cancel_rate, args.max_tokens)
    result = run_streams((args.grpc_url, args.http_url), args.model_repository, load)
    print(json.dumps({"machine": machine(), "streams": args.streams, **result.describe()}))
    faults = result.faults(args.max_slope)
    for line in faults:
        print(line, file=sys.stderr)
    return 1 if faults else 0


def _write_json(args: argparse.Namespace, rows: Sequence[Any]) -> None:
    if args.json:
        figures = {"rows": [dataclasses.asdict(row) for row in rows]}
        args.json.write_text(json.dumps(describe(args.argv) | figures, indent=1) + "\n")
