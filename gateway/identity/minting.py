"""`python -m gateway token`: a signed token of a subject, for as long as its time to live.

HS256 by the secret that the gateway has too, or RS256 by a private key that it never sees. Goes out
on stdout and is kept nowhere. Knows nothing of the database.
"""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt

from gateway.errors import ConfigError
from gateway.identity.durations import parse_duration
from gateway.identity.tokens import BadClaim, caller_of, check_secret, read_secret

AUDIENCE = "nanotriton"
SECRET_VARIABLE = "GATEWAY_JWT_SECRET"
MAX_TTL = timedelta(days=30)  # nothing ends a token before its time
_EXAMPLES = """examples:
  python -m gateway token --subject ada --ttl 8h --secret-file jwt-secret
  python -m gateway token --subject ada --role admin --private-key-file private.pem --key-id 2026
"""


@dataclass(frozen=True, slots=True)
class Signer:
    """What signs: a shared secret, or a private key in PEM with its name in the JWKS file."""

    algorithm: str
    key: str = field(repr=False)
    kid: str | None = None


def mint_token(claims: Mapping[str, Any], signer: Signer, *, now: datetime, ttl: timedelta) -> str:
    """A token of these claims, good from now on; raises ConfigError."""
    if not timedelta() < ttl <= MAX_TTL:
        raise ConfigError(f"a token of {ttl} can't be made: give up to {MAX_TTL.days}d")
    try:
        caller_of(claims)
        whole = {**claims, "iat": now, "exp": now + ttl}
        headers = {"kid": signer.kid} if signer.kid else None
        return jwt.encode(whole, signer.key, algorithm=signer.algorithm, headers=headers)
    except BadClaim as error:
        raise ConfigError(f"the token would have {error}") from error
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise ConfigError("the private key can't sign: give an RSA key in PEM, unlocked") from error


def add_token_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `token` to the gateway's commands."""
    parser = commands.add_parser(
        "token",
        help="make a signed token (JWT)",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--subject", required=True, help="who it is: 1 to 128 printable characters")
    add("--role", choices=["user", "admin"], default="user", help="default: %(default)s")
    add("--tenant", help="default: one of the subject's own")
    add(
        "--ttl", type=parse_duration, default="1h", help="how long it is good; default: %(default)s"
    )
    add("--audience", default=AUDIENCE, help="the gateway's; default: %(default)s")
    add("--issuer", help="who vouches for it, where the gateway asks")
    variable = f"default: the environment's {SECRET_VARIABLE}"
    add("--secret-file", type=Path, metavar="FILE", help=f"sign by HS256; {variable}")
    add("--private-key-file", type=Path, metavar="FILE", help="sign by RS256 with this PEM")
    add("--key-id", metavar="KID", help="with --private-key-file: its kid in the JWKS file")
    add("--json", action="store_true", help="one JSON object, with the time of its end")
    parser.set_defaults(run=_mint)


def _mint(arguments: argparse.Namespace) -> int:
    claims = {
        "sub": arguments.subject,
        "aud": arguments.audience,
        "iss": arguments.issuer,
        "tenant": arguments.tenant,
        "role": arguments.role,
    }
    given = {name: value for name, value in claims.items() if value is not None}
    now = datetime.now(timezone.utc)
    token = mint_token(given, _signer(arguments), now=now, ttl=arguments.ttl)
    told = {"token": token, "expires": (now + arguments.ttl).isoformat(timespec="seconds")}
    print(json.dumps(told) if arguments.json else token)
    return 0


def _signer(arguments: argparse.Namespace) -> Signer:
    path = arguments.private_key_file
    if path and arguments.secret_file:
        raise ConfigError("a token has one signature: give --secret-file or --private-key-file")
    if path:
        if not arguments.key_id:
            raise ConfigError("--private-key-file needs --key-id: its kid in the JWKS file")
        try:
            return Signer("RS256", path.read_text(encoding="utf-8"), arguments.key_id)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the private key {path} can't be read: {error}") from error
    if arguments.secret_file:
        return Signer("HS256", read_secret(arguments.secret_file))
    secret = os.environ.get(SECRET_VARIABLE)
    if not secret:
        raise ConfigError(f"nothing signs: give --secret-file, or set {SECRET_VARIABLE}")
    check_secret(secret)
    return Signer("HS256", secret)
