"""The thread that reads: snapshots on request, and watching for commits of any process.

While somebody watches, it asks `PRAGMA data_version` every few milliseconds, which SQLite answers from shared
memory, and runs the watchers' probes only when something was committed or their time has come. While nobody
watches it sleeps.
"""

# apsw's stubs speak of ctypes without importing it.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import threading
import time
from copy import copy
from math import inf
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import apsw
import trio

from ._errors import NotOpen, StoreError
from ._guard import Due
from ._port import Call, Port
from ._sqlite_file import LINK_BROKEN, Link, store_error

if TYPE_CHECKING:
    from collections.abc import Callable


class Watch(Call[None]):
    """Waits until its probe says 0 or less; `due` is when the probe wants to be asked again (engine time)."""

    __slots__ = ("due", "probe")

    def __init__(self, probe: Callable[[apsw.Connection, float], float]) -> None:
        super().__init__(_nothing)
        self.probe = probe
        self.due = -inf


def _nothing(_connection: apsw.Connection) -> None:
    """A watch runs its probe instead."""


class Reader:
    """Owns the read connection and its thread."""

    def __init__(self, port: Port, link: Link, path: str, *, now: Callable[[], float], poll: float) -> None:
        self.inbox: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self.due = Due()  # of the next poll, for the guard
        self.ended = trio.Event()
        self._port = port
        self._link = link
        self._path = path
        self._now = now
        self._poll = poll
        self._watches: list[Watch] = []
        self._version: object = None
        self._thread = threading.Thread(target=self._main, name=f"holdfast-reader {path}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _main(self) -> None:
        while True:
            try:
                item = self.inbox.get(timeout=self._pause())
            except Empty:
                pass
            else:
                if item is None:
                    self._stop()
                    return
                if isinstance(item, Watch):
                    self._watches.append(item)
                else:
                    self._serve(item)
            if self._watches:
                self._look()

    def _stop(self) -> None:
        self.due.at = inf
        self._link.close()
        told = NotOpen("the engine was closed")
        for watch in self._watches:
            watch.raised(told)
        self._port.deliver(self._port.begin(self._watches))
        self._port.post(self.ended.set)

    def _pause(self) -> float | None:
        if not self._watches:
            self.due.at = inf
            return None
        self.due.at = time.monotonic() + self._poll
        return self._poll

    def _connection(self) -> apsw.Connection:
        if not self._link.connected:
            self._version = None
            self._link.get().pragma("query_only", 1)
        connection = self._link.get()
        try:
            self._link.verify()
        except StoreError as error:
            self._link.broke(error)
            raise
        return connection

    def _failed(self, error: Exception) -> Exception:
        told = store_error(error, self._path)
        if told is not None and isinstance(error, LINK_BROKEN):
            self._link.broke(told)
        return told or error

    def _serve(self, call: Call[Any]) -> None:
        begun = self._port.begin([call])
        if not begun:
            return
        try:
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                call.returned(call.fn(connection))
            except apsw.ReadOnlyError:
                raise StoreError("a read function tried to write: use write()") from None
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._link.worked()
        except Exception as error:  # noqa: BLE001 - told to the one who asked
            call.raised(self._failed(error))
        self._port.deliver(begun)

    def _look(self) -> None:
        """Ask the probes whose answer may have changed."""
        watches = [watch for watch in self._watches if watch.state == "queued"]
        ready: list[Call[Any]] = []
        try:
            connection = self._connection()
            version = connection.pragma("data_version")
            now = self._now()
            changed = version != self._version
            asked = [watch for watch in watches if changed or watch.due <= now]
            if asked:
                connection.execute("BEGIN")
                try:
                    ready = [watch for watch in asked if self._ask(watch, connection, now)]
                finally:
                    connection.execute("ROLLBACK")
            self._version = version
            self._link.worked()
        except Exception as error:  # noqa: BLE001 - told to those who watch
            told = self._failed(error)
            for watch in watches:
                watch.raised(copy(told))
            ready = list(watches)
        done = self._port.begin(ready)
        self._watches = [watch for watch in watches if watch.state == "queued"]
        self._port.deliver(done)
        self._port.guard.poke()  # the loop may have stepped aside for this look

    def _ask(self, watch: Watch, connection: apsw.Connection, now: float) -> bool:
        """True if the watch is over: its condition holds, or its probe failed."""
        try:
            wait = watch.probe(connection, now)
        except LINK_BROKEN:
            raise
        except Exception as error:  # noqa: BLE001 - told to the one who watches
            watch.raised(store_error(error, self._path) or error)
            return True
        watch.due = now + wait
        watch.returned(None)
        return wait <= 0
