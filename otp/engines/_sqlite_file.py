"""Opening the database file: settings, checks, and what SQLite's errors mean for us.

The file is never opened by other means than SQLite's own: closing any descriptor of it would drop the
locks of the whole process. Looking at it by stat is harmless. Its permissions are left as they are.
"""

# apsw's stubs speak of ctypes without importing it.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from copy import copy
from pathlib import Path

import apsw
from attrs import frozen

from ._errors import StoreError, StoreFull, StoreUnavailable

log = logging.getLogger("otp.engines")

WAL_RESET_FIXED = (3, 51, 3)
LINK_BROKEN = (apsw.IOError, apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError,
               apsw.NoMemError, apsw.NoLFSError, apsw.PermissionsError)  # fmt: skip


def store_error(error: BaseException, path: str) -> StoreError | None:
    """What `error` means for the caller; None if it is the statement's own fault (SQL, constraint)."""
    found: StoreError | None = None
    match error:
        case apsw.FullError():
            found = StoreFull(f"{path}: the disk (or the file's size limit) is full; make room, then it goes on")
        case apsw.BusyError() | apsw.LockedError():
            found = StoreUnavailable(f"{path}: another program has held the write lock for too long")
        case apsw.NotADBError():
            found = StoreUnavailable(f"{path}: is not a SQLite database; give another path", retry=False)
        case apsw.CorruptError():
            found = StoreUnavailable(
                f"{path}: is damaged ({error}); stop all programs, restore a backup or use `.recover`", retry=False
            )
        case apsw.ReadOnlyError():
            found = StoreUnavailable(
                f"{path}: cannot be written; check the rights of the file and its folder", retry=False
            )
        case apsw.CantOpenError():
            found = StoreUnavailable(f"{path}: cannot be opened; check that the file and its folder are there")
        case apsw.IOError() | apsw.NoMemError() | apsw.PermissionsError() | apsw.NoLFSError():
            found = StoreUnavailable(f"{path}: {type(error).__name__}: {error}")
        case _:
            pass
    if found is not None:
        found.__cause__ = error
    return found


