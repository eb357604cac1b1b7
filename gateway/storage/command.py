"""`python -m gateway backup` and `restore`: the database in one file, and back.

Comes in: a file, or a folder of files named by the moment that they are of. Goes out: on stdout the
file and what it holds. Errors leave as GatewayError. How a copy is made stands in `backup`.
"""

import argparse
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import func, select

from gateway.errors import ConfigError
from gateway.storage.backup import back_up, restore
from gateway.storage.options import add_database_options, database_url, state_url, upgraded_database
from gateway.storage.tables import UsageRow

_FILES = "gateway-*.backup"
_EXAMPLES = """examples:
  python -m gateway backup gateway.backup
  python -m gateway backup /backups --keep 14      # a file named by the time; the newest 14 stay
  python -m gateway restore /backups --state new   # of the newest one there
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `backup` and `restore`."""
    making = commands.add_parser(
        "backup",
        help="copy the database into one file while gateways go on",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    making.add_argument("target", type=Path, metavar="FILE", help="or a folder that is there")
    making.add_argument(
        "--keep", type=int, metavar="N", help="of a folder: only the newest; default: all"
    )
    add_database_options(making)
    making.set_defaults(run=_make)
    restoring = commands.add_parser(
        "restore",
        help="fill an empty database with a backup",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    restoring.add_argument(
        "source", type=Path, metavar="FILE", help="or a folder, of which the newest is taken"
    )
    add_database_options(restoring)
    restoring.set_defaults(run=_restore)


def _make(arguments: argparse.Namespace) -> int:
    if arguments.keep is not None and arguments.keep < 1:
        raise ConfigError(f"--keep is {arguments.keep}: give at least 1, the backup made now")
    folder, target = arguments.target, arguments.target
    if folder.is_dir():
        target = folder / f"gateway-{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}.backup"
    elif arguments.keep:
        raise ConfigError(f"--keep is for a folder, {folder} is none: make it, or leave --keep out")
    back_up(database_url(arguments) or state_url(arguments.state), target)
    for old in sorted(folder.glob(_FILES))[: -arguments.keep] if arguments.keep else ():
        old.unlink()
    print(f"{target}: {target.stat().st_size} bytes")
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    source: Path = arguments.source
    if source.is_dir():
        source = max(source.glob(_FILES), default=source / _FILES)
    url = database_url(arguments) or state_url(arguments.state)
    restore(url, source)
    database = upgraded_database(url, arguments.state)
    try:
        with database.session(read_only=True) as session:
            statement = select(func.count(UsageRow.id), func.max(UsageRow.started))
            num_rows, newest = session.execute(statement).one()
    finally:
        database.close()
    told = f", the newest begun {newest:%Y-%m-%d %H:%M:%S} UTC" if newest else ""
    print(f"{source}: {num_rows} requests{told}")
    return 0
