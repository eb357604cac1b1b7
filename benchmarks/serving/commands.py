"""The measurements of servers: what each one prints, and its exit status.

Most take servers that run already.
"""

import argparse
import sys

from benchmarks.common.machine import machine, printed_json
from benchmarks.common.typing_users import library_files
from benchmarks.serving.cached import CachedLoad, measure_cached
from benchmarks.serving.gateway import Load as GatewayLoad
from benchmarks.serving.gateway import measure_gateway
from benchmarks.serving.keystrokes import Figures, type_at, type_at_own
from benchmarks.serving.latency import measure_latency
from benchmarks.serving.reference import measure_reference
from benchmarks.serving.typists import Typing
from benchmarks.serving.workload import demo_tokenizer, typed_functions


def latency(args: argparse.Namespace) -> int:
    """Print one row a way."""
    rows = measure_latency(
        args.model_repository, args.grpc_url, args.http_url, args.prompt, args.rounds
    )
    if printed_json(args, rows):
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


def gateway(args: argparse.Namespace) -> int:
    """Print two rows for each number of streams."""
    if args.cached:
        return cached(args)
    rows = []
    for num_streams in args.streams:
        load = GatewayLoad(
            num_streams, args.rounds, args.max_tokens, args.prompt, args.key, args.pause_ms / 1e3
        )
        rows += measure_gateway(args.grpc_url, args.gateway_url, load)
    if printed_json(args, rows):
        return 0
    print(f"{args.max_tokens} tokens after {args.prompt!r}, {machine()}")
    print(
        f"{'ms':<26}{'direct':>9}{'gateway':>9}{'added':>8}{'p99':>9}{'':>9}{'added':>8}{'pairs':>7}"
    )
    for row in rows:
        name = f"{row.figure}, {row.num_streams} streams"
        middle = f"{row.direct_ms:>9.2f}{row.gateway_ms:>9.2f}{row.added_ms:>8.2f}"
        tail = f"{row.direct_p99_ms:>9.2f}{row.gateway_p99_ms:>9.2f}{row.added_p99_ms:>8.2f}"
        print(f"{name:<26}{middle}{tail}{row.num_pairs:>7}")
    return 0


def cached(args: argparse.Namespace) -> int:
    """Print two rows for each number of connections."""
    rows = []
    for num_streams in args.streams:
        load = CachedLoad(num_streams, args.rounds, args.max_tokens, args.prompt)
        rows += measure_cached(args.model_repository, load)
    if printed_json(args, rows):
        return 0
    print(f"{args.max_tokens} tokens from the cache, the gateway on one core, {machine()}")
    print(f"{'':<26}{'per s':>9}{'per s of core':>15}{'CPU us':>9}{'answers':>9}")
    for row in rows:
        name = f"{row.form}, {row.num_streams} connections"
        print(f"{name:<26}{row.per_s:>9.0f}{row.per_core_s:>15.0f}{row.cpu_us:>9.0f}", end="")
        print(f"{row.num_answers:>9}")
    return 0


def keystrokes(args: argparse.Namespace) -> int:
    """Print each stretch of typing; 1 when something failed or isn't booked."""
    texts = typed_functions(args.source or library_files(), demo_tokenizer(), args.max_tokens)
    typing = Typing(args.users, args.seconds, args.max_tokens, args.debounce_ms / 1000, texts)
    if args.url:
        stretches = [type_at(args.url, args.key, typing)]
    else:
        stretches = type_at_own(args.model_repository, typing, is_killed=args.kill)
    if not printed_json(args, stretches):
        print(f"{args.users} people type for {args.seconds:g} s, {machine()}")
        for one in stretches:
            _print_stretch(one)
    faults = [fault for one in stretches if one.books for fault in one.books.faults]
    failed = [f"{count} times {kind}" for one in stretches for kind, count in one.errors.items()]
    for line in (*faults, *failed):
        print(line, file=sys.stderr)
    return 1 if faults or failed else 0


def _print_stretch(one: Figures) -> None:
    counts = ", ".join(f"{count} by {source}" for source, count in one.sources.items())
    print(f"{one.stretch}: {one.num_asked} asked, whole answers {counts}; ", end="")
    print(f"{one.num_left} left, {one.num_superseded} superseded, {one.num_events} events")
    for name, spread in {"first text": one.first, "whole": one.total, "cached": one.cached}.items():
        print(f"  {name:<11}{spread.p50_ms:>9.1f} ms{spread.p95_ms:>9.1f} p95", end="")
        print(f"{spread.p99_ms:>9.1f} p99{spread.num:>7}")
    if books := one.books:
        print(
            f"  ledger {books.num_rows} rows {dict(books.outcomes)}, {books.ledger_tokens} tokens;"
        )
        print(f"  engine {books.engine_tokens} tokens, {books.num_canaries} of them canaries', ")
        print(f"  {books.gap_tokens} unbooked; {books.wasted_tokens} wasted")
