"""The one thread that writes: group commit, and the user's interactive transactions.

Whatever is queued is committed together: one BEGIN IMMEDIATE, each function in its own savepoint, one fsync,
and results handed back only after the COMMIT. A function that fails undoes only its own part. An
interactive transaction has the thread for itself; it is ended here, by this thread, when its time is over,
so that a stalled loop cannot keep the write lock from the other processes.
"""

# apsw's stubs speak of ctypes without importing it.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import threading
import time
from copy import copy
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import apsw
import trio

from ._errors import NotOpen, StoreError, StoreUnavailable, TransactionTimeout
from ._port import Call, Port
from ._sqlite_file import LINK_BROKEN, Link, Turn, store_error

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 512  # functions per commit at most: bounds how long one commit keeps others waiting


class Session:
    """An interactive transaction as the thread sees it: opened by `opening`, then fed by its own inbox."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.opening: Call[None] = Call(_nothing)
        self.inbox: SimpleQueue[tuple[Literal["run", "commit", "rollback"], Call[Any]]] = SimpleQueue()
        self.over: StoreError | None = None  # why nothing more is served; written under the lock
        self.broken: BaseException | None = None  # an error after which the connection is to be closed
        self.lock = threading.Lock()

    def send(self, verb: Literal["run", "commit", "rollback"], call: Call[Any]) -> None:
        """For the loop. Raises if the thread has ended the session, which it may do at any time."""
        with self.lock:
            if self.over is not None:
                raise self.over
            self.inbox.put((verb, call))


def _nothing(_connection: apsw.Connection) -> None:
    """What an opening runs."""


class Writer:
    """Owns the write connection and its thread; asked by putting calls and sessions into `inbox`."""

    def __init__(
        self,
        port: Port,
        link: Link,
        path: str,
        *,
        turn: Turn,
        prepare: Callable[[apsw.Connection], None],
        stamp: Callable[[apsw.Connection], None],
    ) -> None:
        self.inbox: SimpleQueue[Call[Any] | Session | None] = SimpleQueue()
        self.ended = trio.Event()
        self._inside = False  # a function is running
        self.stale = False  # set by the loop: `prepare` is needed again
        self._refused = False
        self.writes = self.commits = self.transactions = self.outages = 0
        self._port = port
        self._link = link
        self._path = path
        self._turn = turn
        self._prepare = prepare  # brings a new connection's file up to date: schema and clock
        self._stamp = stamp  # adds the clock's row to a transaction that has changed something
        self._thread = threading.Thread(target=self._main, name=f"holdfast-writer {path}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def refuse(self) -> None:
        """Write nothing from now on; for any thread that then writes what must be the last.

        It has to hold the write lock for that, and so has this thread when it looks whether it is refused: whatever is
        still written comes before.
        """
        self._refused = True

    def join(self) -> None:
        """Wait for the end of the thread, after None was put into the inbox and what was before it is done."""
        self._thread.join()

    # -- the thread --------------------------------------------------------------------------------

    def _main(self) -> None:
        rest: Session | None
        while True:
            batch: list[Call[Any]] = []
            rest = None
            item = self.inbox.get()
            try:
                while isinstance(item, Call):
                    batch.append(item)
                    if len(batch) == BATCH:
                        break
                    item = self.inbox.get_nowait()
                if isinstance(item, Session):
                    rest = item
            except Empty:
                item = batch[-1]
            if batch:
                self._serve_batch(batch)
            if rest is not None:
                self._serve_session(rest)
            if item is None:
                self._link.close()
                self._port.post(self.ended.set)
                return

    def _connection(self) -> apsw.Connection:
        """The connection, ready to use. Raises StoreError, or what the preparation raised."""
        fresh = not self._link.connected
        connection = self._link.get()
        try:
            self._link.verify()
            if fresh:
                # A function that commits by itself would end the others' transaction, too: its COMMIT fails.
                connection.set_commit_hook(lambda: self._inside)
            if fresh or self.stale:
                self.stale = False  # before, so that what is added meanwhile is not forgotten
                self._prepare(connection)
        except (StoreError, apsw.Error) as error:
            self.stale = True
            told = error if isinstance(error, StoreError) else self._told(error)
            if isinstance(told, StoreUnavailable):
                self._link.broke(told)
            elif fresh:
                self._link.close()  # not prepared, so not to be used; the next call tries again
            raise told from error
        return connection

    def _check_not_refused(self) -> None:
        if self._refused:
            raise NotOpen("the process is about to exit: all that it held was given back")

    def _told(self, error: BaseException) -> BaseException:
        return store_error(error, self._path) or error

    def _note(self, error: BaseException) -> None:
        """Close the connection if the error means that it cannot be trusted any more."""
        if isinstance(error, LINK_BROKEN) and (told := store_error(error, self._path)):
            self.outages += 1
            self._link.broke(told)

    # -- group commit ------------------------------------------------------------------------------

    def _serve_batch(self, batch: list[Call[Any]]) -> None:
        calls = self._port.begin(batch)
        if not calls:
            return
        self.writes += len(calls)
        if not self._commit(calls):
            # The whole transaction was rolled back because of one of them: each on its own, then.
            for call in calls:
                self._commit([call])
        self._port.deliver(calls)

    def _commit(self, calls: list[Call[Any]]) -> bool:
        """One transaction for all; their results are set. False if it has to be repeated one by one."""
        alone = len(calls) == 1
        connection: apsw.Connection | None = None
        try:
            connection = self._connection()
            self._turn.wait()
            connection.execute("BEGIN IMMEDIATE")
            self._check_not_refused()
            before = connection.total_changes()
            for call in calls:
                self._run(connection, call, savepoint=not alone)
                if not connection.in_transaction:
                    return alone
            if connection.total_changes() != before:
                self._stamp(connection)
                self.commits += 1
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - told to those who asked
            # SQLite may have rolled back by itself (disk full, I/O error).
            if connection is not None and connection.in_transaction:
                _quietly(connection, "ROLLBACK")
            self._note(error)
            if not alone and isinstance(error, (apsw.FullError, apsw.ConstraintError)):
                return False
            told = self._told(error)
            for call in calls:
                call.raised(copy(told) if isinstance(told, StoreError) else told)  # each raises its own
            return True
        self._link.worked()
        return True

    def _run(self, connection: apsw.Connection, call: Call[Any], *, savepoint: bool) -> None:
        """Run one function and note its result; undo its part if it fails."""
        if savepoint:
            connection.execute("SAVEPOINT hf")
        self._inside = True
        try:
            call.returned(call.fn(connection))
        except BaseException as error:
            self._inside = False
            if isinstance(error, LINK_BROKEN):
                raise
            call.raised(self._told(error))
            if not connection.in_transaction:
                if isinstance(error, apsw.ConstraintError):
                    call.raised(StoreError("a function must not end the transaction it is run in"))
                return
            if savepoint:
                connection.execute("ROLLBACK TO hf")
                connection.execute("RELEASE hf")
            else:
                connection.execute("ROLLBACK")
            return
        finally:
            self._inside = False
        if not connection.in_transaction:
            call.raised(StoreError("a function must not end the transaction it is run in"))
        elif savepoint:
            connection.execute("RELEASE hf")

    # -- interactive transactions --------------------------------------------------------------------

    def _serve_session(self, session: Session) -> None:
        if not self._port.begin([session.opening]):
            return
        self.transactions += 1
        try:
            connection = self._connection()
            self._turn.wait()
            connection.execute("BEGIN IMMEDIATE")
        except Exception as error:  # noqa: BLE001 - told to the one who asked
            self._note(error)
            session.opening.raised(self._told(error))
            self._port.deliver([session.opening])
            return
        session.opening.returned(None)
        deadline = time.monotonic() + session.timeout
        self._port.deliver([session.opening])
        last = self._converse(connection, session, deadline)
        connection.set_progress_handler(None)
        if connection.in_transaction:
            _quietly(connection, "ROLLBACK")
        if session.broken is not None:
            self._note(session.broken)
        with session.lock:
            session.over = _late(session) if last is None else NotOpen("this transaction has ended")
        if last is not None:
            self._port.deliver([last])
        self._refuse_rest(session)

    def _converse(self, connection: apsw.Connection, session: Session, deadline: float) -> Call[Any] | None:
        """Serve the session until commit or rollback, which is given back; None when its time is over."""
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
        before = connection.total_changes()
        while True:
            try:
                verb, call = session.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                return None
            if not self._port.begin([call]):
                continue
            try:
                if verb != "rollback":
                    _check_open(connection)
                if verb == "run":
                    self._run(connection, call, savepoint=True)
                    if time.monotonic() > deadline:
                        call.raised(_late(session))
                    self._port.deliver([call])
                    continue
                connection.set_progress_handler(None)
                self._end(connection, verb, changed=connection.total_changes() != before)
                call.returned(None)
            except Exception as error:  # noqa: BLE001 - told to the one who asked
                session.broken = error
                call.raised(self._told(error))
                if verb == "run":
                    self._port.deliver([call])
                    continue
            return call

    def _end(self, connection: apsw.Connection, verb: str, *, changed: bool) -> None:
        if verb == "commit":
            if changed:
                self._stamp(connection)
                self.commits += 1
            connection.execute("COMMIT")
            self._link.worked()
        elif connection.in_transaction:
            connection.execute("ROLLBACK")

    def _refuse_rest(self, session: Session) -> None:
        """Answer what was sent after the end; `over` is set, so nothing more comes."""
        refused: list[Call[Any]] = []
        while True:
            try:
                verb, call = session.inbox.get_nowait()
            except Empty:
                break
            for begun in self._port.begin([call]):
                if verb == "rollback":
                    begun.returned(None)
                else:
                    begun.raised(session.over or NotOpen("this transaction has ended"))
                refused.append(begun)
        self._port.deliver(refused)


def _check_open(connection: apsw.Connection) -> None:
    if not connection.in_transaction:
        raise StoreError("an earlier error has rolled back this transaction")


def _late(session: Session) -> TransactionTimeout:
    return TransactionTimeout(f"the transaction took longer than {session.timeout:g} s; rolled back")


def _quietly(connection: apsw.Connection, sql: str) -> None:
    try:
        connection.execute(sql)
    except apsw.Error:  # the reason for the rollback is what is told
        pass
