"""The command line's options that say where the database is, shared by all who open it.

Comes in: parsed options and the environment. Goes out: an upgraded Database.
"""

import argparse
import os
from pathlib import Path

from gateway.storage.database import Database

DATABASE_VARIABLE = "GATEWAY_DATABASE"
STATE_FOLDER = Path("gateway-state")
_FILE = "gateway.sqlite"


def add_database_options(parser: argparse.ArgumentParser) -> None:
    """Add --database and --state."""
    parser.add_argument(
        "--database",
        metavar="URL",
        help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME; default: the environment's "
        f"{DATABASE_VARIABLE}, which keeps a password out of sight, or {_FILE} in --state",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        default=STATE_FOLDER,
        help="folder of the gateway's own files; default: %(default)s",
    )


def open_database(arguments: argparse.Namespace) -> Database:
    """The database of the options, upgraded; raises ConfigError and Unavailable."""
    url = arguments.database or os.environ.get(DATABASE_VARIABLE)
    if not url:
        arguments.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        url = f"sqlite:///{arguments.state / _FILE}"
    database = Database(url)
    database.upgrade()
    return database
