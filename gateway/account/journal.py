"""A crash-safe file of rows: written before the work begins and before its last byte is sent.

Comes in: rows, from the one thread that serves. Goes out: the rows again, for the one that drains
them; what was read is trimmed away. A line is in the kernel's hands when `begin` or `finish`
returns, so a killed process loses none; a thread syncs every `SYNC_EVERY_S`, which is what a power
failure may cost. Knows no database.

On a disk that is full `begin` refuses, so no new work is done; what ends meanwhile is kept in
memory and written as soon as there is room.
"""

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from gateway.account.rows import Row, from_line, to_line
from gateway.errors import ConfigError, Unavailable

SYNC_EVERY_S = 0.05
RETRY_AFTER_S = 5.0
TRIM_BYTES = 256 * 1024
SUFFIX = ".jsonl"
_LOG = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class Unread:
    """Rows that were not drained yet, and where the file goes on behind them."""

    rows: tuple[Row, ...]
    end: int


class Journal:
    """One process's file, locked as long as it lives: see gateway.account.recovery."""

    def __init__(self, folder: Path, trim_bytes: int = TRIM_BYTES) -> None:
        """Raises ConfigError when there can't be files in the folder."""
        self._folder = folder
        self._trim_bytes = trim_bytes
        self._run = f"{time.time_ns()}-{os.getpid()}"
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # of all below
        self._sync_lock = threading.Lock()  # a file isn't closed while it is synced
        self._open: dict[str, Row] = {}
        self._kept: list[bytes] = []
        self._size = self._read_to = 0
        self._is_dirty = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path, self._file = self._create()
            self._sync_folder()
        except OSError as error:
            raise ConfigError(
                f"the journal can't be written in {folder} ({error.strerror}): give --state a "
                "folder that this user may write"
            ) from None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sync_on, name="journal", daemon=True)
        self._thread.start()

    @property
    def num_unread_bytes(self) -> int:
        """How much waits to be drained."""
        return self._size - self._read_to

    def begin(self, row: Row) -> None:
        """Note a request before its work begins; raises Unavailable when that can't be written."""
        with self._lock:
            try:
                self._append(to_line(row))
            except OSError as error:
                raise _unwritable(error) from None
            self._open[row.id] = row

    def finish(self, row: Row) -> None:
        """Note how a request ended; never raises, for its tokens are written already."""
        with self._lock:
            self._open.pop(row.id, None)
            line = to_line(row)
            try:
                self._append(line)
            except OSError as error:
                if not self._kept:
                    _LOG.error("the journal can't be written: %s", error)
                self._kept.append(line)

    def check(self) -> None:
        """Raise Unavailable while lines can't be written."""
        if self._kept:
            with self._lock:
                try:
                    self._append(b"")
                except OSError as error:
                    raise _unwritable(error) from None

    def is_open(self, request_id: str, key_id: str) -> bool:
        """Whether this key's request is under way."""
        row = self._open.get(request_id)
        return row is not None and row.key_id == key_id

    def unread(self, max_bytes: int) -> Unread:
        """The next whole lines; a begun row stands for nothing yet and is left out."""
        with self._lock:
            data = os.pread(self._file, min(max_bytes, self._size - self._read_to), self._read_to)
            begin = self._read_to
        whole = data[: data.rfind(b"\n") + 1]
        rows = (from_line(line) for line in whole.splitlines())
        return Unread(tuple(row for row in rows if row and row.is_finished), begin + len(whole))

    def drained(self, unread: Unread) -> None:
        """What `unread` gave is in the database; when that is much, a new file begins without."""
        with self._lock:
            self._read_to = unread.end
            if self._read_to < self._trim_bytes or self.num_unread_bytes > self._trim_bytes:
                return
            rest = os.pread(self._file, self.num_unread_bytes, self._read_to)
            old_path, old_file = self._path, self._file
            try:
                self._path, self._file = self._create(rest)
            except OSError:
                return  # no room: the old one goes on
        with self._sync_lock:
            os.fsync(self._file)
            self._sync_folder()
            old_path.unlink(missing_ok=True)
            os.close(old_file)

    def close(self) -> None:
        """End; the file goes when nothing in it is needed any more."""
        self._closing.set()
        self._thread.join()
        with self._lock:
            if not (self._open or self._kept or self.num_unread_bytes):
                self._path.unlink(missing_ok=True)
            os.close(self._file)

    def _append(self, line: bytes) -> None:
        """All or nothing of it, and before it what had to wait."""
        data = b"".join((*self._kept, line)) if self._kept else line
        written = 0
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise _no_room()
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._kept.clear()
        self._size += written
        self._is_dirty = True

    def _create(self, rest: bytes = b"") -> tuple[Path, int]:
        """A new file of what is under way and the rest; it has its name once it is locked."""
        path = self._folder / f"{self._run}-{next(self._numbers)}{SUFFIX}"
        unnamed = path.with_suffix(".new")
        file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        begun = b"".join(map(to_line, self._open.values()))
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.write(file, begun + rest) < len(begun + rest):
                raise _no_room()
            unnamed.rename(path)
        except OSError:
            unnamed.unlink(missing_ok=True)
            os.close(file)
            raise
        self._size, self._read_to = len(begun + rest), len(begun)
        return path, file

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _sync_on(self) -> None:
        while not self._closing.wait(SYNC_EVERY_S):
            if self._is_dirty:
                self._is_dirty = False
                with self._sync_lock, contextlib.suppress(OSError):
                    os.fdatasync(self._file)


def _no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _unwritable(error: OSError) -> Unavailable:
    return Unavailable(
        f"the gateway can't write its accounts ({error.strerror or error}): free space on its "
        f"disk, and try again in {RETRY_AFTER_S:.0f} s",
        code="journal_unavailable",
        retry_after_s=RETRY_AFTER_S,
    )
