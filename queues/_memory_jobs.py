"""Putting, starting, renewing and finishing jobs in memory, and its dead letters."""

from __future__ import annotations

from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from attrs import evolve

from ._memory_claim import bury
from ._memory_rows import DedupRow, JobRow, Store
from ._outcomes import Done, Reject, Release, Retry
from ._records import PutResult, QueueStatistics
from ._words import failure, remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otp.engines import DeadLetter, MemoryTables, Token

    from ._records import Finish, NewJob, Policy


def put(store: Store, jobs: Sequence[NewJob], now: float) -> list[PutResult]:
    """See `QueueBackend.put`."""
    return [_put(store, job, now) for job in jobs]


def start(store: Store, tokens: Sequence[Token]) -> set[Token]:
    """Count the attempts; returns the lost."""
    return {token for token in tokens if not _start(store, token)}


def extend(tables: MemoryTables, tokens: Sequence[Token], until: float) -> set[Token]:
    """Renew the leases that are still held; for the engine's heartbeat."""
    still: set[Token] = set()
    for token in tokens:
        row: JobRow | None = tables.table("hf_job").get(token.key)
        if row is not None and _is_ours(row, token):
            Store(tables, row.queue).save(evolve(row, until=until))
            still.add(token)
    return still


def finish(store: Store, finishes: Sequence[Finish], now: float, policy: Policy) -> set[Token]:
    """Write the outcomes; returns the lost."""
    return {each.token for each in finishes if not _finish(store, each, now, policy)}


def page(store: Store, limit: int, after: tuple[float, str] | None) -> list[DeadLetter]:
    """A page of letters in the order of (last_at, id)."""
    letters = (row.letter for row in store.dead.values() if row.letter.source == store.queue)
    later = [letter for letter in letters if after is None or (letter.last_at, letter.id) > after]
    return sorted(later, key=lambda letter: (letter.last_at, letter.id))[:limit]


def one(store: Store, job_id: str) -> DeadLetter | None:
    """The letter of this job."""
    row = store.dead.get(job_id)
    return None if row is None or row.letter.source != store.queue else row.letter


def requeue(store: Store, job_ids: Sequence[str], now: float) -> int:
    """Make jobs of these letters; returns how many there were."""
    return sum([_requeue(store, job_id, now) for job_id in job_ids])


def drop(store: Store, job_ids: Sequence[str], now: float, policy: Policy) -> int:
    """Delete these letters; returns how many there were."""
    return sum([_drop(store, job_id, now, policy) for job_id in job_ids])


def statistics(store: Store, now: float) -> QueueStatistics:
    """Count the queue's jobs."""
    due = [row.due_at for row in store.rows() if row.state == "ready"]
    ready = [at for at in due if at <= now]
    states = [row.state for row in store.rows()]
    return QueueStatistics(
        ready=len(ready),
        delayed=len(due) - len(ready),
        running=states.count("running"),
        set_aside=states.count("aside"),
        dead=sum(row.letter.source == store.queue for row in store.dead.values()),
        oldest_ready_age=max((now - at for at in ready), default=0.0),
        next_due_in=min((at - now for at in due if at > now), default=None),
    )


def _is_ours(row: JobRow, token: Token) -> bool:
    return row.state == "running" and (row.owner, row.epoch) == (token.owner, token.epoch)


def _ours(store: Store, token: Token) -> JobRow | None:
    row = store.jobs.get(token.key)
    return row if row is not None and _is_ours(row, token) else None


def _put(store: Store, job: NewJob, now: float) -> PutResult:
    if job.dedup is not None:
        _forget_old_dedups(store, now)
        known = store.dedups.get((store.queue, job.dedup))
        if known is not None and (known.expires_at is None or known.expires_at > now):
            return PutResult(job_id=known.job_id, duplicate=True)
        store.dedups[store.queue, job.dedup] = DedupRow(job_id=job.id, expires_at=None)
    store.save(
        JobRow(
            seq=store.next_seq(),
            id=job.id,
            queue=store.queue,
            envelope=job.envelope,
            dedup=job.dedup,
            priority=job.priority,
            due_at=now + job.delay,
            created_at=now,
        )
    )
    return PutResult(job_id=job.id)


def _forget_old_dedups(store: Store, now: float) -> None:
    heap = store.heaps.dedup
    while heap and heap[0][0] <= now:
        expires_at, dedup = heappop(heap)
        row = store.dedups.get((store.queue, dedup))
        if row is not None and row.expires_at == expires_at:
            del store.dedups[store.queue, dedup]
            store.tables.on_rollback(partial(heappush, heap, (expires_at, dedup)))


def _ended(store: Store, dedup: str | None, now: float, policy: Policy) -> None:
    """From here on the dedup id is known for the window only."""
    if dedup is not None:
        row = store.dedups[store.queue, dedup]
        expires_at = now + policy.dedup_window
        store.dedups[store.queue, dedup] = evolve(row, expires_at=expires_at)
        heappush(store.heaps.dedup, (expires_at, dedup))


def _start(store: Store, token: Token) -> bool:
    row = _ours(store, token)
    if row is None:
        return False
    if not row.started:
        store.save(evolve(row, started=True, attempts=row.attempts + 1))
    return True


def _finish(store: Store, finish: Finish, now: float, policy: Policy) -> bool:
    row = _ours(store, finish.token)
    if row is None:
        return False
    match finish.outcome:
        case Done():
            store.end(row)
            _ended(store, row.dedup, now, policy)
        case Retry(delay=delay, error=error):
            store.ready(_failed(row, error, now), due_at=now + delay)
        case Reject(reason=reason, error=error):
            bury(store, _failed(row, error or reason, now), reason, error, now)
        case Release(delay=delay):
            store.ready(
                row,
                attempts=row.attempts - row.started,
                releases=row.releases + row.started,
                due_at=now + delay if delay else row.due_at,
            )
    return True


def _failed(row: JobRow, error: str | None, now: float) -> JobRow:
    failures = remembered(row.failures, failure(row.attempts, now, row.owner, error))
    return evolve(row, last_error=error, failures=failures)


def _requeue(store: Store, job_id: str, now: float) -> bool:
    row = store.dead.get(job_id)
    if row is None or row.letter.source != store.queue:
        return False
    del store.dead[job_id]
    letter = row.letter
    store.save(
        JobRow(
            seq=store.next_seq(),
            id=job_id,
            queue=store.queue,
            envelope=letter.envelope,
            dedup=row.dedup,
            priority=row.priority,
            due_at=now,
            created_at=letter.first_at,
            epoch=letter.epoch,
            last_error=letter.error or None,
            failures=letter.history,
        )
    )
    return True


def _drop(store: Store, job_id: str, now: float, policy: Policy) -> bool:
    row = store.dead.get(job_id)
    if row is None or row.letter.source != store.queue:
        return False
    del store.dead[job_id]
    _ended(store, row.dedup, now, policy)
    return True
