"""The SQLite engine: apsw in threads, for several processes on one file of one host.

Three threads: one writes (group commit), one reads and watches, one renews leases. The file is in WAL mode, so
readers and the writer do not wait for each other; writers of several processes take turns.
"""

# apsw's stubs speak of ctypes without importing it.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

import apsw
import trio
from attrs import frozen

from ._clock import HostClock, host_clock
from ._engine import Capabilities, Engine, EngineStatistics, Transaction
from ._errors import NotOpen, StoreError, TransactionTimeout
from ._guard import StarvationGuard
from ._options import seconds
from ._port import Call, Port
from ._sqlite_beat import ThreadHeartbeat
from ._sqlite_file import DatabaseFile, Link, Turn
from ._sqlite_reader import Reader, Watch
from ._sqlite_schema import ENGINE, apply, read_offset, stamp
from ._sqlite_writer import Session, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

T = TypeVar("T")

STAMP_EVERY = 1.0


class SqliteTransaction(Transaction):
    """An interactive transaction; its functions and statements run in the writer's thread."""

    def __init__(self, engine: SqliteEngine, port: Port, session: Session) -> None:
        super().__init__(engine)
        self._engine = engine
        self._port = port
        self._session = session

    async def execute(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """One statement with `?` for each of `params`; all its rows. apsw.Error for what is wrong with it."""
        values = cast("tuple[Any, ...]", params)
        return await self.run(lambda connection: _rows(connection, sql, values))

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        return await self._send("run", Call(self._engine.with_tables(fn)))

    async def _send(self, verb: Literal["run", "commit", "rollback"], call: Call[T]) -> T:
        if self._over:
            raise NotOpen("this transaction has ended")
        return await self._port.call(call, lambda call: self._session.send(verb, call))

    async def end(self, verb: Literal["commit", "rollback"]) -> None:
        """For the engine. Shielded: the answer comes soon, and until then the outcome would be unknown."""
        with trio.CancelScope(shield=True):
            await self._send(verb, Call(_nothing))


def _rows(connection: apsw.Connection, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", connection.execute(sql, values).fetchall())


def _nothing(_connection: apsw.Connection) -> None:
    """For calls that only wait for their turn."""


class SqliteEngine(Engine[apsw.Connection]):
    """`sqlite:///jobs.db`: one file, any number of processes on the same host.

    Args:
        path: of the database file; made if it is not there, its folder is not.
        lease, margin, stall_limit: see `Engine`.
        synchronous: "full": every commit survives a power cut; "normal": one may take the last commits.
        busy_timeout: seconds to wait for another process's write before StoreUnavailable.
        poll_interval: seconds between two looks for other processes' commits while somebody watches.
        open_timeout: seconds to go on trying to switch a new file to WAL while others do the same.
        host: the host's clock; for tests.
    """

    kind: ClassVar[str] = "sqlite"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lease: float = 15.0,
        margin: float | None = None,
        stall_limit: float = 5.0,
        synchronous: Literal["full", "normal"] = "full",
        busy_timeout: float = 5.0,
        poll_interval: float = 0.004,
        open_timeout: float = 10.0,
        host: HostClock | None = None,
    ) -> None:
        name = os.fspath(path)
        if not name or "\0" in name:
            raise ValueError(f"path={path!r}: must be the path of a file")
        if name == ":memory:":
            raise ValueError("path=':memory:' has no file that others could open: use memory:// instead")
        if synchronous not in ("full", "normal"):
            raise ValueError(f"synchronous={synchronous!r}: must be 'full' or 'normal'")
        super().__init__(f"sqlite:///{name}", lease=lease, margin=margin, stall_limit=stall_limit)
        self._file = DatabaseFile(
            path=os.path.abspath(name),  # noqa: PTH100 - a later chdir must not lead to another file
            synchronous=synchronous,
            busy_timeout=seconds("busy_timeout", busy_timeout),
            open_timeout=seconds("open_timeout", open_timeout),
        )
        self._poll = seconds("poll_interval", poll_interval)
        self._host = host or host_clock()
        self._offset: float | None = None
        self._stamped = 0.0
        self._dirty = False
        self._inner: _Inner | None = None
        super().schema("engine", ENGINE)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(transactions=True, sql=True, fence="statement", durable=True, shared="host")

    # -- time --------------------------------------------------------------------------------------

    def now(self, connection: apsw.Connection) -> float:  # noqa: ARG002
        return self._now()

    def _now(self) -> float:
        if self._offset is None:
            raise NotOpen(f"{self.url} is not open: engine time is not known yet")
        return self._host.monotonic() + self._offset

    def monotonic(self) -> float:
        return self._host.monotonic()

    def _stamp(self, connection: apsw.Connection) -> None:
        now = self._now()
        if now - self._stamped >= STAMP_EVERY:
            self._stamped = now
            stamp(connection, self._host, now)

    # -- open and close ----------------------------------------------------------------------------

    def _prepare(self, connection: apsw.Connection) -> None:
        apply(connection, dict(self._schemas), self._file.path)
        self._offset = read_offset(connection, self._host)

    async def _open(self) -> ThreadHeartbeat:
        guard = StarvationGuard.join()
        port = Port(guard)
        path = self._file.path
        turn = Turn()
        writer = Writer(
            port,
            Link(self._file, create=True),
            path,
            turn=turn,
            prepare=self._prepare,
            stamp=self._stamp,
        )
        writer.start()
        try:
            await port.call(Call(_nothing), writer.inbox.put)
        except BaseException:
            writer.inbox.put(None)
            with trio.CancelScope(shield=True):
                await writer.ended.wait()
            guard.leave()
            raise
        reader = Reader(port, Link(self._file), path, now=self._now, poll=self._poll)
        reader.start()
        beat = ThreadHeartbeat(
            port,
            # Losing the last renewals in a power cut costs nothing, so they need no fsync.
            Link(self._file, synchronous="normal", busy_timeout=min(1.0, self.lease / 6)),
            path,
            turn=turn,
            extend=self._extend,
            give_back=self._give_back,
            refuse_writes=writer.refuse,
            stamp=self._stamp,
            lease=self.lease,
            margin=self.margin,
            stall_limit=self.stall_limit,
            clock=self.monotonic,
        )
        guard.add_due(reader.due)
        guard.add_due(beat.due)
        self._dirty = False
        self._inner = _Inner(guard=guard, port=port, writer=writer, reader=reader, beat=beat)
        return beat

    async def _close(self) -> None:
        inner, self._inner = self._inner, None
        if inner is None:
            return
        inner.writer.inbox.put(None)
        inner.reader.inbox.put(None)
        inner.guard.begin()
        for part in (inner.beat, inner.reader, inner.writer):
            await part.ended.wait()
            part.join()
        inner.guard.end()
        inner.guard.drop_due(inner.reader.due)
        inner.guard.drop_due(inner.beat.due)
        inner.guard.leave()

    def _parts(self) -> _Inner:
        self._opened()
        assert self._inner is not None
        return self._inner

    def _schema_added(self) -> None:
        if self._inner is not None:
            self._dirty = True
            self._inner.writer.stale = True

    def with_tables(self, fn: Callable[[apsw.Connection], T]) -> Callable[[apsw.Connection], T]:
        """For transactions: `fn`, after the tables that were asked for since the writer has looked last."""
        if not self._parts().writer.stale:
            return fn

        def both(connection: apsw.Connection) -> T:
            apply(connection, dict(self._schemas), self._file.path)
            return fn(connection)

        return both

    async def _settled(self) -> _Inner:
        """For readers: schemas that were added since the engine was opened must be applied first."""
        inner = self._parts()
        while self._dirty:
            self._dirty = False
            try:
                await inner.port.call(Call(_nothing), inner.writer.inbox.put)
            except BaseException:
                self._dirty = True
                raise
            inner = self._parts()  # it may have been closed meanwhile
        return inner

    # -- work --------------------------------------------------------------------------------------

    async def _write(self, fn: Callable[[apsw.Connection], T]) -> T:
        inner = self._parts()
        self._not_in_transaction()
        return await inner.port.call(Call(fn), inner.writer.inbox.put)

    async def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        self._not_in_transaction()
        inner = await self._settled()
        return await inner.port.call(Call(fn), inner.reader.inbox.put)

    async def watch(self, probe: Callable[[apsw.Connection, float], float]) -> None:
        inner = await self._settled()
        await inner.port.call(Watch(probe), inner.reader.inbox.put, counted=False)

    def transaction(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[SqliteTransaction]:
        return self._transaction(self._transaction_timeout(timeout))

    @asynccontextmanager
    async def _transaction(self, timeout: float) -> AsyncGenerator[SqliteTransaction, None]:
        inner = self._parts()
        self._not_in_transaction()
        session = Session(timeout)
        await inner.port.call(session.opening, lambda _: inner.writer.inbox.put(session))
        tx = SqliteTransaction(self, inner.port, session)
        task = self._tx_task = trio.lowlevel.current_task()
        committed = False
        try:
            with trio.move_on_after(timeout) as scope:
                yield tx
            if scope.cancelled_caught:
                raise TransactionTimeout(f"the transaction took longer than {timeout:g} s; rolled back")
            await tx.end("commit")
            committed = True
        finally:
            if not committed:
                with suppress(StoreError):  # ended by the thread already
                    await tx.end("rollback")
            if self._tx_task is task:  # the next one may have been opened before we came here
                self._tx_task = None
            tx.ended(committed=committed)

    def statistics(self) -> EngineStatistics:
        if self._inner is None:
            return EngineStatistics()
        writer, beat = self._inner.writer, self._inner.beat
        return EngineStatistics(
            writes=writer.writes,
            commits=writer.commits,
            transactions=writer.transactions,
            outages=writer.outages,
            **beat.figures(),
        )


@frozen(kw_only=True)
class _Inner:
    """What exists only while the engine is open."""

    guard: StarvationGuard
    port: Port
    writer: Writer
    reader: Reader
    beat: ThreadHeartbeat
