"""What an engine is: one client per store and run, for queues, checkpoints and inboxes alike.

An engine runs *functions of its connection*. `write(fn)` executes `fn(connection)` inside the store's own
thread or task, in a transaction that may be shared with other writes. The queues and checkpoints bring such
functions for each kind of engine (`Engine.kind`); the engine brings transactions, time, waking up,
leases with their heartbeat, and schema.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar
from uuid import uuid4

import trio
from attrs import frozen

from ._errors import LeaseLost, NotOpen, StoreError
from ._options import seconds, text
from ._token import Token
from ._url import redacted

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from ._heartbeat import Heartbeat
    from ._lease import Lease
    from ._schema import Migration

C = TypeVar("C")
T = TypeVar("T")

Extend = Callable[[C, Sequence[Token], float], Collection[Token]]
"""`extend(connection, tokens, until)`: set the end of those still held to `until`, return them."""
GiveBack = Callable[[C, str, Collection[Token]], object]
"""`give_back(connection, owner, charged)`: end all leases of `owner`, so that others may have them now.

Uncounted, whatever was begun; only `charged` end as if they had run out."""


@frozen(kw_only=True)
class Capabilities:
    """What may be relied on."""

    transactions: bool
    """Whether what the user, a queue and a checkpoint write can be committed together."""
    sql: bool
    """Whether `Transaction.execute` takes SQL."""
    fence: Literal["statement", "script", "revision", "deadline"]
    """Where (owner, epoch) is compared when work is finished; "deadline": nowhere, the holder looks at its clock."""
    durable: bool
    """Whether what was committed outlives the process."""
    shared: Literal["process", "host", "network"]
    """Who can use the same store."""


@frozen(kw_only=True)
class EngineStatistics:
    """Counters since the engine was opened; gauges at the moment of asking."""

    writes: int = 0
    """Functions that were run by `Engine.write`."""
    commits: int = 0
    """Commits: of writes, several of which may share one, and of transactions."""
    transactions: int = 0
    """Transactions of users that were begun."""
    outages: int = 0
    """How often the connection to the store broke."""
    beats: int = 0
    """Renewals of leases, each of all that are held."""
    beats_failed: int = 0
    """Those that the store did not take."""
    beat_late_max: float = 0.0
    """The longest time in seconds from a renewal being due to its commit."""
    leases_held: int = 0
    """How many are held now."""
    leases_lost: int = 0
    """How many were lost."""


class Transaction(ABC):
    """The user's own transaction: `async with engine.transaction() as tx:`. Short, and last.

    Committed when the block is left normally, rolled back when it is left by an exception or a cancel, or
    when it takes longer than its timeout. Use it from the task that opened it. `engine` is whose it is.
    """

    def __init__(self, engine: Engine[Any]) -> None:
        self.engine = engine
        self._endings: list[Callable[[bool], None]] = []
        self._over = False

    @abstractmethod
    async def execute(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """Run one SQL statement and return all its rows. StoreError if the engine has no SQL.

        Cancellation as for `run`.
        """

    @abstractmethod
    async def run(self, fn: Callable[[Any], T]) -> T:
        """Run `fn(connection)` in this transaction, in a savepoint; the same as `engine.write(fn, tx=tx)`.

        Withdrawn by a cancel if not begun; else its result is returned. NotOpen after the end of the transaction.
        """

    def on_end(self, callback: Callable[[bool], None]) -> None:
        """Have `callback(committed)` called once, in the loop, right after the end. It must not raise."""
        if self._over:
            raise NotOpen("this transaction has ended")
        self._endings.append(callback)

    def ended(self, *, committed: bool) -> None:
        """For the engine: the end has come."""
        self._over = True
        endings, self._endings = self._endings, []
        for callback in endings:
            callback(committed)


class Engine(ABC, Generic[C]):
    """One client of one store. Configured when made, opened by `async with`, may be opened again after.

    Args:
        url: shown in logs, without credentials.
        lease: seconds a lease lasts unless renewed; renewed every third of it. What the death of a process
            costs in waiting, so rather short; but longer than any stall of the loop that should be survived.
        margin: holders stop this long before their lease could run out. Default: a tenth of the lease.
        stall_limit: once the loop has not run for so long, leases are no longer renewed (use the same figure
            for the liveness probe). math.inf switches that off.

    Attributes:
        owner: This process instance, as the store knows it: a uuid, another one after a fork.
    """

    kind: ClassVar[str]
    """By which queues and checkpoints find their functions for this engine: "sqlite", "memory"."""

    def __init__(self, url: str, *, lease: float = 15.0, margin: float | None = None, stall_limit: float = 5.0) -> None:
        self.url = redacted(url)
        self.owner = uuid4().hex
        self.lease = seconds("lease", lease)
        self.margin = self.lease / 10 if margin is None else seconds("margin", margin)
        if self.margin >= self.lease / 2:
            raise ValueError(f"margin={margin!r}: must be less than half of lease={lease!r}")
        self.stall_limit = seconds("stall_limit", stall_limit, infinite=True)
        self._kinds: dict[str, tuple[Extend[C], GiveBack[C] | None]] = {}
        self._schemas: dict[str, tuple[Migration, ...]] = {}
        self._heartbeat: Heartbeat | None = None
        self._tx_task: trio.lowlevel.Task | None = None
        self._pid = os.getpid()

    # -- what each engine brings -------------------------------------------------------------------

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What may be relied on with this store."""

    @abstractmethod
    async def _open(self) -> Heartbeat:
        """Connect, apply the schema, start threads or tasks; the heartbeat is started by us."""

    @abstractmethod
    async def _close(self) -> None:
        """Finish what has begun, release everything. Shielded by the caller; must end by itself."""

    @abstractmethod
    async def _write(self, fn: Callable[[C], T]) -> T: ...

    @abstractmethod
    async def read(self, fn: Callable[[C], T]) -> T:
        """Run `fn(connection)` on a consistent, committed state. It must not write.

        Withdrawn by a cancel if not begun; else its result is returned.
        """

    @abstractmethod
    def transaction(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Transaction]:
        """The user's own transaction. Other writers of the store wait meanwhile, so keep it short.

        Heartbeats are among them, those of other processes, too: one that is longer than a lease takes
        everybody's leases away. So `timeout` is 5 seconds by default, or a third of the lease if that is less.

        Raises TransactionTimeout when the block took longer than `timeout` seconds (rolled back).
        """

    @abstractmethod
    async def watch(self, probe: Callable[[C, float], float]) -> None:
        """Return as soon as `probe(connection, now)` returns 0 or less.

        The probe says in how many seconds its condition could become true by time alone; math.inf if only
        by somebody's commit. It is asked again after commits of any process and when its time has come.
        It must be a cheap, read-only look: it runs for each commit while somebody watches. A cancel ends the watch.
        """

    @abstractmethod
    def now(self, connection: C) -> float:
        """Engine time in seconds: the one clock all processes of this store agree on; never goes back."""

    @abstractmethod
    def monotonic(self) -> float:
        """The holder's clock, for lease deadlines. Take it *before* the claim is sent."""

    @abstractmethod
    def statistics(self) -> EngineStatistics:
        """The engine in numbers, read at this moment."""

    # -- open and close ----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._heartbeat is not None:
            raise StoreError(f"{self.url} is open already; use one engine per program")
        if self._pid != os.getpid():  # made before a fork: each process is an owner of its own
            self._pid, self.owner = os.getpid(), uuid4().hex
        heartbeat = await self._open()
        heartbeat.start()
        self._heartbeat = heartbeat
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        with trio.CancelScope(shield=True):
            if heartbeat is not None:
                await heartbeat.stop()
            await self._close()

    @property
    def is_open(self) -> bool:
        """Whether it can be used: from the beginning of its block to the end."""
        return self._heartbeat is not None

    def _opened(self) -> Heartbeat:
        if os.getpid() != self._pid:
            raise StoreError(
                f"{self.url} was opened by process {self._pid} and is used in its fork {os.getpid()}: "
                "open an engine of its own in each process"
            )
        if self._heartbeat is None:
            raise NotOpen(f"{self.url} is not open: use it inside `async with engine:`")
        return self._heartbeat

    def _transaction_timeout(self, timeout: float | None) -> float:
        return min(5.0, self.lease / 3) if timeout is None else seconds("timeout", timeout)

    def _not_in_transaction(self) -> None:
        """Better an error than a task that waits for itself until its transaction times out."""
        if self._tx_task is not None and self._tx_task is trio.lowlevel.current_task():
            raise StoreError("this task has a transaction open: use write(fn, tx=tx)")

    # -- writing -----------------------------------------------------------------------------------

    async def write(self, fn: Callable[[C], T], *, tx: Transaction | None = None) -> T:
        """Run `fn(connection)` in a transaction and return its result after the commit; or inside `tx`.

        `fn` runs in the store's thread together with other writes, each in its own savepoint: an exception
        from it undoes only its own part and is raised here. It may be run again if the whole transaction had
        to be repeated, so it must not change anything but the store, and it must return plain values.

        Cancellation: withdrawn if not begun; once begun its result is returned whatever the cancel says, so
        that nothing is claimed without anybody knowing (the cancel strikes at the next checkpoint).
        """
        heartbeat = self._opened()
        try:
            if tx is None:
                return await self._write(fn)
            if tx.engine is not self:
                raise ValueError(f"tx belongs to {tx.engine!r}, not to {self!r}")
            return await tx.run(fn)
        except LeaseLost as lost:
            heartbeat.lost(lost.token, lost.why)  # the store has just told us; do not wait for the heartbeat
            raise

    async def finish(self, lease: Lease, fn: Callable[[C], T], *, tx: Transaction | None = None) -> T:
        """`write` for the statement that ends a lease (ack, release ...): lets it go once that is committed.

        `fn` raises LeaseLost if (owner, epoch) do not match any more. If it fails otherwise, is withdrawn by a
        cancel, or `tx` is rolled back, the lease is still held and renewed.
        """
        heartbeat = self._opened()
        heartbeat.settle(lease)
        try:
            result = await self.write(fn, tx=tx)
            if tx is not None:
                tx.on_end(lambda done: heartbeat.let_go(lease) if done else heartbeat.unsettle(lease))
        except BaseException:
            heartbeat.unsettle(lease)
            raise
        if tx is None:
            heartbeat.let_go(lease)
        return result

    async def finish_all(
        self,
        leases: Sequence[Lease],
        act: Callable[[], Awaitable[Collection[Token]]],
        *,
        tx: Transaction | None = None,
    ) -> Collection[Token]:
        """`finish` for many leases: `act` ends those still ours and returns the tokens of the others.

        Those are lost, here too; the rest is as for `finish`. `act` brings its own write, into `tx` if given.
        """
        heartbeat = self._opened()
        for lease in leases:
            heartbeat.settle(lease)
        try:
            lost = await act()
            ended = [lease for lease in leases if lease.token not in lost]
            if tx is not None:

                def end(committed: bool) -> None:  # noqa: FBT001 - called by the transaction only
                    for lease in ended:
                        heartbeat.let_go(lease) if committed else heartbeat.unsettle(lease)

                tx.on_end(end)
        except BaseException:
            for lease in leases:
                heartbeat.unsettle(lease)
            raise
        for token in lost:
            heartbeat.lost(token, "another holder has it")
        if tx is None:
            for lease in ended:
                heartbeat.let_go(lease)
        return lost

    # -- leases ------------------------------------------------------------------------------------

    def lease_kind(self, kind: str, extend: Extend[C], give_back: GiveBack[C] | None = None) -> None:
        """How leases whose token has this `kind` are renewed, and ended when the process is made to exit.

        Given once per kind, before the first hold: ValueError if the kind has other functions already. Without
        `give_back` such leases run out instead, as they must where the store ends with the process.
        """
        given = extend, give_back
        if self._kinds.setdefault(text("kind", kind), given) != given:
            raise ValueError(f"lease kind {kind!r} is registered already with other functions")

    def hold(self, lease: Lease) -> None:
        """Renew `lease` until it is let go, finished or lost. Call it right after the claim's `write`.

        ValueError if its kind is not known (`lease_kind`), LeaseLost if it is lost already.
        """
        if lease.token.kind not in self._kinds:
            raise ValueError(f"unknown lease kind {lease.token.kind!r}: register it by lease_kind() first")
        self._opened().hold(lease)

    def let_go(self, lease: Lease) -> None:
        """Stop renewing `lease`. Harmless if it is not held; nothing is written to the store."""
        if self._heartbeat is not None:
            self._heartbeat.let_go(lease)

    def give_all_back(self) -> None:
        """End all leases held, because the process is about to exit with work that would not stop.

        For `Runtime.at_exit`: called in any thread, also while the loop is blocked; comes back when it is written, or
        failed, or after half a second. Nothing is held after it, and nothing more is written. Nothing counts as an
        attempt, unless the loop has stalled for `stall_limit`: such a process counts as dead, or a job that blocks the
        loop would come back for ever. Without effect on an engine that is not open, and on one whose store ends with
        the process.
        """
        if (heartbeat := self._heartbeat) is not None:
            heartbeat.give_all_back()

    def _extend(self, connection: C, tokens: Sequence[Token]) -> set[Token]:
        """Renew all `tokens` by the functions of their kinds; for the heartbeats."""
        until = self.now(connection) + self.lease
        still: set[Token] = set()
        for kind, mine in _by_kind(tokens).items():
            extend, _ = self._kinds[kind]
            still.update(extend(connection, mine, until))
        return still

    def _give_back(self, connection: C, charged: Sequence[Token]) -> None:
        """End all that we hold by the functions of the kinds, also what the loop has yet to hear of; for heartbeats."""
        by_kind = _by_kind(charged)
        for kind, (_, give_back) in self._kinds.items():
            if give_back is not None:
                give_back(connection, self.owner, by_kind.get(kind, ()))

    # -- schema ------------------------------------------------------------------------------------

    def schema(self, component: str, migrations: Sequence[Migration]) -> None:
        """Tables needed by `component`, as numbered `Migration`s. Engines without SQL skip them.

        Idempotent. Applied when the engine is opened, or before the next operation if it is open. ValueError if the
        numbers are not 1, 2, 3 ..., or the component has other migrations already.
        """
        given = tuple(migrations)
        for expected, migration in enumerate(given, 1):
            if migration.number != expected:
                raise ValueError(f"migrations of {component!r} must be numbered 1, 2, 3 ..., not {migration.number}")
        if self._schemas.setdefault(text("component", component), given) != given:
            raise ValueError(f"schema of {component!r} is registered already with other migrations")
        self._schema_added()

    def _schema_added(self) -> None:
        """Hook for engines that apply schemas."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} {'open' if self.is_open else 'closed'}>"


def _by_kind(tokens: Sequence[Token]) -> dict[str, list[Token]]:
    kinds: dict[str, list[Token]] = {}
    for token in tokens:
        kinds.setdefault(token.kind, []).append(token)
    return kinds
