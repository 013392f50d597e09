"""Putting, starting, renewing and finishing jobs on SQLite. Each finishing statement compares (owner, epoch) itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._outcomes import Done, Reject, Release, Retry
from ._records import PutResult, QueueStatistics
from ._sqlite_dead import bury, ended
from ._sqlite_rows import ENVELOPE, REMEMBER, envelope_columns, rows, run, value

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import apsw

    from otp.engines import Token

    from ._records import Finish, NewJob, Policy

KNOWN = """
SELECT job FROM hf_job_dedup
WHERE queue = ?1 AND dedup = ?2 AND (expires_at IS NULL OR expires_at > ?3)"""
KNOW = "INSERT OR REPLACE INTO hf_job_dedup (queue, dedup, job) VALUES (?1, ?2, ?3)"
# More than one is added per put, so that they cannot pile up.
FORGET = """
DELETE FROM hf_job_dedup WHERE queue = ?1 AND dedup IN (
    SELECT dedup FROM hf_job_dedup INDEXED BY hf_job_dedup_expiry
    WHERE queue = ?1 AND expires_at IS NOT NULL AND expires_at <= ?2 ORDER BY expires_at LIMIT 4
)"""
INSERT = f"""
INSERT INTO hf_job (id, queue, dedup, priority, due_at, created_at, {ENVELOPE})
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"""

START = """
UPDATE hf_job SET attempts = attempts + 1 - started, started = 1
WHERE id = ?1 AND state = 'running' AND owner = ?2 AND epoch = ?3"""
EXTEND = "UPDATE hf_job SET until = ?4 WHERE id = ?1 AND state = 'running' AND owner = ?2 AND epoch = ?3"

DONE = "DELETE FROM hf_job WHERE id = ?1 AND state = 'running' AND owner = ?2 AND epoch = ?3 RETURNING queue, dedup"
RETRY = f"""
UPDATE hf_job SET state = 'ready', due_at = ?3, last_error = ?2, history = {REMEMBER}, owner = NULL, until = NULL,
    started = 0
WHERE id = ?4 AND state = 'running' AND owner = ?5 AND epoch = ?6"""
FAIL = f"""
UPDATE hf_job SET last_error = ?2, history = {REMEMBER}
WHERE id = ?3 AND state = 'running' AND owner = ?4 AND epoch = ?5 RETURNING seq"""
RELEASE = """
UPDATE hf_job SET state = 'ready', attempts = attempts - started, releases = releases + started, started = 0,
    due_at = coalesce(?4, due_at), owner = NULL, until = NULL
WHERE id = ?1 AND state = 'running' AND owner = ?2 AND epoch = ?3"""

RELEASE_ALL = """
UPDATE hf_job INDEXED BY hf_job_running SET state = 'ready', attempts = attempts - started,
    releases = releases + started, started = 0, owner = NULL, until = NULL
WHERE state = 'running' AND owner = ?1 AND until > 0"""

STATES = """
SELECT
    (SELECT count(*) FROM hf_job INDEXED BY hf_job_ready WHERE queue = ?1 AND state = 'ready' AND due_at <= ?2),
    (SELECT count(*) FROM hf_job INDEXED BY hf_job_ready WHERE queue = ?1 AND state = 'ready' AND due_at > ?2),
    (SELECT count(*) FROM hf_job INDEXED BY hf_job_running WHERE queue = ?1 AND state = 'running'),
    (SELECT count(*) FROM hf_job INDEXED BY hf_job_aside_since WHERE queue = ?1 AND state = 'aside'),
    (SELECT count(*) FROM hf_job_dead WHERE queue = ?1),
    (SELECT min(due_at) FROM hf_job INDEXED BY hf_job_ready WHERE queue = ?1 AND state = 'ready' AND due_at <= ?2),
    (SELECT min(due_at) FROM hf_job INDEXED BY hf_job_ready WHERE queue = ?1 AND state = 'ready' AND due_at > ?2)"""


def put(c: apsw.Connection, queue: str, jobs: Sequence[NewJob], now: float) -> list[PutResult]:
    """See `QueueBackend.put`."""
    return [_put(c, queue, job, now) for job in jobs]


def start(c: apsw.Connection, tokens: Sequence[Token]) -> set[Token]:
    """Count the attempts; returns the lost."""
    return {token for token in tokens if not run(c, START, (token.key, token.owner, token.epoch))}


def extend(c: apsw.Connection, tokens: Sequence[Token], until: float) -> set[Token]:
    """Renew the leases; returns those still held. For the engine's heartbeat, so for jobs of any queue."""
    return {token for token in tokens if run(c, EXTEND, (token.key, token.owner, token.epoch, until))}


def give_back(c: apsw.Connection, owner: str, charged: Collection[Token]) -> None:
    """Release the owner's jobs of all queues; `charged` run out now. For the engine of a process that must exit."""
    for token in charged:
        # The next claim does what is to be done: it counts the attempt, and buries the job if that was the last.
        run(c, EXTEND, (token.key, token.owner, token.epoch, 0.0))
    run(c, RELEASE_ALL, (owner,))


def finish(c: apsw.Connection, finishes: Sequence[Finish], now: float, policy: Policy) -> set[Token]:
    """Write the outcomes; returns the lost."""
    return {each.token for each in finishes if not _finish(c, each, now, policy)}


def statistics(c: apsw.Connection, queue: str, now: float) -> QueueStatistics:
    """Count the queue's jobs."""
    row = rows(c, STATES, (queue, now))[0]
    return QueueStatistics(
        ready=row[0],
        delayed=row[1],
        running=row[2],
        set_aside=row[3],
        dead=row[4],
        oldest_ready_age=0.0 if row[5] is None else now - row[5],
        next_due_in=None if row[6] is None else row[6] - now,
    )


def _put(c: apsw.Connection, queue: str, job: NewJob, now: float) -> PutResult:
    if job.dedup is not None:
        run(c, FORGET, (queue, now))
        known = value(c, KNOWN, (queue, job.dedup, now))
        if known is not None:
            return PutResult(job_id=known, duplicate=True)
        run(c, KNOW, (queue, job.dedup, job.id))
    run(
        c,
        INSERT,
        (job.id, queue, job.dedup, job.priority, now + job.delay, now, *envelope_columns(job.envelope)),
    )
    return PutResult(job_id=job.id)


def _finish(c: apsw.Connection, finish: Finish, now: float, policy: Policy) -> bool:
    ours = (finish.token.key, finish.token.owner, finish.token.epoch)
    match finish.outcome:
        case Done():
            found = rows(c, DONE, ours)
            for queue, dedup in found:
                ended(c, queue, dedup, now, policy)
            return bool(found)
        case Retry(delay=delay, error=error):
            return run(c, RETRY, (now, error, now + delay, *ours)) > 0
        case Reject(reason=reason, error=error):
            seq = value(c, FAIL, (now, error or reason, *ours))
            if seq is not None:
                bury(c, seq, reason, now)
            return seq is not None
        case Release(delay=delay):
            return run(c, RELEASE, (*ours, now + delay if delay else None)) > 0
