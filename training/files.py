"""Bytes in; a whole file or none, and its SHA-256, out.

A file is written beside its place and moved there once it is complete, so that a full disk or a
signal never leaves half of one. Knows nothing of what the bytes mean.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from training.errors import CorpusError


class HashedFile:
    """A file being written; ``sha256`` is of all that was written so far."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        with _explained(self._path):
            self._file.write(data)
        self._digest.update(data)

    def flush(self) -> None:
        with _explained(self._path):
            self._file.flush()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[HashedFile]:
    """Write ``path``, which appears when the block ends well; raises CorpusError when it cannot."""
    part = path.with_name(f"{path.name}.part")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("wb")
    try:
        yield HashedFile(path, file)
        with _explained(path):
            file.close()
            part.replace(path)
    finally:
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"cannot write {path} ({error.strerror}): free space there or name another folder"
        ) from error


def write_json(path: Path, content: object) -> None:
    """Indented, keys in the order given."""
    with writing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
