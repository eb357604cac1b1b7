"""The command line's options that say where the database is, shared by all who open it.

Comes in: parsed options and the environment. Goes out: an upgraded Database.
"""

import argparse
import os
from pathlib import Path

from gateway.storage.database import Database

DATABASE_VARIABLE = "GATEWAY_DATABASE"
STATE_VARIABLE = "GATEWAY_STATE"
STATE_FOLDER = Path("gateway-state")
_FILE = "gateway.sqlite"


def add_database_options(
    parser: "argparse.ArgumentParser | argparse._ArgumentGroup",
) -> None:
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
        default=Path(os.environ.get(STATE_VARIABLE) or STATE_FOLDER),
        help=f"folder of the gateway's own files; default: the environment's {STATE_VARIABLE}, "
        f"or {STATE_FOLDER}",
    )


def database_url(arguments: argparse.Namespace) -> str | None:
    """The URL that was given, if any."""
    return arguments.database or os.environ.get(DATABASE_VARIABLE) or None


def open_database(arguments: argparse.Namespace) -> Database:
    """The database of the options, upgraded; raises ConfigError and Unavailable."""
    return upgraded_database(database_url(arguments), arguments.state)


def upgraded_database(url: str | None, state: Path) -> Database:
    """The database at `url`, else SQLite in the folder `state`."""
    database = Database(url or state_url(state))
    database.upgrade()
    return database


def state_url(state: Path) -> str:
    """The URL of SQLite in the folder `state`, which is made."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"sqlite:///{state / _FILE}"
