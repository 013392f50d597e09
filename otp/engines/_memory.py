"""The embedded engine without a file: for tests, and for work that need not outlive the process.

It keeps every promise of the protocols but durability. Time is trio's, so virtual time works. Tables
are dicts whose changes are kept in an undo log, which is how its transactions roll back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import trio
from attrs import define, field

from ._engine import Capabilities, Engine, EngineStatistics, Transaction
from ._errors import NotOpen, StoreError, TransactionTimeout
from ._heartbeat import TaskHeartbeat
from ._options import text

if TYPE_CHECKING:
    from ._token import Token

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

Undo = Callable[[], None]


class MemoryTable(MutableMapping[K, V]):
    """A dict whose changes are undone when the transaction is rolled back.

    Rows must be immutable (frozen attrs values): replace, never change in place. A rollback restores
    the content, not the iteration order.
    """

    __slots__ = ("_log", "_rows")

    def __init__(self, log: list[Undo]) -> None:
        self._rows: dict[K, V] = {}
        self._log = log

    def __getitem__(self, key: K) -> V:
        return self._rows[key]

    def __setitem__(self, key: K, row: V) -> None:
        rows = self._rows
        if key in rows:
            old = rows[key]
            self._log.append(lambda: rows.__setitem__(key, old))
        else:
            self._log.append(lambda: rows.__delitem__(key))
        rows[key] = row

    def __delitem__(self, key: K) -> None:
        rows = self._rows
        old = rows.pop(key)
        self._log.append(lambda: rows.__setitem__(key, old))

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class MemoryTables:
    """The connection of the memory engine: named tables, made at their first use."""

    def __init__(self) -> None:
        self._log: list[Undo] = []
        self._tables: dict[str, MemoryTable[Any, Any]] = {}
        self._others: dict[str, Any] = {}

    def table(self, name: str) -> MemoryTable[Any, Any]:
        """The table of that name, empty at first. Names as in the SQL engines (`hf_job`)."""
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = MemoryTable(self._log)
        return found

    def other(self, name: str, make: Callable[[], T]) -> T:
        """An index or the like that is no table (a heap, a sorted list); see `on_rollback`."""
        if name not in self._others:
            self._others[name] = make()
        return cast("T", self._others[name])

    def on_rollback(self, undo: Undo) -> None:
        """Call `undo` if the change just made is rolled back; in reverse order with all others."""
        self._log.append(undo)

    # -- for the store -----------------------------------------------------------------------------

    def mark(self) -> int:
        """Where the log of changes is now."""
        return len(self._log)

    def undo(self, mark: int) -> None:
        """Take back all changes since `mark`."""
        while len(self._log) > mark:
            self._log.pop()()

    def commit(self) -> bool:
        """Forget how to undo. True if anything had changed."""
        changed = bool(self._log)
        self._log.clear()
        return changed


@define(eq=False)
class MemoryStore:
    """What several memory engines share. One trio program at a time may use it."""

    name: str = ""
    """Of a shared store; empty for one that is private or made by hand."""
    tables: MemoryTables = field(factory=MemoryTables)
    """All that it holds."""
    lock: trio.Lock = field(factory=trio.Lock)
    """Held by who is in a transaction."""
    changed: trio.Event = field(factory=trio.Event)
    """Set by the next commit."""
    _run: trio.lowlevel.TrioToken | None = None
    _offset: float = 0.0
    _last: float = 0.0

    def now(self) -> float:
        """Time as trio has it; in a later trio run it goes on from where it was."""
        token = trio.lowlevel.current_trio_token()
        if token is not self._run:
            self._offset = max(0.0, self._last - trio.current_time())
            self._run = token
            # Locks and events of a run that is over may still have waiters that nobody will ever wake.
            self.lock, self.changed = trio.Lock(), trio.Event()
        self._last = max(self._last, trio.current_time() + self._offset)
        return self._last

    def notify(self) -> None:
        """Say that there was a commit."""
        self.changed.set()
        self.changed = trio.Event()


_stores: dict[str, MemoryStore] = {}


def _store(name: str | None) -> MemoryStore:
    if name is None:
        return MemoryStore()
    return _stores.setdefault(text("name", name), MemoryStore(name))


class _MemoryTransaction(Transaction):
    def __init__(self, engine: MemoryEngine) -> None:
        super().__init__(engine)
        self._tables = engine.store.tables

    async def execute(self, sql: str, *params: object) -> list[tuple[Any, ...]]:  # noqa: ARG002
        raise StoreError("the memory engine has no SQL: use engine.write(fn, tx=tx)")

    async def run(self, fn: Callable[[Any], T]) -> T:
        await trio.lowlevel.checkpoint()
        if self._over:
            raise NotOpen("this transaction has ended")
        tables = self._tables
        mark = tables.mark()
        try:
            return fn(tables)
        except BaseException:
            tables.undo(mark)
            raise


class MemoryEngine(Engine[MemoryTables]):
    """`memory://` (private) or `memory://name` (shared in this process, and kept until it ends).

    Args:
        name: of the shared store; None: a private one.
        store: a store made by hand, instead of a name: several engines on it play several processes.
        lease, margin, stall_limit: see `Engine`; a task renews, so a stalled loop stops renewing anyway.

    Attributes:
        store: The store that it is on.
    """

    kind: ClassVar[str] = "memory"

    def __init__(self, name: str | None = None, *, store: MemoryStore | None = None, **options: Any) -> None:
        if name is not None and store is not None:
            raise ValueError("name and store exclude each other")
        super().__init__(f"memory://{name or ''}", **options)
        self.store = _store(name) if store is None else store
        self._counts = {"writes": 0, "commits": 0, "transactions": 0}

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(transactions=True, sql=False, fence="statement", durable=False, shared="process")

    def now(self, connection: MemoryTables) -> float:  # noqa: ARG002
        return self.store.now()

    def monotonic(self) -> float:
        return trio.current_time()

    async def _open(self) -> TaskHeartbeat:
        self.store.now()  # binds the store to this trio run
        await trio.lowlevel.checkpoint()
        return TaskHeartbeat(self._renew, lease=self.lease, margin=self.margin, clock=self.monotonic)

    async def _close(self) -> None:
        self._tx_task = None

    async def _renew(self, tokens: Sequence[Token]) -> set[Token]:
        return await self._write(lambda tables: self._extend(tables, tokens))

    async def _write(self, fn: Callable[[MemoryTables], T]) -> T:
        self._not_in_transaction()
        # Acquiring is the only checkpoint: once we have it, `fn` runs and its result is returned.
        async with self.store.lock:
            tables = self.store.tables
            self._counts["writes"] += 1
            try:
                result = fn(tables)
            except BaseException:
                tables.undo(0)
                raise
            self._commit()
            return result

    def _commit(self) -> None:
        if self.store.tables.commit():
            self._counts["commits"] += 1
            self.store.notify()

    async def read(self, fn: Callable[[MemoryTables], T]) -> T:
        self._opened()
        self._not_in_transaction()
        async with self.store.lock:
            return self._look(fn)

    def _look(self, fn: Callable[[MemoryTables], T]) -> T:
        tables = self.store.tables
        try:
            result = fn(tables)
            if tables.mark():
                raise StoreError("a read function changed the store: use write()")
            return result
        finally:
            tables.undo(0)

    def transaction(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Transaction]:
        return self._transaction(self._transaction_timeout(timeout))

    @asynccontextmanager
    async def _transaction(self, timeout: float) -> AsyncGenerator[Transaction, None]:
        self._opened()
        self._not_in_transaction()
        async with self.store.lock:
            tx = _MemoryTransaction(self)
            self._tx_task = trio.lowlevel.current_task()
            self._counts["transactions"] += 1
            committed = False
            try:
                with trio.move_on_after(timeout) as scope:
                    yield tx
                if scope.cancelled_caught:
                    raise TransactionTimeout(f"the transaction took longer than {timeout:g} s; rolled back")
                self._commit()
                committed = True
            finally:
                if not committed:
                    self.store.tables.undo(0)
                self._tx_task = None
                tx.ended(committed=committed)

    async def watch(self, probe: Callable[[MemoryTables, float], float]) -> None:
        self._opened()
        while True:
            async with self.store.lock:
                changed = self.store.changed
                wait = self._look(lambda tables: probe(tables, self.store.now()))
            if wait <= 0:
                return
            with trio.move_on_after(wait):
                await changed.wait()

    def statistics(self) -> EngineStatistics:
        beat = self._heartbeat
        return EngineStatistics(**self._counts, **({} if beat is None else beat.figures()))
