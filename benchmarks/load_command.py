"""`python -m benchmarks load`: its options, and what it prints and writes as each peer ends."""

import argparse
import dataclasses
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.developers import Most
from benchmarks.load import SHAPES, Load, Shape
from benchmarks.load_report import OPEN_SHAPES, head_lines, most_line, panels_of, row_lines
from benchmarks.load_rounds import Row, find_developers, measure_load
from benchmarks.machine import STDOUT, told_json
from benchmarks.opened import (
    EVERY_PEER,
    GATEWAY,
    PEER,
    TRITON,
    URL,
    Grounds,
    Opened,
    heats,
    open_peer,
    open_standing,
    spelled_out,
)
from benchmarks.options import add_json, add_plot, count
from benchmarks.peers.catalogue import DEFAULT_VENVS, SERVICES, PeerError
from benchmarks.performance import LIMIT_S
from benchmarks.plots import write_picture
from benchmarks.served_model import ServedModel, demo_model, exported_model, random_model
from benchmarks.typing_users import library_files
from benchmarks.workload import tokens_of, typed_functions
from nanotriton.tokenizer import load_tokenizer

USERS, RATES = (1, 8, 32, 100), (2, 8, 16)


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


def add_load(add: argparse.ArgumentParser) -> None:
    """Which servers, which load, for how long."""
    add.add_argument(
        "--target",
        nargs="+",
        default=[GATEWAY],
        metavar="NAME",
        help=f"{GATEWAY} and {TRITON} are started for it, so is {PEER}NAME, one peer after the "
        f"other beside those that are none ({EVERY_PEER}, or of an engine, or one of: "
        f"{', '.join(one.name for one in SERVICES)}); {URL}HOST:PORT runs already and has "
        "OpenAI's /v1/completions; the first of those that have the same rounds is what the "
        f"others are compared with; default: {GATEWAY}",
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
        default=350,
        help="without a key before an editor asks; default: %(default)s, which is Continue's",
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
        "--model-repository",
        type=Path,
        default=Path("model_repository"),
        help="what ours serve, the demo model; peers serve its checkpoint",
    )
    weights = add.add_mutually_exclusive_group()
    weights.add_argument(
        "--random",
        action="store_true",
        help="instead, of ours and of peers: random weights in the size of GPT-2 (124M)",
    )
    weights.add_argument(
        "--checkpoint", type=Path, help="instead, of both: a Hugging Face GPT-2 folder"
    )
    add.add_argument(
        "--work",
        type=Path,
        help="folder that keeps what is made of these weights, for next time",
    )
    add.add_argument(
        "--stream",
        action="store_true",
        help="typists' editors have the gateway stream, instead of asking it for whole answers",
    )
    add.add_argument(
        "--venvs", type=Path, default=DEFAULT_VENVS, help="of the peers; default: %(default)s"
    )
    add_json(add)
    add_plot(add)


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
        "versions": found.versions,
        "failures": found.failures,
    }
