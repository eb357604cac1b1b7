"""`python -m benchmarks load`: what it prints and writes as each peer ends, and its exit status."""

import argparse
import dataclasses
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common.machine import STDOUT, told_json
from benchmarks.common.plots import write_picture
from benchmarks.common.typing_users import library_files
from benchmarks.peers.catalogue import PeerError
from benchmarks.serving.developers import Most
from benchmarks.serving.load import Load, Shape
from benchmarks.serving.load_report import OPEN_SHAPES, head_lines, most_line, panels_of, row_lines
from benchmarks.serving.load_rounds import Row, find_developers, measure_load
from benchmarks.serving.opened import (
    Grounds,
    Opened,
    heats,
    open_peer,
    open_standing,
    spelled_out,
)
from benchmarks.serving.performance import LIMIT_S
from benchmarks.serving.served_model import ServedModel, demo_model, exported_model, random_model
from benchmarks.serving.workload import tokens_of, typed_functions
from nanotriton.tokenizer import load_tokenizer


@dataclass(slots=True)
class Found:
    """All rows, the search's end where there was one, and the servers that didn't start."""

    rows: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Mapping[str, str]] = field(default_factory=dict)
    most: Most | None = None

    def add(self, other: "Found") -> None:
        """What came later."""
        self.rows += other.rows
        self.failures |= other.failures
        self.versions |= other.versions
        self.most = other.most


def load(args: argparse.Namespace) -> int:
    """Print a row for each server and level; 1 when anything failed."""
    names = spelled_out(args.target[:1] if args.find_most else args.target)
    is_json_alone = args.json == Path(STDOUT)
    shape: Shape = "typing" if args.find_most else args.shape
    if not is_json_alone:
        print(*head_lines(shape, args.seconds, args.warm_up), sep="\n", flush=True)
    found = Found()
    for part in _measured(args, shape, names):
        found.add(part)
        if not is_json_alone:
            told_json(args, _figures(args, found))
            print(*_lines(args, part), sep="\n", flush=True)
    if is_json_alone:
        told_json(args, _figures(args, found))
    if args.plot and found.rows:
        write_picture(panels_of(found.rows), args.plot, f"load-{shape}")
    return 1 if found.failures or any(row.errors for row in found.rows) else 0


def _measured(args: argparse.Namespace, shape: Shape, names: Sequence[str]) -> Iterator[Found]:
    """Heat after heat."""
    with ExitStack() as stack:
        grounds = Grounds(_model(args, stack), args.venvs, args.stream)
        wanted = _load(args, shape, grounds.model)
        seeds = itertools.count(wanted.seed)
        standing = stack.enter_context(open_standing(names, grounds))
        for heat in heats(names):
            found = Found()
            with ExitStack() as opening:
                try:
                    servers = [
                        standing.get(name) or opening.enter_context(open_peer(name, grounds))
                        for name in heat
                    ]
                except PeerError as error:
                    (peer,) = (name for name in heat if name not in standing)
                    found.failures[peer] = str(error)
                else:
                    _measure(args, servers, wanted, seeds, found)
            yield found


def _measure(
    args: argparse.Namespace,
    servers: Sequence[Opened],
    wanted: Load,
    seeds: Iterator[int],
    found: Found,
) -> None:
    found.versions = {one.name: one.versions for one in servers if one.versions}
    if args.find_most:
        found.most, found.rows = find_developers(
            servers[0], wanted, max(args.users), args.max_probes, _progress
        )
    else:
        levels = args.rates if wanted.shape in OPEN_SHAPES else args.users
        found.rows = measure_load(
            servers, wanted, levels, num_rounds=args.rounds, seeds=seeds, progress=_progress
        )


def _model(args: argparse.Namespace, stack: ExitStack) -> ServedModel:
    work = args.work or Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotriton-load-"))
    )
    if args.random:
        return random_model(work)
    if args.checkpoint:
        return exported_model(args.checkpoint, work)
    return demo_model(args.model_repository, work)


def _load(args: argparse.Namespace, shape: Shape, model: ServedModel) -> Load:
    files, tokenizer = args.source or library_files(), load_tokenizer(model.tokenizer)
    is_typed = shape == "typing"
    return Load(
        shape=shape,
        level=args.users[0],
        seconds=args.seconds,
        warm_s=args.warm_up,
        seed=args.seed * 1000,
        files=[] if is_typed else tokens_of(files, tokenizer),
        texts=typed_functions(files, tokenizer, args.max_tokens) if is_typed else [],
        tokenizer=tokenizer,
        max_tokens=args.max_tokens,
        debounce_s=args.debounce_ms / 1e3,
    )


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _lines(args: argparse.Namespace, part: Found) -> Iterator[str]:
    yield from row_lines(part.rows, args.price_per_hour)
    for name, versions in part.versions.items():
        yield f"{name}: {', '.join(f'{package} {one}' for package, one in versions.items())}"
    yield from (f"{name}: {told}" for name, told in part.failures.items())
    if part.most:
        yield most_line(part.most)


def _figures(args: argparse.Namespace, found: Found) -> dict[str, object]:
    return {
        "limit_ms": LIMIT_S * 1e3,
        "price_per_hour": args.price_per_hour,
        "rows": [dataclasses.asdict(row) for row in found.rows],
        "developers": dataclasses.asdict(found.most) if found.most else None,
        "peer_versions": found.versions,
        "failures": found.failures,
    }
