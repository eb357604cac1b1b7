"""The options of the measurements of servers; knows nothing of what runs."""

import argparse
from pathlib import Path

from benchmarks.common.options import (
    add_json,
    add_plot,
    add_repository,
    add_rounds,
    add_urls,
    count,
)
from benchmarks.peers.catalogue import DEFAULT_VENVS, SERVICES
from benchmarks.serving.load import SHAPES
from benchmarks.serving.opened import EVERY_PEER, GATEWAY, PEER, TRITON, URL
from benchmarks.serving.performance import LIMIT_S

USERS, RATES = (1, 8, 32, 100), (2, 8, 16)


def add_latency(add: argparse.ArgumentParser) -> None:
    """A running server, one prompt."""
    add_urls(add)
    add_repository(add, "what it serves")
    add.add_argument("--prompt", default="def fib(n):", help="default: %(default)r")
    add_rounds(add, 300)
    add_json(add)


def add_reference(add: argparse.ArgumentParser) -> None:
    """A server of its own, without models of ours."""
    add_rounds(add, 300)
    add.add_argument(
        "--port", type=int, default=8200, help="first of three to use; default: %(default)s"
    )


def add_gateway(add: argparse.ArgumentParser) -> None:
    """A running server and a gateway in front of it."""
    add.add_argument("--grpc-url", default="localhost:8001", help="default: %(default)s")
    add.add_argument(
        "--gateway-url", default="localhost:8080", metavar="HOST:PORT", help="default: %(default)s"
    )
    add.add_argument(
        "--streams", type=count, nargs="+", default=[1, 32], help="at once; default: %(default)s"
    )
    add.add_argument("--max-tokens", type=count, default=32, help="default: %(default)s")
    add.add_argument("--prompt", default="def fib(n):", help="default: %(default)r")
    add.add_argument(
        "--pause-ms",
        type=float,
        default=0,
        help="of a worker before each request, on average; default: none",
    )
    add.add_argument("--key", help="of the gateway, unless it is open")
    add.add_argument(
        "--cached",
        action="store_true",
        help="instead: answers a second from the cache, on servers of the run's own",
    )
    add_repository(add, "what the own Triton of --cached serves")
    add_rounds(add, 50)
    add_json(add)


def add_keystrokes(add: argparse.ArgumentParser) -> None:
    """Typists, and servers of the run's own or a gateway that runs."""
    add_repository(add, "what the run's own Triton serves")
    add.add_argument(
        "--url", metavar="HOST:PORT", help="instead: a gateway that runs; its books aren't checked"
    )
    add.add_argument("--key", help="of that gateway, unless it is open")
    add.add_argument("--users", type=count, default=100, help="default: %(default)s")
    add.add_argument("--seconds", type=float, default=60, help="default: %(default)s")
    add.add_argument("--max-tokens", type=count, default=24, help="default: %(default)s")
    add.add_argument(
        "--debounce-ms",
        type=float,
        default=200,
        help="without a key before the editor asks; default: %(default)s",
    )
    add.add_argument(
        "--source", type=Path, nargs="+", help="Python files to type; default: some of Python's own"
    )
    add.add_argument(
        "--kill",
        action="store_true",
        help="kill the gateway after these seconds, start it again and type as long once more",
    )
    add_json(add)


def add_load(add: argparse.ArgumentParser) -> None:
    """Which servers, which load, for how long."""
    add.add_argument(
        "--target",
        nargs="+",
        default=[GATEWAY],
        metavar="NAME",
        help=f"{GATEWAY} and {TRITON} are started for it; {URL}HOST:PORT runs already and has "
        f"OpenAI's /v1/completions; {PEER}NAME is started too, one peer after the other, and has "
        "its rounds with those that are no peers; the first of the same rounds is what the others "
        f"are compared with; default: {GATEWAY}; {EVERY_PEER}, an engine's name for all of its "
        f"own, or one of: {', '.join(one.name for one in SERVICES)}",
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
