"""The command `nanotriton`: serve a model repository, examine or tune one."""

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nanotriton import __version__
from nanotriton.contract import MANIFEST_FILE
from nanotriton.doctor import examine
from nanotriton.engine.settings import read_settings
from nanotriton.errors import NanotritonError
from nanotriton.manifest import newest_version
from nanotriton.server import ServerOptions, TritonServer
from nanotriton.tuned import TUNED_FILE
from nanotriton.tuning import Tuning
from nanotriton.watchdog import READY_TIMEOUT_S, Watchdog

EXAMPLES = """examples:
  nanotriton serve --model-repository model_repository
  nanotriton serve --model-repository model_repository --engine threads=2
  nanotriton serve --model-repository model_repository -- --log-verbose=1
  nanotriton doctor model_repository
  nanotriton tune model_repository
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all went well, 1 with one line on stderr when it didn't."""
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except NanotritonError as error:
        print(f"nanotriton: {error}", file=sys.stderr)
        return 1
    return status


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, bringing back what dies."""
    options = ServerOptions(
        repository=args.model_repository,
        http_port=args.http_port,
        grpc_port=args.grpc_port,
        metrics_port=args.metrics_port,
        address=args.address,
        exit_timeout_s=args.exit_timeout_secs,
        verbose=args.verbose,
        trace_url=args.trace_url,
        trace_rate=args.trace_rate,
        engine=read_settings(args.engine),
        extra_arguments=tuple(args.tritonserver_arguments),
    )
    started = time.monotonic()
    if bad := [one for one in examine(options) if not one.is_good]:
        for one in bad:
            log(f"{one.subject}: {one.seen}")
        if not all(one.subject in args.accept for one in bad):
            return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    server = TritonServer(options)
    try:
        server.start()
        server.wait_ready(READY_TIMEOUT_S)
        log(
            f"ready after {time.monotonic() - started:.1f} s: HTTP {options.http_url}, "
            f"gRPC {options.grpc_url}, metrics port {options.metrics_port}"
        )
        Watchdog(server, log).run()
    except KeyboardInterrupt:
        log("stopping: requests under way may finish")
    finally:
        server.close()
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Print what `examine` finds; 1 when anything is wrong that isn't accepted."""
    ports = (args.http_port, args.grpc_port, args.metrics_port)
    engine = read_settings(args.engine)
    options = ServerOptions(args.model_repository, *ports, args.address, engine=engine)
    findings = examine(options, args.checkpoint)
    if args.json:
        print(json.dumps([dataclasses.asdict(one) for one in findings], indent=2))
    else:
        for one in findings:
            print(f"{'ok ' if one.is_good else 'BAD'}  {one.subject:<13} {one.seen}")
    return 0 if all(one.is_good or one.subject in args.accept for one in findings) else 1


def tune(args: argparse.Namespace) -> int:
    """Measure, show the choices with their figures, and write them beside the manifest."""
    folder: Path = args.folder
    if not (folder / MANIFEST_FILE).is_file():
        folder = newest_version(folder)
    tuned = Tuning(folder, args.seconds, log).measure()
    tuned.save(folder)
    if args.json:
        print(json.dumps(dataclasses.asdict(tuned), indent=2))
        return 0
    for name, choice in tuned.choices.items():
        print(f"{name:<16} {choice.value:>4}  ({choice.unit}; noise {choice.noise:.0%})")
        print("    " + "  ".join(f"{key}: {value:g}" for key, value in choice.figures.items()))
    print(folder / TUNED_FILE)
    return 0


def log(message: str) -> None:
    """One line on stderr."""
    print(f"nanotriton: {message}", file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nanotriton",
        description="Serve your own GPT checkpoint on NVIDIA Triton.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=__version__, help="print the version and exit"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_doctor(commands)
    _add_tune(commands)
    return parser


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("serve", help="run tritonserver and keep it serving")
    command.add_argument(
        "--model-repository", type=Path, required=True, help="folder that export wrote"
    )
    _add_premises(command)
    command.add_argument(
        "--exit-timeout-secs",
        type=int,
        default=30,
        help="how long requests under way may take at the end; default 30",
    )
    command.add_argument(
        "--trace-url",
        help="trace requests to this OpenTelemetry collector, such as "
        "http://localhost:4318/v1/traces (needs nanotriton[tracing])",
    )
    command.add_argument(
        "--trace-rate", type=int, default=1, help="trace one request in so many; default 1"
    )
    command.add_argument("--verbose", action="store_true", help="show Triton's information log")
    command.add_argument(
        "tritonserver_arguments", nargs="*", help="after --, passed on to tritonserver"
    )
    command.set_defaults(run=serve)


def _add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "doctor", help="examine a repository and this machine before anything starts"
    )
    command.add_argument("model_repository", type=Path, help="folder that export wrote")
    _add_premises(command)
    command.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="ckpt.pt or GPT-2 folder: whether the newest version was made from it",
    )
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    command.set_defaults(run=doctor)


def _add_tune(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "tune", help="measure which settings of the engine are fastest on this machine"
    )
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="a repository (its newest version) or a version"
    )
    command.add_argument(
        "--seconds", type=_seconds, default=60.0, help="about how long to measure; default 60"
    )
    command.add_argument("--json", action="store_true", help="print the choices as JSON")
    command.set_defaults(run=tune)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)  # argparse words it
    return seconds


def _add_premises(command: argparse.ArgumentParser) -> None:
    """Where to serve and how, and which of doctor's findings are known and meant."""
    command.add_argument("--http-port", type=int, default=8000, help="default 8000")
    command.add_argument("--grpc-port", type=int, default=8001, help="default 8001")
    command.add_argument("--metrics-port", type=int, default=8002, help="default 8002")
    command.add_argument(
        "--address",
        default="127.0.0.1",
        help="default 127.0.0.1; put a gateway in front before you open it: Triton's HTTP front "
        "can be crashed by a hostile request",
    )
    command.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the engine, such as max_slots=64 or threads=4 (docs/OPERATING.md), "
        "before what gpt/config.pbtxt says; may be given several times",
    )
    command.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="SUBJECT",
        help="go on in spite of doctor's finding on this subject; may be given several times",
    )


def _interrupt(_signal: int, _frame: object) -> None:
    """Stop once: what cleans up must not be interrupted by a second signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