@frozen
class DatabaseFile:
    """How to connect to one database file; shared by the threads of an engine."""

    path: str
    synchronous: str
    busy_timeout: float
    open_timeout: float

    def precheck(self) -> None:
        """The usual mistakes, in clear words; SQLite would only say "unable to open database file"."""
        path = Path(self.path)
        folder = path.parent
        problem: str | None = None
        if not folder.is_dir():
            problem = f"the folder {folder} does not exist; create it (in a URL an absolute path has four slashes)"
        elif path.is_dir():
            problem = "is a folder; give the path of a file"
        elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
            problem = "is not readable and writable for this user"
        elif not os.access(folder, os.W_OK | os.X_OK):
            problem = f"the folder {folder} is not writable, where SQLite keeps -wal and -shm beside the file"
        if problem:
            raise StoreUnavailable(f"{self.path}: {problem}", retry=False)

    def create(self) -> apsw.Connection:
        """The first connection: makes the file if there is none, switches it to WAL, logs the settings."""
        self.precheck()
        connection = self._connect(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, self.busy_timeout)
        try:
            self._to_wal(connection)
            self._settle(connection)
        except BaseException as error:
            connection.close()
            raise store_error(error, self.path) or error from error
        self._announce()
        return connection

    def connect(self, *, synchronous: str | None = None, busy_timeout: float | None = None) -> apsw.Connection:
        """A further connection, or one after an outage: never makes a file, so that lost data is noticed."""
        connection = self._connect(
            apsw.SQLITE_OPEN_READWRITE, self.busy_timeout if busy_timeout is None else busy_timeout
        )
        try:
            self._settle(connection, synchronous)
            if connection.pragma("journal_mode") != "wal":
                self._to_wal(connection)
        except BaseException as error:
            connection.close()
            raise store_error(error, self.path) or error from error
        return connection

    def identity(self) -> tuple[int, int] | None:
        """Which file the path leads to at the moment."""
        try:
            found = Path(self.path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _connect(self, flags: int, busy_timeout: float) -> apsw.Connection:
        try:
            connection = apsw.Connection(self.path, flags=flags)
        except apsw.Error as error:
            raise store_error(error, self.path) or error from error
        connection.set_busy_handler(_Patience(busy_timeout))
        return connection

    def _settle(self, connection: apsw.Connection, synchronous: str | None = None) -> None:
        connection.pragma("synchronous", synchronous or self.synchronous)
        if sys.platform == "darwin" and self.synchronous != "normal":
            connection.pragma("fullfsync", 1)  # there a plain fsync stops at the drive's cache
            connection.pragma("checkpoint_fullfsync", 1)
        connection.pragma("foreign_keys", 1)
        connection.pragma("journal_size_limit", 16 * 1024 * 1024)

    def _to_wal(self, connection: apsw.Connection) -> None:
        """Switch to WAL. With many processes starting at once SQLite says "busy" without waiting."""
        give_up = time.monotonic() + self.open_timeout
        while True:
            try:
                mode = connection.pragma("journal_mode", "wal")
            except (apsw.BusyError, apsw.LockedError):
                if time.monotonic() > give_up:
                    raise
            else:
                if mode == "wal":
                    return
                raise StoreUnavailable(
                    f"{self.path}: journal mode stays {mode!r}; the file must be on a local disk that "
                    "supports WAL (no network file system)",
                    retry=False,
                )
            time.sleep(random.uniform(0.001, 0.02))

    def _announce(self) -> None:
        version = apsw.sqlite_lib_version()
        kept = (
            "every commit survives a power cut"
            if self.synchronous != "normal"
            else "a power cut may take the last commits (a crash of the program takes none)"
        )
        level = logging.WARNING if self.synchronous == "normal" else logging.INFO
        log.log(level, "%s: SQLite %s, journal_mode=wal, synchronous=%s: %s", self.path, version,
                self.synchronous, kept)  # fmt: skip
        if tuple(int(part) for part in version.split(".")[:3]) < WAL_RESET_FIXED:
            log.warning(
                "%s: SQLite %s can damage a WAL database that several processes use; install a newer apsw "
                "(SQLite 3.51.3 or later)", self.path, version,
            )  # fmt: skip


class _Patience:
    """Waits for the write lock, asking about every millisecond.

    SQLite's own busy timeout comes down to one try in 100 ms. Nobody queues for the lock, so among programs
    that write all the time a waiter has to ask often to meet one of the short gaps.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._begun = 0.0

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if not tries:
            self._begun = now
        if now - self._begun > self._limit:
            return False
        time.sleep(random.uniform(0.0002, 0.0005 + min(0.0015, tries * 0.0002)))
        return True


class Turn:
    """Lets the heartbeat go before the own writer, which under load leaves no gap for it.

    `with turn:` around the heartbeat's transaction; `turn.wait()` before each of the writer's.
    """

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()

    def __enter__(self) -> None:
        self._free.clear()

    def __exit__(self, *_: object) -> None:
        self._free.set()

    def wait(self) -> None:
        self._free.wait(timeout=1.0)


class Link:
    """One thread's connection, reopened after an outage, but not more often than its backoff allows.

    With `create` the first connection makes the file; later ones never do.
    """

    def __init__(
        self,
        file: DatabaseFile,
        *,
        create: bool = False,
        synchronous: str | None = None,
        busy_timeout: float | None = None,
    ) -> None:
        self._create = create
        self._file = file
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._connection: apsw.Connection | None = None
        self._backoff = 0.0
        self._not_before = 0.0
        self._why: StoreError | None = None
        self._identity: tuple[int, int] | None = None
        self._verified = 0.0

    def verify(self, *, every: float = 1.0) -> None:
        """Raise StoreUnavailable if the path leads to another file than the one we have open.

        Otherwise we would go on writing into a deleted file, while others work on its successor.
        """
        now = time.monotonic()
        if now - self._verified < every:
            return
        self._verified = now
        if self._connection is not None and self._file.identity() != self._identity:
            raise StoreUnavailable(f"{self._file.path}: the file was deleted or replaced while it was open")

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def get(self) -> apsw.Connection:
        """The connection; opens it if needed. Raises StoreError, at once while backing off."""
        if self._connection is None:
            if self._why is not None and time.monotonic() < self._not_before:
                raise copy(self._why)
            try:
                self._connection = self._connect()
                self._identity = self._file.identity()
            except StoreError as error:
                self.broke(error)
                raise
        return self._connection

    def _connect(self) -> apsw.Connection:
        if self._create:
            connection = self._file.create()
            self._create = False
            return connection
        self._file.precheck()
        return self._file.connect(synchronous=self._synchronous, busy_timeout=self._busy_timeout)

    def worked(self) -> None:
        """An operation succeeded: the outage is over."""
        self._backoff, self._why = 0.0, None

    def broke(self, why: StoreError) -> None:
        """Close, and try again later: 50 ms first, 2 s at most."""
        self.close()
        self._why = why
        self._backoff = min(2.0, self._backoff * 2 or 0.05)
        self._not_before = time.monotonic() + self._backoff * random.uniform(0.8, 1.2)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except apsw.Error as error:  # the file may be gone; there is nothing left to save
                log.debug("%s: closing: %s", self._file.path, error)
