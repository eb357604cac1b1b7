"""The options of `benchmarks.engine.commands`; knows nothing of what runs."""

import argparse
from pathlib import Path

from benchmarks.common.options import (
    add_json,
    add_repository,
    add_rounds,
    add_threads,
    add_version,
    count,
)


def add_replay(add: argparse.ArgumentParser) -> None:
    """A version, files to type, users."""
    add_repository(add, "what to run")
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
    add_threads(add)
    add_json(add)


def add_healing(add: argparse.ArgumentParser) -> None:
    """A version, files to cut."""
    add_repository(add, "what to run")
    add.add_argument(
        "--source", type=Path, nargs="+", help="Python files to cut; default: some of Python's own"
    )
    add.add_argument("--cuts", type=count, default=200, help="default: %(default)s")
    add.add_argument("--seed", type=int, default=1, help="of the places; default: %(default)s")
    add_threads(add)
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
    add_version(add, "its newest version, which may be a TensorRT plan")
    add_rounds(add, 30)
    add_threads(add)
    add.add_argument(
        "--cpu-time",
        action="store_true",
        help="of all threads instead of the clock on the wall, for machines with much else to do",
    )
    add_json(add)


def add_thread_choices(add: argparse.ArgumentParser) -> None:
    """A version, and what to try."""
    add_version(add, "what to run")
    add.add_argument(
        "--threads", type=count, nargs="+", default=[1, 2], help="default: %(default)s"
    )
    add.add_argument(
        "--spin", choices=("on", "off"), nargs="+", default=["off", "on"], help="default: both"
    )
    add.add_argument(
        "--busy", type=int, default=0, help="processes that compute beside it; default: %(default)s"
    )
    add_rounds(add, 30)


def add_gap(add: argparse.ArgumentParser) -> None:
    """A version, and the prompt that arrives."""
    add_version(add, "its newest version")
    add.add_argument("--prompt-tokens", type=count, default=900, help="default: %(default)s")
    add_rounds(add, 10)
    add_threads(add)
    add_json(add)
