"""The command line of the measurements; some need a server that runs already (`make run`)."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks import bench
from benchmarks.capacity import command as capacity
from benchmarks.cost import command as cost
from benchmarks.engine import commands as engine
from benchmarks.engine import options as engine_options
from benchmarks.peers import command as peers
from benchmarks.peers.catalogue import PeerError
from benchmarks.resilience import commands as resilience
from benchmarks.resilience import options as resilience_options
from benchmarks.serving import commands as serving
from benchmarks.serving import load_command
from benchmarks.serving import options as serving_options
from benchmarks.timing import commands as timing
from benchmarks.timing import options as timing_options
from clients import ClientError
from nanotriton.errors import NanotritonError

EXAMPLES = """examples (with a server running: make run):
  python -m benchmarks latency --rounds 300
  python -m benchmarks reference
  python -m benchmarks gateway --streams 1 32     # python -m gateway serve --open
  python -m benchmarks soak --clients 32 --seconds 60
  python -m benchmarks soak --streams 100 --minutes 10 --cancel-rate 0.3
without one:
  python -m benchmarks gateway --cached --rounds 1000
  python -m benchmarks keystrokes --users 100 --kill
  python -m benchmarks load --target gateway triton --users 1 8 32 100 --rounds 5
  python -m benchmarks load --target gateway peer:all --random --users 8 32 --work DIR
  python -m benchmarks load --shape typing --find-most --users 8 200
  python -m benchmarks failover --users 32 --json failover.json
  python -m benchmarks drill --backup-every 5
  python -m benchmarks replay --users 1 4 --rounds 200
  python -m benchmarks healing --cuts 400
  python -m benchmarks steps --random --rounds 30
  python -m benchmarks threads --random --threads 1 2 --spin off on --busy 1
  python -m benchmarks breakdown --random --plot bench
  python -m benchmarks floor --random
  python -m benchmarks waterfall --users 1 32
  python -m benchmarks perf-analyzer --install
  python -m benchmarks perf-analyzer --users 1 8 --rates 5
  python -m benchmarks gap --random
  python -m benchmarks capacity --plot bench
  python -m benchmarks capacity --validate
  python -m benchmarks cost --rounds 9
  python -m benchmarks peers --install
  python -m benchmarks peers --json peers.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one measurement; 1 when it found something wrong, or can't be run."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = build_parser().parse_args(arguments)
    args.argv = arguments
    args.load_average = os.getloadavg()[0]  # others', as it was before we began
    try:
        status: int = args.run(args)
    except (NanotritonError, PeerError, ClientError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


@dataclass(frozen=True, slots=True)
class _Command:
    """What `python -m benchmarks NAME` is."""

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


COMMANDS: Mapping[str, _Command] = MappingProxyType(
    {
        "bench": _Command(
            "the measurements of docs/benchmarks.md, one after the other, into a folder",
            bench.add_bench,
            bench.bench,
        ),
        "latency": _Command(
            "what the server adds to the engine's own time",
            serving_options.add_latency,
            serving.latency,
        ),
        "reference": _Command(
            "what Triton costs by itself, on its own server",
            serving_options.add_reference,
            serving.reference,
        ),
        "gateway": _Command(
            "what the gateway adds to a direct stream", serving_options.add_gateway, serving.gateway
        ),
        "keystrokes": _Command(
            "many people type through the gateway; all must be booked",
            serving_options.add_keystrokes,
            serving.keystrokes,
        ),
        "load": _Command(
            "users, chance arrivals or typing people: times, goodput, cost, on any server",
            serving_options.add_load,
            load_command.load,
        ),
        "failover": _Command(
            "servers die, are replaced or take another version while people ask",
            resilience_options.add_failover,
            resilience.failover,
        ),
        "drill": _Command(
            "a place is lost with all it had: traffic moves, the ledger is restored",
            resilience_options.add_drill,
            resilience.drill,
        ),
        "soak": _Command(
            "many clients at once; both doors must agree",
            resilience_options.add_soak,
            resilience.soak,
        ),
        "replay": _Command(
            "somebody types: prefix cache and speculation, on/off",
            engine_options.add_replay,
            engine.replay,
        ),
        "healing": _Command(
            "lines cut at any character: token healing, on/off",
            engine_options.add_healing,
            engine.healing,
        ),
        "threads": _Command(
            "steps by threads and spinning", engine_options.add_thread_choices, engine.threads
        ),
        "steps": _Command("a step in one way and another", engine_options.add_steps, engine.steps),
        "breakdown": _Command(
            "what a step spends where: graph, runner, sampling, scheduling, messages",
            timing_options.add_breakdown,
            timing.breakdown,
        ),
        "floor": _Command(
            "the least time that a step's bytes and products take here, and the step's own",
            timing_options.add_floor,
            timing.floor,
        ),
        "waterfall": _Command(
            "what a completion spends where, from the client to the engine and back",
            timing_options.add_waterfall,
            timing.waterfall,
        ),
        "perf-analyzer": _Command(
            "NVIDIA's perf_analyzer and our client on the same load",
            timing_options.add_perf_analyzer,
            timing.perf_analyzer,
        ),
        "gap": _Command(
            "how long streams wait while somebody's long prompt comes in",
            engine_options.add_gap,
            engine.gap,
        ),
        "capacity": _Command(
            "how many machines so many developers need, simulated from a measured curve",
            capacity.add_options,
            capacity.run,
        ),
        "cost": _Command(
            "what tokens cost, and what each optimisation saved of it", cost.add_options, cost.run
        ),
        "peers": _Command(
            "other engines on the same weights, without servers, paired rounds",
            peers.add_options,
            peers.run,
        ),
    }
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure a running server, or the engine by itself.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="NAME")
    for name, command in COMMANDS.items():
        add = commands.add_parser(name, help=command.help)
        command.add_options(add)
        add.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it ends its servers
    sys.exit(main())
