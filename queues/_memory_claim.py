"""Claiming in memory: the rules of `QueueBackend.claim`, in the words of rows and heaps."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from attrs import evolve

from otp.engines import DeadLetter, Token

from ._memory_rows import DeadRow, JobRow, Store
from ._records import Claimed, ClaimedJob
from ._words import failure, lease_ran_out, remembered, unknown_too_long, used_up

if TYPE_CHECKING:
    from ._records import Policy

UPKEEP = 100  # leases ended, and old set-aside jobs buried, at most, by one claim
ASIDE_PER_CLAIM = 1_000  # jobs set aside at most by one claim


def claim(
    store: Store, kind: str, owner: str, now: float, lease: float, limit: int, policy: Policy, *, start: bool
) -> Claimed:
    """One claim; see `QueueBackend.claim`."""
    rescued, buried = _end_expired(store, now, policy)
    buried += _bury_old_aside(store, now, policy)
    jobs: list[ClaimedJob] = []
    set_aside = 0
    while len(jobs) < limit and set_aside < ASIDE_PER_CLAIM and (row := _first(store, now, policy)) is not None:
        if not _known(row, policy):
            store.save(evolve(row, state="aside", aside_at=now))
            set_aside += 1
            continue
        row = evolve(
            row,
            state="running",
            owner=owner,
            epoch=row.epoch + 1,
            until=now + lease,
            attempts=row.attempts + start,
            started=start,
        )
        store.save(row)
        jobs.append(
            ClaimedJob(
                token=Token(kind=kind, key=row.id, owner=owner, epoch=row.epoch),
                envelope=row.envelope,
                attempts=row.attempts,
                started=start,
                releases=row.releases,
                priority=row.priority,
                enqueued_at=row.created_at,
                last_error=row.last_error,
            )
        )
    return Claimed(jobs=jobs, rescued=rescued, buried=buried, set_aside=set_aside)


def next_event(store: Store, now: float, policy: Policy) -> float:
    """Seconds until a claim may find something to do; infinity when only somebody's commit can change that."""
    soonest = inf
    for priority in store.heaps.ready:
        if (row := store.top_ready(priority)) is not None:
            soonest = min(soonest, row.due_at - now)
    if (row := store.top_running()) is not None:
        soonest = min(soonest, row.until - now)
    for kind in store.heaps.aside:
        if policy.knows(*kind) and store.top_aside(kind) is not None:
            return min(soonest, 0.0)
    if (row := store.oldest_aside()) is not None:
        soonest = min(soonest, row.aside_at + policy.unknown_grace - now)
    return soonest


def bury(store: Store, row: JobRow, reason: str, error: str | None, now: float) -> None:
    """Make a dead letter of the job. Its dedup id stays known as long as the letter is there."""
    letter = DeadLetter(
        id=row.id,
        kind="queue",
        source=row.queue,
        envelope=row.envelope,
        attempts=row.attempts,
        releases=row.releases,
        reason=reason,
        error=error or row.last_error or "",
        first_at=row.created_at,
        last_at=now,
        owner=row.owner,
        epoch=row.epoch,
        history=row.failures,
    )
    store.dead[row.id] = DeadRow(letter=letter, priority=row.priority, dedup=row.dedup)
    store.end(row)


def _known(row: JobRow, policy: Policy) -> bool:
    return policy.knows(row.envelope.topic, row.envelope.codec, row.envelope.version)


def _end_expired(store: Store, now: float, policy: Policy) -> tuple[int, int]:
    rescued = buried = 0
    while rescued < UPKEEP and (row := store.top_running()) is not None and row.until <= now:
        rescued += 1
        if not row.started:
            store.ready(row)
            continue
        error = lease_ran_out(row.owner, row.attempts)
        failures = remembered(row.failures, failure(row.attempts, now, row.owner, error))
        row = evolve(row, last_error=error, failures=failures)
        if row.attempts >= policy.max_attempts:
            bury(store, row, used_up(policy.max_attempts), error, now)
            buried += 1
        else:
            store.ready(row)
    return rescued, buried


def _bury_old_aside(store: Store, now: float, policy: Policy) -> int:
    buried = 0
    limit = now - policy.unknown_grace
    while buried < UPKEEP and (row := store.oldest_aside()) is not None and row.aside_at <= limit:
        if _known(row, policy):
            break  # for us to take; what is behind it waits until we have
        e = row.envelope
        bury(store, row, unknown_too_long(policy, e.topic, e.codec, e.version), None, now)
        buried += 1
    return buried


def _first(store: Store, now: float, policy: Policy) -> JobRow | None:
    """The first in the queue's order of all that are due, or set aside and known here."""
    tops = [store.top_ready(priority) for priority in store.heaps.ready]
    due = [row for row in tops if row is not None and row.due_at <= now]
    tops = [store.top_aside(kind) for kind in store.heaps.aside if policy.knows(*kind)]
    due += [row for row in tops if row is not None]
    return min(due, key=lambda row: (row.priority, row.due_at, row.seq), default=None)
