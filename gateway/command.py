"""`python -m gateway serve`: options to a Config, and the process that serves it."""

import argparse
from pathlib import Path

from gateway.config import BackendAddress, Config, Limits

EXAMPLES = """examples:
  python -m gateway serve --open                     # on a laptop, without keys
  python -m gateway serve --backend stable=127.0.0.1:8001 --host 0.0.0.0
  python -m gateway serve --port 0                   # any free port, told on stderr
"""
_DEFAULT = Config()


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `serve`."""
    parser = commands.add_parser(
        "serve",
        help="serve the API in front of one or more Tritons",
        description="Serve the API until SIGTERM; then requests under way may end.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "--backend",
        action="append",
        metavar="NAME=HOST:PORT",
        help=f"Triton's gRPC front; may be given several times; default: {_shown(_DEFAULT)}",
    )
    add("--model-name", default=_DEFAULT.model, help="what callers ask for; default: %(default)s")
    add("--host", default=_DEFAULT.host, help="address to listen on; default: %(default)s")
    add("--port", type=int, default=_DEFAULT.port, help="0 takes any; default: %(default)s")
    add(
        "--state",
        type=Path,
        default=_DEFAULT.state,
        metavar="DIR",
        help="folder of keys and accounts; default: %(default)s",
    )
    add("--open", action="store_true", help="serve without keys, on loopback alone")
    add(
        "--drain-delay-s",
        type=float,
        default=_DEFAULT.drain_delay_s,
        help="seconds between the signal and the closed door; default: %(default)s",
    )
    add(
        "--max-connections",
        type=int,
        default=_DEFAULT.max_connections,
        help="more are told 503; default: %(default)s",
    )
    insight = parser.add_argument_group("insight")
    insight.add_argument(
        "--trace-url",
        metavar="URL",
        help="send traces to this OpenTelemetry collector, such as http://localhost:4318/v1/traces",
    )
    insight.add_argument(
        "--trace-rate",
        type=int,
        default=_DEFAULT.trace_rate,
        help="of requests without a trace one in so many is traced; default: %(default)s",
    )
    insight.add_argument(
        "--log-prompts", action="store_true", help="log prompts: people's code, so think first"
    )
    limits = parser.add_argument_group("limits of one request")
    add = limits.add_argument
    default = _DEFAULT.limits
    add(
        "--timeout-s",
        type=float,
        default=default.timeout_s,
        help="of a request that gives none; default: %(default)s",
    )
    add(
        "--max-timeout-s",
        type=float,
        default=default.max_timeout_s,
        help="the most that one may give; default: %(default)s",
    )
    add(
        "--max-body-bytes",
        type=int,
        default=default.max_body_bytes,
        help="of a request; default: %(default)s",
    )
    add(
        "--body-timeout-s",
        type=float,
        default=default.body_timeout_s,
        help="until a body must be whole; default: %(default)s",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    from gateway.serving import serve  # noqa: PLC0415 (FastAPI takes a second, --help needs none)

    return serve(config_of(args))


def config_of(args: argparse.Namespace) -> Config:
    """Raises ConfigError."""
    return Config(
        backends=tuple(map(BackendAddress.parse, args.backend or ())) or _DEFAULT.backends,
        model=args.model_name,
        host=args.host,
        port=args.port,
        state=args.state,
        is_open=args.open,
        drain_delay_s=args.drain_delay_s,
        max_connections=args.max_connections,
        trace_url=args.trace_url,
        trace_rate=args.trace_rate,
        log_prompts=args.log_prompts,
        limits=Limits(
            max_body_bytes=args.max_body_bytes,
            body_timeout_s=args.body_timeout_s,
            timeout_s=args.timeout_s,
            max_timeout_s=args.max_timeout_s,
        ),
    )


def _shown(config: Config) -> str:
    return ", ".join(f"{one.name}={one.url}" for one in config.backends)
