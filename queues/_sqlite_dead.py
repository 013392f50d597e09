"""Dead letters on SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otp.engines import DeadLetter

from ._sqlite_rows import ENVELOPE, envelope_from, history_from, rows, run, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from ._records import Policy

SAME = f"id, queue, priority, epoch, created_at, dedup, history, {ENVELOPE}"

COPY = f"""
INSERT INTO hf_job_dead (died_at, reason, error, owner, attempts, releases, {SAME})
SELECT ?2, ?3, last_error, owner, attempts, releases, {SAME} FROM hf_job WHERE seq = ?1"""
DELETE = "DELETE FROM hf_job WHERE seq = ?1"

LETTER = f"id, queue, attempts, releases, reason, error, created_at, died_at, owner, epoch, history, {ENVELOPE}"
PAGE = f"""
SELECT {LETTER} FROM hf_job_dead INDEXED BY hf_job_dead_order
WHERE queue = ?1 AND (died_at, id) > (?2, ?3) ORDER BY died_at, id LIMIT ?4"""
ONE = f"SELECT {LETTER} FROM hf_job_dead WHERE id = ?1 AND queue = ?2"

# A new seq: its old place is in the past. The epoch goes on, so that a zombie of the former life stays fenced out.
REQUEUE = f"""
INSERT INTO hf_job (due_at, last_error, {SAME})
SELECT ?3, error, {SAME} FROM hf_job_dead WHERE id = ?1 AND queue = ?2 RETURNING 1"""
DROP = "DELETE FROM hf_job_dead WHERE id = ?1 AND queue = ?2 RETURNING dedup"

FORGET_AT = "UPDATE hf_job_dedup SET expires_at = ?3 WHERE queue = ?1 AND dedup = ?2"


def bury(c: apsw.Connection, seq: int, reason: str, now: float) -> None:
    """Make a dead letter of the row; its last_error is the letter's error."""
    run(c, COPY, (seq, now, reason))
    run(c, DELETE, (seq,))


def ended(c: apsw.Connection, queue: str, dedup: str | None, now: float, policy: Policy) -> None:
    """From here on the dedup id is known for the window only."""
    if dedup is not None:
        run(c, FORGET_AT, (queue, dedup, now + policy.dedup_window))


def page(c: apsw.Connection, queue: str, limit: int, after: tuple[float, str] | None) -> list[DeadLetter]:
    """A page of letters in the order of (last_at, id)."""
    return [_letter(row) for row in rows(c, PAGE, (queue, *(after or (-1.0, "")), limit))]


def one(c: apsw.Connection, queue: str, job_id: str) -> DeadLetter | None:
    """The letter of this job."""
    found = rows(c, ONE, (job_id, queue))
    return _letter(found[0]) if found else None


def requeue(c: apsw.Connection, queue: str, job_ids: Sequence[str], now: float) -> int:
    """Make jobs of these letters; returns how many there were."""
    count = 0
    for job_id in job_ids:
        if value(c, REQUEUE, (job_id, queue, now)) is not None:
            rows(c, DROP, (job_id, queue))
            count += 1
    return count


def drop(c: apsw.Connection, queue: str, job_ids: Sequence[str], now: float, policy: Policy) -> int:
    """Delete these letters; returns how many there were."""
    count = 0
    for job_id in job_ids:
        for (dedup,) in rows(c, DROP, (job_id, queue)):
            ended(c, queue, dedup, now, policy)
            count += 1
    return count


def _letter(row: Sequence[Any]) -> DeadLetter:
    return DeadLetter(
        id=row[0],
        kind="queue",
        source=row[1],
        attempts=row[2],
        releases=row[3],
        reason=row[4],
        error=row[5] or "",
        first_at=row[6],
        last_at=row[7],
        owner=row[8] or "",
        epoch=row[9],
        history=history_from(row[10]),
        envelope=envelope_from(row[11:]),
    )
