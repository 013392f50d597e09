"""Queues of the SQLite engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _sqlite_claim as claims
from . import _sqlite_dead as dead
from . import _sqlite_jobs as store
from ._backend import QueueBackend
from ._sqlite_schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from otp.engines import DeadLetter, SqliteEngine, Token, Transaction

    from ._records import Claimed, Finish, NewJob, Policy, PutResult, QueueStatistics

KIND = "job"


class SqliteQueue(QueueBackend):
    """See `QueueBackend`. Each operation is one function of the connection, run in the engine's group commit."""

    lease_kind = KIND

    def __init__(self, engine: SqliteEngine, queue: str) -> None:
        self._engine = engine
        self._queue = queue
        engine.schema("queues", MIGRATIONS)
        engine.lease_kind(KIND, store.extend, store.give_back)

    async def put(self, jobs: Sequence[NewJob], *, tx: Transaction | None = None) -> list[PutResult]:
        engine, queue = self._engine, self._queue
        return await engine.write(lambda c: store.put(c, queue, jobs, engine.now(c)), tx=tx)

    async def claim(self, limit: int, policy: Policy, *, start: bool) -> Claimed:
        engine, queue = self._engine, self._queue
        return await engine.write(
            lambda c: claims.claim(
                c, queue, KIND, engine.owner, engine.now(c), engine.lease, limit, policy, start=start
            )
        )

    async def wait(self, policy: Policy) -> None:
        queue = self._queue
        await self._engine.watch(lambda c, now: claims.next_event(c, queue, now, policy))

    async def start(self, tokens: Sequence[Token]) -> Collection[Token]:
        return await self._engine.write(lambda c: store.start(c, tokens))

    async def extend(self, tokens: Sequence[Token]) -> Collection[Token]:
        engine = self._engine
        return set(tokens) - await engine.write(lambda c: store.extend(c, tokens, engine.now(c) + engine.lease))

    async def finish(
        self, finishes: Sequence[Finish], policy: Policy, *, tx: Transaction | None = None
    ) -> Collection[Token]:
        engine = self._engine
        return await engine.write(lambda c: store.finish(c, finishes, engine.now(c), policy), tx=tx)

    async def statistics(self) -> QueueStatistics:
        engine, queue = self._engine, self._queue
        return await engine.read(lambda c: store.statistics(c, queue, engine.now(c)))

    async def dead_letters(self, limit: int, after: tuple[float, str] | None) -> list[DeadLetter]:
        queue = self._queue
        return await self._engine.read(lambda c: dead.page(c, queue, limit, after))

    async def dead_letter(self, job_id: str) -> DeadLetter | None:
        queue = self._queue
        return await self._engine.read(lambda c: dead.one(c, queue, job_id))

    async def requeue(self, job_ids: Sequence[str]) -> int:
        engine, queue = self._engine, self._queue
        return await engine.write(lambda c: dead.requeue(c, queue, job_ids, engine.now(c)))

    async def drop(self, job_ids: Sequence[str], policy: Policy) -> int:
        engine, queue = self._engine, self._queue
        return await engine.write(lambda c: dead.drop(c, queue, job_ids, engine.now(c), policy))
