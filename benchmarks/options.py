"""The options of each measurement; knows nothing of what runs them."""

import argparse
import os
from pathlib import Path

from benchmarks.failover import SCENARIOS
from benchmarks.machine import STDOUT
from benchmarks.peers.catalogue import DEFAULT_VENVS, PEERS


def count(text: str) -> int:
    """A number of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is given, the least is 1")
    return value


def add_latency(add: argparse.ArgumentParser) -> None:
    """A running server, one prompt."""
    _add_urls(add)
    _add_repository(add, "what it serves")
    add.add_argument("--prompt", default="def fib(n):", help="default: %(default)r")
    _add_rounds(add, 300)
    add_json(add)


def add_reference(add: argparse.ArgumentParser) -> None:
    """A server of its own, without models of ours."""
    _add_rounds(add, 300)
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
    _add_repository(add, "what the own Triton of --cached serves")
    _add_rounds(add, 50)
    add_json(add)


def add_keystrokes(add: argparse.ArgumentParser) -> None:
    """Typists, and servers of the run's own or a gateway that runs."""
    _add_repository(add, "what the run's own Triton serves")
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


def add_failover(add: argparse.ArgumentParser) -> None:
    """A crowd, and what happens to the servers of the run's own."""
    _add_repository(add, "what the run's own Tritons serve")
    add.add_argument(
        "--only",
        nargs="+",
        choices=tuple(SCENARIOS),
        default=tuple(SCENARIOS),
        metavar="SCENARIO",
        help=f"of {', '.join(SCENARIOS)}; default: all",
    )
    _add_crowd(add)
    add.add_argument(
        "--seconds", type=float, default=15, help="before each deed; default: %(default)s"
    )


def add_drill(add: argparse.ArgumentParser) -> None:
    """A crowd, backups, and the databases of both places."""
    _add_repository(add, "what both places serve")
    add.add_argument(
        "--databases",
        nargs=2,
        metavar=("URL", "URL"),
        help="of the primary and the standby, both empty; default: SQLite in their folders",
    )
    _add_crowd(add)
    add.add_argument("--backup-every", type=float, default=5, help="seconds; default: %(default)s")
    add.add_argument(
        "--seconds", type=float, default=20, help="until the primary goes; default: %(default)s"
    )


def add_soak(add: argparse.ArgumentParser) -> None:
    """A running server, many clients."""
    _add_urls(add)
    add.add_argument("--clients", type=count, default=32, help="default: %(default)s")
    add.add_argument("--seconds", type=float, default=60, help="default: %(default)s")
    add.add_argument("--max-tokens", type=count, default=48, help="at most; default: %(default)s")
    add.add_argument(
        "--streams", type=count, help="instead of pairs: so many streams, and memory watched"
    )
    add.add_argument("--minutes", type=float, default=10, help="of --streams; default: %(default)s")
    add.add_argument(
        "--cancel-rate", type=float, default=0.3, help="share given up; default: %(default)s"
    )
    add.add_argument(
        "--max-slope", type=float, default=1.0, help="MB a minute; default: %(default)s"
    )
    _add_repository(add, "what it serves")


def add_replay(add: argparse.ArgumentParser) -> None:
    """A version, files to type, users."""
    _add_repository(add, "what to run")
    add.add_argument(
        "--source", type=Path, nargs="+", help="Python files to type; default: some of Python's own"
    )
    add.add_argument(
        "--random-prompts",
        action="store_true",
        help="instead: prompts of random tokens, which leave nothing to reuse",
    )
    add.add_argument("--users", type=count, nargs="+", default=[1, 4], help="default: %(default)s")
    add.add_argument("--rounds", type=count, default=200, help="of each user; default: %(default)s")
    add.add_argument("--every", type=count, default=12, help="characters; default: %(default)s")
    add.add_argument("--max-tokens", type=count, default=24, help="default: %(default)s")
    add.add_argument("--temperature", type=float, default=0.0, help="default: %(default)s")
    add.add_argument("--stop-at", default="none", help="as the setting; default: %(default)s")
    _add_threads(add)
    add_json(add)


def add_healing(add: argparse.ArgumentParser) -> None:
    """A version, files to cut."""
    _add_repository(add, "what to run")
    add.add_argument(
        "--source", type=Path, nargs="+", help="Python files to cut; default: some of Python's own"
    )
    add.add_argument("--cuts", type=count, default=200, help="default: %(default)s")
    add.add_argument("--seed", type=int, default=1, help="of the places; default: %(default)s")
    _add_threads(add)
    add_json(add)


