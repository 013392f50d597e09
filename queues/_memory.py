"""Queues of the memory engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _memory_jobs as store_jobs
from ._backend import QueueBackend
from ._memory_claim import claim, next_event
from ._memory_rows import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import TypeVar

    from otp.engines import DeadLetter, MemoryEngine, Token, Transaction

    from ._records import Claimed, Finish, NewJob, Policy, PutResult, QueueStatistics

    T = TypeVar("T")

KIND = "job"


class MemoryQueue(QueueBackend):
    """See `QueueBackend`. One function of the tables for each operation."""

    lease_kind = KIND

    def __init__(self, engine: MemoryEngine, queue: str) -> None:
        self._engine = engine
        self._queue = queue
        engine.lease_kind(KIND, store_jobs.extend)

    async def put(self, jobs: Sequence[NewJob], *, tx: Transaction | None = None) -> list[PutResult]:
        return await self._write(lambda store, now: store_jobs.put(store, jobs, now), tx)

    async def claim(self, limit: int, policy: Policy, *, start: bool) -> Claimed:
        engine = self._engine
        return await self._write(
            lambda store, now: claim(store, KIND, engine.owner, now, engine.lease, limit, policy, start=start)
        )

    async def wait(self, policy: Policy) -> None:
        await self._engine.watch(lambda tables, now: next_event(Store(tables, self._queue), now, policy))

    async def start(self, tokens: Sequence[Token]) -> Collection[Token]:
        return await self._write(lambda store, _: store_jobs.start(store, tokens))

    async def extend(self, tokens: Sequence[Token]) -> Collection[Token]:
        lease = self._engine.lease
        return await self._write(lambda store, now: set(tokens) - store_jobs.extend(store.tables, tokens, now + lease))

    async def finish(
        self, finishes: Sequence[Finish], policy: Policy, *, tx: Transaction | None = None
    ) -> Collection[Token]:
        return await self._write(lambda store, now: store_jobs.finish(store, finishes, now, policy), tx)

    async def statistics(self) -> QueueStatistics:
        return await self._read(store_jobs.statistics)

    async def dead_letters(self, limit: int, after: tuple[float, str] | None) -> list[DeadLetter]:
        return await self._read(lambda store, _: store_jobs.page(store, limit, after))

    async def dead_letter(self, job_id: str) -> DeadLetter | None:
        return await self._read(lambda store, _: store_jobs.one(store, job_id))

    async def requeue(self, job_ids: Sequence[str]) -> int:
        return await self._write(lambda store, now: store_jobs.requeue(store, job_ids, now))

    async def drop(self, job_ids: Sequence[str], policy: Policy) -> int:
        return await self._write(lambda store, now: store_jobs.drop(store, job_ids, now, policy))

    async def _write(self, act: Callable[[Store, float], T], tx: Transaction | None = None) -> T:
        engine = self._engine
        return await engine.write(lambda tables: act(Store(tables, self._queue), engine.now(tables)), tx=tx)

    async def _read(self, look: Callable[[Store, float], T]) -> T:
        engine = self._engine
        return await engine.read(lambda tables: look(Store(tables, self._queue), engine.now(tables)))
