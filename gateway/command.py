"""`python -m gateway serve`: options to a Config, and the process that serves it."""

import argparse
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from gateway.config import BackendAddress, Caching, Config, Crowding, Limits, Tracing
from gateway.errors import ConfigError
from gateway.identity.minting import SECRET_VARIABLE
from gateway.identity.tokens import JwtConfig, read_secret
from gateway.messages import KeyLimits
from gateway.storage.options import add_database_options, database_url

EXAMPLES = """examples:
  python -m gateway serve --open                     # on a laptop, without keys
  python -m gateway serve --backend stable=127.0.0.1:8001 --host 0.0.0.0
  python -m gateway serve --port 0                   # any free port, told on stderr
"""
REDIS_VARIABLE = "GATEWAY_REDIS"
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
    _add_server_options(parser.add_argument_group("the server"))
    _add_identity_options(parser.add_argument_group("who may ask"))
    _add_account_options(parser.add_argument_group("accounts"))
    _add_key_options(parser.add_argument_group("limits of a key that has none of its own"))
    _add_request_options(parser.add_argument_group("limits of one request"))
    _add_insight_options(parser.add_argument_group("logs and traces"))


def _add_server_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
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
        "--redis",
        metavar="URL",
        help=f"limits and caches that gateways share; default: the environment's {REDIS_VARIABLE}, "
        "which keeps a password out of sight, or each for itself",
    )
    _number(add, "--max-running", _DEFAULT.crowding.max_running, "requests at Triton at once")
    _number(add, "--max-waiting", _DEFAULT.crowding.max_waiting, "requests that wait; then 429")
    _number(add, "--cache-bytes", _DEFAULT.caching.max_bytes, "of answers in memory; 0 is none")
    _number(add, "--cache-ttl-s", _DEFAULT.caching.ttl_s, "seconds that an answer is kept")
    _number(add, "--max-connections", _DEFAULT.max_connections, "more are told 503")
    _number(add, "--drain-delay-s", _DEFAULT.drain_delay_s, "between signal and closed door")


def _add_identity_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--open", action="store_true", help="serve without keys, on loopback alone")
    add("--jwt-audience", metavar="NAME", help="accept tokens (JWT) that are made for this name")
    add("--jwt-issuer", metavar="NAME", help="and by this one alone; default: by any")
    add(
        "--jwt-secret-file",
        type=Path,
        metavar="FILE",
        help=f"of HS256; default: the environment's {SECRET_VARIABLE}, or no such tokens",
    )
    add("--jwks-file", type=Path, metavar="FILE", help="public keys of RS256")


def _add_account_options(group: "argparse._ArgumentGroup") -> None:
    add_database_options(group)
    group.add_argument(
        "--prices", type=Path, metavar="FILE", help="price table (JSON); default: the one shipped"
    )


def _add_key_options(group: "argparse._ArgumentGroup") -> None:
    for one in fields(KeyLimits):
        kind = float if one.name.endswith("budget") else int
        unit = "of the price table's currency a month; " if kind is float else ""
        option = f"--{one.name.replace('_', '-')}"
        group.add_argument(option, type=kind, metavar="N", help=f"{unit}default: no limit")


def _add_request_options(group: "argparse._ArgumentGroup") -> None:
    add, default = group.add_argument, _DEFAULT.limits
    _number(add, "--timeout-s", default.timeout_s, "of a request that gives none")
    _number(add, "--max-timeout-s", default.max_timeout_s, "the most that one may give")
    _number(add, "--max-body-bytes", default.max_body_bytes, "of a request")
    _number(add, "--body-timeout-s", default.body_timeout_s, "until a body must be whole")


def _add_insight_options(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add("--log-prompts", action="store_true", help="log prompts: people's code, so think first")
    add(
        "--insight",
        choices=["near", "admin"],
        default="near",
        help="who sees /metrics and /stats: whoever asks from a private address and through no "
        "proxy, or admins alone; default: %(default)s",
    )
    add(
        "--insight-token-file",
        type=Path,
        metavar="FILE",
        help="whoever sends what it holds as a bearer token sees them too, and nothing else",
    )
    add("--trace-url", metavar="URL", help="send spans there by OTLP/HTTP; default: none")
    _number(add, "--trace-rate", _DEFAULT.tracing.rate, "trace one in so many requests")


def _number(add: Callable[..., object], option: str, default: float, told: str) -> None:
    add(
        option, type=type(default), default=default, metavar="N", help=f"{told}; default: {default}"
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
        database=database_url(args),
        redis=args.redis or os.environ.get(REDIS_VARIABLE) or None,
        prices=args.prices,
        is_open=args.open,
        jwt=_jwt_of(args),
        log_prompts=args.log_prompts,
        is_insight_near=args.insight == "near",
        insight_token=_secret_of(args.insight_token_file),
        drain_delay_s=args.drain_delay_s,
        max_connections=args.max_connections,
        limits=Limits(
            max_body_bytes=args.max_body_bytes,
            body_timeout_s=args.body_timeout_s,
            timeout_s=args.timeout_s,
            max_timeout_s=args.max_timeout_s,
        ),
        key_limits=KeyLimits(**{one.name: getattr(args, one.name) for one in fields(KeyLimits)}),
        crowding=Crowding(args.max_running, args.max_waiting),
        caching=Caching(args.cache_bytes, args.cache_ttl_s),
        tracing=Tracing(args.trace_url, args.trace_rate),
    )


def _jwt_of(args: argparse.Namespace) -> JwtConfig | None:
    if args.jwt_audience is None:
        if args.jwt_issuer or args.jwt_secret_file or args.jwks_file:
            raise ConfigError("tokens are accepted for one audience: give --jwt-audience too")
        return None
    secret = _secret_of(args.jwt_secret_file) or os.environ.get(SECRET_VARIABLE)
    return JwtConfig(args.jwt_audience, args.jwt_issuer, secret, args.jwks_file)


def _secret_of(file: Path | None) -> str | None:
    return None if file is None else read_secret(file)


def _shown(config: Config) -> str:
    return ", ".join(f"{one.name}={one.url}" for one in config.backends)
