"""One Python file in; its text, or the reason to leave it out, out.

Knows nothing of the file's tree, of its licence or of other files.
"""

import ast
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from training.credentials import secret_kind


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a file is not in the corpus; never part of what it says."""

    reason: str


UNREADABLE = Drop("unreadable")
TOO_LARGE = Drop("too large")
EMPTY = Drop("empty")
BINARY = Drop("binary")
NOT_UTF8 = Drop("not UTF-8")
GENERATED = Drop("generated")
MINIFIED = Drop("minified")
MOSTLY_DATA = Drop("mostly data")
DOES_NOT_PARSE = Drop("does not parse")

# Limits of the CodeParrot corpus (huggingface.co/codeparrot): beyond them stand packed scripts and
# tables of numbers rather than code that somebody wrote.
MAX_LINE_CHARS = 1000
MAX_MEAN_LINE_CHARS = 100
MIN_LINES_FOR_MEAN = 5
MIN_ALPHANUMERIC_SHARE = 0.25

_GENERATED_NAMES = re.compile(r".*(?:_pb2|_pb2_grpc|\.gen|_generated)\.py")
_GENERATED_HEAD_CHARS = 2000
# In a comment, or where a docstring opens: code that generates may well speak of it elsewhere.
_GENERATED_MARK = re.compile(
    r"^(?:#|['\"]{3}).*(?:@generated\b|\bDO NOT (?:EDIT|MODIFY)\b"
    r"|(?i:\b(?:auto-?|automatically )generated\b|\b(?:code|file) generated (?:by|from)\b))"
    r"|^# *(?i:generated (?:by|from)\b)",
    re.MULTILINE,
)


def read_source(path: Path, max_bytes: int) -> str | Drop:
    """The file's text with plain newlines, or why it cannot be used; no file makes it raise."""
    raw = _read(path, max_bytes)
    if isinstance(raw, Drop):
        return raw
    if b"\0" in raw:
        return BINARY
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return NOT_UTF8
    if not text.strip():
        return EMPTY
    return _drop(path.name, text) or text


def _read(path: Path, max_bytes: int) -> bytes | Drop:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            return UNREADABLE
        if status.st_size > max_bytes:
            return TOO_LARGE
        return path.read_bytes()
    except OSError:
        return UNREADABLE


def _drop(name: str, text: str) -> Drop | None:
    """The first reason against a text, cheapest test first."""
    head = text[:_GENERATED_HEAD_CHARS]
    if _GENERATED_NAMES.fullmatch(name) or _GENERATED_MARK.search(head):
        return GENERATED
    lines = text.splitlines()
    if max(map(len, lines)) > MAX_LINE_CHARS or _mean_line_chars(lines) > MAX_MEAN_LINE_CHARS:
        return MINIFIED
    if sum(map(str.isalnum, text)) < MIN_ALPHANUMERIC_SHARE * len(text):
        return MOSTLY_DATA
    kind = secret_kind(text)
    if kind is not None:
        return Drop(f"secret: {kind}")
    return None if _parses(text) else DOES_NOT_PARSE


def _mean_line_chars(lines: list[str]) -> float:
    """0 for a few lines, whose mean says nothing: a one-line docstring may be long."""
    return sum(map(len, lines)) / len(lines) if len(lines) >= MIN_LINES_FOR_MEAN else 0.0


def _parses(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old string escapes warn, and are none of our business
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True
