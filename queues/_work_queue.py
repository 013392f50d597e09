"""The queue: work that many consumers compete for, each job held under a lease until its outcome is written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from uuid import uuid4

import trio

from otp.engines import Lease, LeaseLost, PayloadError, StoreError, Topics

from ._backend import backend_for
from ._checks import check_count, check_name, check_priority, check_seconds
from ._counts import QueueCounts
from ._dead_letters import DeadLetters
from ._job import Job
from ._outcomes import Done, Outcome, Reject, Release, Retry
from ._records import ClaimedJob, Finish, NewJob, Policy, PutResult, QueueStatistics
from ._words import unreadable, used_up

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from otp.engines import Engine, Token, Topic, Transaction

T = TypeVar("T")
log = logging.getLogger("holdfast.queues")


class Queue(Generic[T]):
    """A durable queue in the store of an engine. A handle: cheap, made at any time, used while the engine is open.

    Every job that was put ends as done or in the dead letters; it may be handed out more than once, but no two
    holders can both finish it. Jobs come in the order of (priority, due time, arrival); with several consumers that
    is the order in which they start.

    Args:
        engine: where the jobs are kept; it also renews the leases of what was claimed, until the job is finished.
        name: what the queue is called in the store, 1 to 200 printable characters.
        topics: the payloads it carries. A job of any other topic, or of a version this program cannot read, is set
            aside for those who can, without being handed out and without costing an attempt; in a rolling deploy
            they get it at once, in its old place.
        max_attempts: attempts a job has before it is dead. A crash or a lost lease costs one, a release none.
        unknown_grace: seconds after which a job that was set aside, and that nobody took, is dead.
        dedup_window: seconds for which the dedup id of a job stays known after the job has ended.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.
    """

    @overload
    def __init__(
        self,
        engine: Engine[Any],
        name: str,
        topics: Sequence[Topic[T]],
        *,
        max_attempts: int = 20,
        unknown_grace: float = 300.0,
        dedup_window: float = 3600.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Queue[Any],
        engine: Engine[Any],
        name: str,
        topics: Sequence[Topic[Any]],
        *,
        max_attempts: int = 20,
        unknown_grace: float = 300.0,
        dedup_window: float = 3600.0,
    ) -> None: ...
    def __init__(
        self,
        engine: Engine[Any],
        name: str,
        topics: Sequence[Topic[Any]],
        *,
        max_attempts: int = 20,
        unknown_grace: float = 300.0,
        dedup_window: float = 3600.0,
    ) -> None:
        self.engine = engine
        self.name = check_name("name", name)
        self.max_attempts = check_count("max_attempts", max_attempts)
        self.unknown_grace = check_seconds("unknown_grace", unknown_grace)
        self.dedup_window = check_seconds("dedup_window", dedup_window)
        self._topics = Topics(topics)
        self._backend = backend_for(engine, name)
        self.counts = QueueCounts()
        self.dead = DeadLetters(self._backend, self._policy)

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} on {self.engine.url}>"

    # Putting

    async def put(
        self,
        payload: T,
        *,
        id: str | None = None,  # noqa: A002 - the word everybody looks for
        delay: float = 0.0,
        priority: int = 0,
        headers: Mapping[str, str] | None = None,
        tx: Transaction | None = None,
    ) -> PutResult:
        """Store a job. When this returns it is as durable as the engine promises.

        Args:
            payload: an instance of one of the queue's topic types.
            id: dedup id. A second put with the same id stores nothing and returns the first job's id with
                `duplicate=True`, while that job exists and for `dedup_window` after it ended, over any restart.
            delay: seconds until it may be claimed.
            priority: -9 to 9, lower comes first.
            headers: text by text, given to the handler with the job (a trace context, say).
            tx: put it in this transaction: the job exists if and when that commits.

        Raises:
            TypeError: no topic carries the payload, or it cannot be encoded.
            StoreError: the store refused or could not be reached. The job may be there if the connection broke in
                mid-commit: put it again with the same `id`.
        """
        ids = None if id is None else [id]
        return (await self.put_many([payload], ids=ids, delay=delay, priority=priority, headers=headers, tx=tx))[0]

    async def put_many(
        self,
        payloads: Iterable[T],
        *,
        ids: Sequence[str] | None = None,
        delay: float = 0.0,
        priority: int = 0,
        headers: Mapping[str, str] | None = None,
        tx: Transaction | None = None,
    ) -> list[PutResult]:
        """Store many jobs in one operation, all or none, in this order; `ids` has a dedup id for each.

        The rest is as for `put`.
        """
        check_seconds("delay", delay)
        check_priority(priority)
        envelopes = [self._topics.encode(payload, headers=headers) for payload in payloads]
        if ids is None:
            dedups: Sequence[str | None] = [None] * len(envelopes)
        elif isinstance(ids, str) or len(ids) != len(envelopes):
            raise ValueError(f"ids must have one id for each of the {len(envelopes)} payloads, not {ids!r}")
        else:
            dedups = [check_name("id", each) for each in ids]
        jobs = [
            NewJob(id=str(uuid4()), envelope=envelope, dedup=dedup, delay=delay, priority=priority)
            for envelope, dedup in zip(envelopes, dedups, strict=True)
        ]
        if not jobs:
            return []
        results = await self._backend.put(jobs, tx=tx)
        self.counts.put += sum(not result.duplicate for result in results)
        self.counts.duplicates += sum(result.duplicate for result in results)
        return results

    # Taking

    async def claim(self, limit: int = 1, *, start: bool = True) -> list[Job[T]]:
        """Take up to `limit` jobs that are due, at once; perhaps none, although there are some (then `wait` returns).

        Their leases are renewed by the engine from now on, until the job is finished. Leases of others that ran out
        are ended by the same operation.

        Args:
            limit: how many, at least 1. More than there are free hands only keeps them from others.
            start: count the attempt now. With False, call `start` before the handler does anything: a job that
                never started costs no attempt, whatever happens to this process.

        Cancellation: either nothing was claimed, or the jobs are returned; none is held unseen.

        Raises:
            StoreError: the store refused or could not be reached.
        """
        check_count("limit", limit)
        sent = self.engine.monotonic()
        claimed = await self._backend.claim(limit, self._policy(), start=start)
        # From here to the return nothing may be cancelled: the jobs are ours, and nobody else knows.
        self.counts.claimed += len(claimed.jobs)
        self.counts.rescued += claimed.rescued
        self.counts.buried += claimed.buried
        self.counts.set_aside += claimed.set_aside
        if claimed.buried:
            log.warning("queue %r: %d jobs went to the dead letters", self.name, claimed.buried)
        jobs: list[Job[T]] = []
        unreadable_jobs: list[Finish] = []
        for record in claimed.jobs:
            try:
                payload: T = self._topics.decode(record.envelope)
            except PayloadError as error:
                unreadable_jobs.append(Finish(token=record.token, outcome=Reject(unreadable(error))))
            else:
                lease = Lease(record.token, deadline=sent + self.engine.lease)
                self.engine.hold(lease)
                jobs.append(self._job(record, payload, lease))
        if unreadable_jobs:
            await self._bury(unreadable_jobs)
        return jobs

    async def wait(self) -> None:
        """Return when a claim may find something: at once, or woken by the store, by a delay or by an expired lease.

        Without a promise: another consumer may have been faster.
        """
        await self._backend.wait(self._policy())

    async def start(self, jobs: Job[T] | Iterable[Job[T]]) -> None:
        """Count the attempt of jobs that were claimed with `start=False`, in one operation.

        Raises:
            LeaseLost: a job is not ours any more. The others have been started.
        """
        jobs = [jobs] if isinstance(jobs, Job) else list(jobs)
        leases = [job.lease for job in jobs]
        self._raise_lost(leases, await self._backend.start([lease.token for lease in leases]))

    async def extend(self, job: Job[T]) -> None:
        """Renew the lease now, and find out from the store itself whether the job is still ours.

        The engine does so by itself; this is for those who want to know before an effect elsewhere.

        Raises:
            LeaseLost: it is not.
        """
        self._raise_lost([job.lease], await self._backend.extend([job.lease.token]))

    # Finishing

    async def ack(self, job: Job[T], *, tx: Transaction | None = None) -> None:
        """The work is done: delete the job.

        With `tx` that happens in the caller's transaction, together with the effect: both or neither.

        Raises:
            LeaseLost: the job is not ours any more; nothing was changed.
            StoreError: the store refused or could not be reached.
        """
        await self._finish(job, Done(), tx)

    async def retry(
        self, job: Job[T], *, delay: float, error: BaseException | str | None = None, tx: Transaction | None = None
    ) -> None:
        """The handler failed: let the job come back after `delay` seconds, or bury it if this was its last attempt.

        `error` is kept with the job (its traceback, if it is an exception). Errors as for `ack`.
        """
        await self._finish(job, Retry(delay, error=error), tx)

    async def reject(
        self, job: Job[T], *, reason: str, error: BaseException | str | None = None, tx: Transaction | None = None
    ) -> None:
        """No attempt can help: move the job to the dead letters. Errors as for `ack`."""
        await self._finish(job, Reject(reason, error=error), tx)

    async def release(self, job: Job[T], *, delay: float = 0.0, tx: Transaction | None = None) -> None:
        """Give the job back; its attempt is not counted, without a delay it keeps its place. Errors as for `ack`."""
        await self._finish(job, Release(delay), tx)

    async def settle(
        self, outcomes: Iterable[tuple[Job[T], Outcome]], *, tx: Transaction | None = None
    ) -> list[Job[T]]:
        """Write many outcomes in one operation; return the jobs that were not ours any more.

        Each job is judged by itself: the lost ones keep no other from being finished.
        """
        pairs = list(outcomes)
        if not pairs:
            return []
        by_token = {job.lease.token: job for job, _ in pairs}
        finishes = [Finish(token=job.lease.token, outcome=self._last_attempt(job, outcome)) for job, outcome in pairs]
        lost = await self._write([job.lease for job, _ in pairs], finishes, tx)
        return [by_token[token] for token in lost]

    async def statistics(self) -> QueueStatistics:
        """Count what is in the queue now, in the store. `counts` has what this handle did."""
        return await self._backend.statistics()

    # Underneath

    def _policy(self) -> Policy:
        # Made each time: upcasters may be registered after the queue was made, in the module that needs them.
        return Policy(
            known=self._topics.versions,
            max_attempts=self.max_attempts,
            unknown_grace=self.unknown_grace,
            dedup_window=self.dedup_window,
        )

    def _job(self, record: ClaimedJob, payload: T, lease: Lease) -> Job[T]:
        return Job(
            id=record.token.key,
            queue=self.name,
            payload=payload,
            topic=record.envelope.topic,
            attempt=record.attempts if record.started else record.attempts + 1,
            releases=record.releases,
            priority=record.priority,
            enqueued_at=record.enqueued_at,
            headers=record.envelope.headers,
            last_error=record.last_error,
            lease=lease,
        )

    def _last_attempt(self, job: Job[T], outcome: Outcome) -> Outcome:
        if isinstance(outcome, Retry) and job.attempt >= self.max_attempts:
            return Reject(used_up(self.max_attempts), error=outcome.error)
        return outcome

    async def _bury(self, finishes: Sequence[Finish]) -> None:
        """Make dead letters of jobs that cannot be read, without ever losing the readable ones claimed with them."""
        # Shielded, since the readable ones are already held; a failure only means that the leases run out.
        with trio.CancelScope(shield=True):
            try:
                lost = await self._backend.finish(finishes, self._policy())
            except StoreError as error:
                log.warning("queue %r: %d unreadable jobs are left for later: %s", self.name, len(finishes), error)
            else:
                self.counts.buried += len(finishes) - len(lost)
                log.error("queue %r: %d unreadable jobs went to the dead letters", self.name, len(finishes))

    async def _finish(self, job: Job[T], outcome: Outcome, tx: Transaction | None) -> None:
        finish = Finish(token=job.lease.token, outcome=self._last_attempt(job, outcome))
        self._raise_lost([job.lease], await self._write([job.lease], [finish], tx))

    async def _write(
        self, leases: Sequence[Lease], finishes: Sequence[Finish], tx: Transaction | None
    ) -> Collection[Token]:
        policy = self._policy()
        lost = await self.engine.finish_all(leases, lambda: self._backend.finish(finishes, policy, tx=tx), tx=tx)
        self.counts.finished(finish.outcome for finish in finishes if finish.token not in lost)
        self.counts.lost += len(lost)
        return lost

    def _raise_lost(self, leases: Sequence[Lease], lost: Collection[Token]) -> None:
        gone = [lease for lease in leases if lease.token in lost]
        for lease in gone:
            lease.lose("another holder has it")  # the store has just said so: its handler need not wait for a heartbeat
            self.engine.let_go(lease)
        if gone:
            raise LeaseLost(gone[0].token)
