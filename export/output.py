"""Where a stage's words go: results to stdout, progress to stderr."""

import json
import sys
from collections.abc import Mapping


def print_values(values: Mapping[str, object], as_json: bool) -> None:
    """One value a line, or one JSON object."""
    if as_json:
        print(json.dumps(dict(values)))
        return
    for name, value in values.items():
        print(f"{name:<22}", f"{value:.6g}" if isinstance(value, float) else value)


def log(line: str) -> None:
    """One line of progress."""
    print(line, file=sys.stderr, flush=True)
