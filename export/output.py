"""Where a stage's words go: results to stdout, progress to stderr; and how failures are worded."""

import errno
import json
import sys
from collections.abc import Mapping

MENDS = {
    errno.ENOSPC: "free some space, or choose another disk (--repository, TMPDIR)",
    errno.EDQUOT: "free some space, or choose another disk (--repository, TMPDIR)",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EACCES: "choose a folder that you may write, or get the right to",
    errno.EPERM: "choose a folder that you may write, or get the right to",
    errno.EROFS: "choose a folder that can be written",
}


def describe_error(error: Exception) -> str:
    """One line; what the operating system refused gets its mend."""
    line = " ".join(str(error).split())
    mend = MENDS.get(error.errno or 0) if isinstance(error, OSError) else None
    return f"{line}: {mend}" if mend else line


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