def add_steps(add: argparse.ArgumentParser) -> None:
    """A version, and two ways to run its steps."""
    add.add_argument(
        "--compare",
        choices=("graphs", "mixed", "kv", "attention", "attention8"),
        default="graphs",
        help="the graphs of a version of --precision auto; a prompt's chunk and decode rows, mixed "
        "and apart; KV caches of float32 and int8, on random weights; attention by ONNX Runtime "
        "and by our own library, and the same over a cache of int8, on random weights; default: "
        "%(default)s",
    )
    _add_version(add, "its newest version, which may be a TensorRT plan")
    _add_rounds(add, 30)
    _add_threads(add)
    add.add_argument(
        "--cpu-time",
        action="store_true",
        help="of all threads instead of the clock on the wall, for machines with much else to do",
    )
    add_json(add)


def add_thread_choices(add: argparse.ArgumentParser) -> None:
    """A version, and what to try."""
    _add_version(add, "what to run")
    add.add_argument(
        "--threads", type=count, nargs="+", default=[1, 2], help="default: %(default)s"
    )
    add.add_argument(
        "--spin", choices=("on", "off"), nargs="+", default=["off", "on"], help="default: both"
    )
    add.add_argument(
        "--busy", type=int, default=0, help="processes that compute beside it; default: %(default)s"
    )
    _add_rounds(add, 30)


def add_gap(add: argparse.ArgumentParser) -> None:
    """A version, and the prompt that arrives."""
    _add_version(add, "its newest version")
    add.add_argument("--prompt-tokens", type=count, default=900, help="default: %(default)s")
    _add_rounds(add, 10)
    _add_threads(add)
    add_json(add)


def add_peers(add: argparse.ArgumentParser) -> None:
    """Which peers, on which weights, for how long."""
    add.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"an engine, or one of: {', '.join(one.name for one in PEERS)}; default: all",
    )
    add.add_argument(
        "--install",
        nargs="*",
        metavar="NAME",
        help="make the virtual environments of these engines (of all without a name), and end",
    )
    add.add_argument(
        "--venvs", type=Path, default=DEFAULT_VENVS, help="where those are; default: %(default)s"
    )
    weights = add.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", type=Path, help="Hugging Face GPT-2 folder")
    weights.add_argument(
        "--random", action="store_true", help="the default: random weights in GPT-2's size (124M)"
    )
    add.add_argument(
        "--work", type=Path, help="folder that keeps what peers make of the weights, for next time"
    )
    _add_rounds(add, 5)
    add.add_argument(
        "--max-minutes",
        type=float,
        default=12,
        help="in all: no second round begins that would end later; default: %(default)s",
    )
    add.add_argument("--threads", type=count, default=2, help="of each peer; default: %(default)s")
    add.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")


def _add_urls(add: argparse.ArgumentParser) -> None:
    add.add_argument("--grpc-url", default="localhost:8001", help="default: %(default)s")
    add.add_argument("--http-url", default="localhost:8000", help="default: %(default)s")


def _add_repository(add: argparse.ArgumentParser, help_text: str) -> None:
    default = Path("model_repository")
    add.add_argument("--model-repository", type=Path, default=default, help=help_text)


def _add_version(add: argparse.ArgumentParser, help_text: str) -> None:
    _add_repository(add, help_text)
    add.add_argument(
        "--random", action="store_true", help="instead: random weights in the size of GPT-2 (124M)"
    )


def _add_crowd(add: argparse.ArgumentParser) -> None:
    add.add_argument("--users", type=count, default=32, help="default: %(default)s")
    add.add_argument("--max-tokens", type=count, default=128, help="default: %(default)s")
    add.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")


def _add_rounds(add: argparse.ArgumentParser, default: int) -> None:
    add.add_argument("--rounds", type=count, default=default, help="default: %(default)s")


def _add_threads(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "--threads",
        type=count,
        default=len(os.sched_getaffinity(0)),
        help="of the runtime; default: one a usable core",
    )


def add_json(add: argparse.ArgumentParser) -> None:
    """JSON."""
    add.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=Path(STDOUT),
        metavar="FILE",
        help="print JSON instead of the table, or write it to a file beside the table",
    )


def add_plot(add: argparse.ArgumentParser) -> None:
    """Pictures."""
    add.add_argument(
        "--plot", type=Path, metavar="DIR", help="write PNG and SVG there (needs matplotlib)"
    )
