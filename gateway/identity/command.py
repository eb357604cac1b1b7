"""`python -m gateway keys`: API keys made, listed, rotated and ended by hand.

A key's text goes to stdout once and is kept nowhere. Errors leave as GatewayError. The other
command of this room, `token`, is in `minting`.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from gateway.identity.durations import parse_duration
from gateway.identity.keys import (
    Key,
    NewKey,
    create_key,
    describe,
    list_keys,
    revoke_key,
    rotate_key,
)
from gateway.identity.minting import add_token_command
from gateway.messages import KeyLimits
from gateway.storage.options import add_database_options, open_database

_Result = NewKey | Key | list[Key]
_EXAMPLES = """examples:
  python -m gateway keys create --name "Ada's editor" --requests-per-minute 120
  python -m gateway keys create --name "operator" --role admin --expires-in 90d
  python -m gateway keys list
  python -m gateway keys rotate nt_ab12cd34 --grace 7d
  python -m gateway keys revoke nt_ab12cd34
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `keys` and `token` to the gateway's commands."""
    layout: dict[str, Any] = {
        "epilog": _EXAMPLES,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    keys = commands.add_parser("keys", help="create, list, rotate and revoke API keys", **layout)
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    _add_create(actions.add_parser("create", help="make a key and show it once", **layout))
    listing = actions.add_parser("list", help="every key, without its secret", **layout)
    _finish(listing, _list)
    rotate = actions.add_parser("rotate", help="another secret for a key", **layout)
    rotate.add_argument("prefix", help="the key's first part, such as nt_ab12cd34")
    rotate.add_argument(
        "--grace",
        type=parse_duration,
        default="1d",
        help="the old one goes on; default: %(default)s",
    )
    _finish(rotate, _rotate)
    revoke = actions.add_parser("revoke", help="end a key, within seconds and for good", **layout)
    revoke.add_argument("prefix", help="the key's first part, such as nt_ab12cd34")
    _finish(revoke, _revoke)
    add_token_command(commands)


def _add_create(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", required=True, help="whose it is, for people")
    add("--role", choices=["user", "admin"], default="user", help="default: %(default)s")
    add("--tenant", help="keys of one tenant share caches; default: one of the key's own")
    add("--expires-in", type=parse_duration, help="such as 90d; default: never")
    for one in fields(KeyLimits):
        kind = float if one.name.endswith("budget") else int
        unit = "of the price table's currency a month" if kind is float else "for this key"
        option = f"--{one.name.replace('_', '-')}"
        add(option, type=kind, metavar="N", help=f"{unit}; default: the gateway's")
    _finish(parser, _create)


def _finish(parser: argparse.ArgumentParser, act: Callable[..., _Result]) -> None:
    """Add what all have, and run `act` in one transaction."""
    add_database_options(parser)
    parser.add_argument("--json", action="store_true", help="JSON instead of text")

    def run(arguments: argparse.Namespace) -> int:
        database = open_database(arguments)
        try:
            with database.session() as session:
                result = act(session, arguments)
        finally:
            database.close()
        _show(result, as_json=arguments.json)
        return 0

    parser.set_defaults(run=run)


def _create(session: Session, arguments: argparse.Namespace) -> NewKey:
    now = _now()
    return create_key(
        session,
        arguments.name,
        now=now,
        role=arguments.role,
        tenant=arguments.tenant,
        limits=KeyLimits(**{one.name: getattr(arguments, one.name) for one in fields(KeyLimits)}),
        expires=now + arguments.expires_in if arguments.expires_in else None,
    )


def _rotate(session: Session, arguments: argparse.Namespace) -> NewKey:
    return rotate_key(session, arguments.prefix, grace=arguments.grace, now=_now())


def _revoke(session: Session, arguments: argparse.Namespace) -> Key:
    return revoke_key(session, arguments.prefix, now=_now())


def _list(session: Session, _arguments: argparse.Namespace) -> list[Key]:
    return list_keys(session)


def _show(result: _Result, *, as_json: bool) -> None:
    """What was done, committed already; a new key's text goes to stdout and nowhere else."""
    if isinstance(result, NewKey):
        print("this key is shown once, keep it now:", file=sys.stderr)
        told = {**describe(result.key), "key": result.text}
        print(json.dumps(told) if as_json else result.text)
    elif isinstance(result, Key):
        print(json.dumps(describe(result)) if as_json else f"{result.prefix}: {_state(result)}")
    elif as_json:
        print(json.dumps([describe(key) for key in result]))
    else:
        # Names are shown as they are; where nobody looks, columns are not cut to a screen.
        width = None if sys.stdout.isatty() else 240
        Console(markup=False, highlight=False, width=width).print(_table(result))


def _table(keys: list[Key]) -> Table:
    table = Table("prefix", "name", "role", "tenant", "state", "created", "last used", box=None)
    for key in keys:
        moments = [_minute(at) if at else "never" for at in (key.created, key.last_used)]
        table.add_row(key.prefix, key.name, key.role, key.tenant, _state(key), *moments)
    return table


def _state(key: Key) -> str:
    if key.revoked:
        return f"revoked {_minute(key.revoked)}"
    if key.expires:
        is_over = key.expires <= _now()
        return f"{'expired' if is_over else 'good until'} {_minute(key.expires)}"
    return "good"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _now() -> datetime:
    return datetime.now(timezone.utc)
