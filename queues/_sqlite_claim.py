"""Claiming on SQLite: upkeep, choice and taking, inside one transaction of the store.

All functions run in the engine's worker thread with its connection. Every query is one range of a partial index,
limited; the price of a claim depends on how much it takes, not on how much is queued, delayed, aside or finished.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from otp.engines import Token

from ._records import Claimed, ClaimedJob
from ._sqlite_dead import bury
from ._sqlite_rows import ENVELOPE, REMEMBER, envelope_from, rows, run, value
from ._words import lease_ran_out, unknown_too_long, used_up

Candidate = tuple[int, float, int, str, str, int]
"""(priority, due_at, seq, topic, codec, version): sorts as the queue is ordered."""

if TYPE_CHECKING:
    from collections.abc import Iterator

    import apsw

    from ._records import Policy

UPKEEP = 100  # expired leases ended, and old set-aside jobs buried, at most, by one claim
ASIDE_PER_CLAIM = 1_000  # jobs set aside at most by one claim
PAGE = 100  # rows read at once when the first page was not enough

EXPIRED = """
SELECT seq, owner, attempts, started FROM hf_job INDEXED BY hf_job_running
WHERE queue = ?1 AND state = 'running' AND until <= ?2 ORDER BY until LIMIT ?3"""

RESCUE = """
UPDATE hf_job SET state = 'ready', owner = NULL, until = NULL WHERE seq = ?1"""

# What a dead letter shows of workers that died without a word.
RESCUE_STARTED = f"""
UPDATE hf_job SET state = ?4, started = 0, last_error = ?2, history = {REMEMBER},
    owner = iif(?4 = 'ready', NULL, owner), until = NULL
WHERE seq = ?3"""

OLD_ASIDE = """
SELECT seq, topic, codec, version FROM hf_job INDEXED BY hf_job_aside_since
WHERE queue = ?1 AND state = 'aside' AND aside_at <= ?2 ORDER BY aside_at LIMIT ?3"""

ANY_ASIDE = "SELECT EXISTS (SELECT 1 FROM hf_job INDEXED BY hf_job_aside_since WHERE queue = ?1 AND state = 'aside')"

# A jump from one priority to the next, so that a million delayed jobs of one do not lie before the due ones of another.
NEXT_PRIORITY = """
SELECT priority FROM hf_job INDEXED BY hf_job_ready
WHERE queue = ?1 AND state = 'ready' AND priority > ?2 ORDER BY priority LIMIT 1"""

DUE = """
SELECT priority, due_at, seq, topic, codec, version FROM hf_job INDEXED BY hf_job_ready
WHERE queue = ?1 AND state = 'ready' AND priority = ?2 AND due_at <= ?3 AND (due_at, seq) > (?4, ?5)
ORDER BY due_at, seq LIMIT ?6"""

EARLIEST = """
SELECT due_at FROM hf_job INDEXED BY hf_job_ready
WHERE queue = ?1 AND state = 'ready' AND priority = ?2 ORDER BY due_at LIMIT 1"""

NEXT_ASIDE_VERSION = """
SELECT version FROM hf_job INDEXED BY hf_job_aside
WHERE queue = ?1 AND state = 'aside' AND topic = ?2 AND codec = ?3 AND version >= ?4 AND version <= ?5
ORDER BY version LIMIT 1"""

ASIDE = """
SELECT priority, due_at, seq, topic, codec, version FROM hf_job INDEXED BY hf_job_aside
WHERE queue = ?1 AND state = 'aside' AND topic = ?2 AND codec = ?3 AND version = ?4
ORDER BY priority, due_at, seq LIMIT ?5"""

SET_ASIDE = "UPDATE hf_job SET state = 'aside', aside_at = ?2 WHERE seq = ?1"

FIRST_EXPIRY = """
SELECT until FROM hf_job INDEXED BY hf_job_running
WHERE queue = ?1 AND state = 'running' ORDER BY until LIMIT 1"""

FIRST_ASIDE = """
SELECT aside_at FROM hf_job INDEXED BY hf_job_aside_since
WHERE queue = ?1 AND state = 'aside' ORDER BY aside_at LIMIT 1"""

TAKE = f"""
UPDATE hf_job SET state = 'running', owner = ?2, epoch = epoch + 1, until = ?3, attempts = attempts + ?4,
    started = ?4, aside_at = NULL
WHERE seq IN (SELECT value FROM json_each(?1))
RETURNING priority, due_at, seq, id, epoch, attempts, releases, priority, created_at, last_error, {ENVELOPE}"""

LOWEST = -1_000_000


def claim(
    c: apsw.Connection,
    queue: str,
    kind: str,
    owner: str,
    now: float,
    lease: float,
    limit: int,
    policy: Policy,
    *,
    start: bool,
) -> Claimed:
    """One claim; see `QueueBackend.claim`."""
    rescued, buried = _end_expired(c, queue, now, policy)
    aside = bool(value(c, ANY_ASIDE, (queue,)))
    if aside:
        buried += _bury_old_aside(c, queue, now, policy)
    chosen, set_aside = _choose(c, queue, now, limit, policy, aside=aside)
    jobs = [
        ClaimedJob(
            token=Token(kind=kind, key=key, owner=owner, epoch=epoch),
            attempts=attempts,
            started=start,
            releases=releases,
            priority=priority,
            enqueued_at=created_at,
            last_error=last_error,
            envelope=envelope_from(envelope),
        )
        # The order of RETURNING is nobody's promise.
        for _, _, _, key, epoch, attempts, releases, priority, created_at, last_error, *envelope in sorted(
            rows(c, TAKE, (json.dumps(chosen), owner, now + lease, int(start))) if chosen else ()
        )
    ]
    return Claimed(jobs=jobs, rescued=rescued, buried=buried, set_aside=set_aside)


def next_event(c: apsw.Connection, queue: str, now: float, policy: Policy) -> float:
    """Seconds until a claim may find something to do; infinity when only somebody's commit can change that.

    Each figure here is one that `claim` acts upon at that time; otherwise a waiting consumer would spin.
    """
    soonest = float("inf")
    for priority in _priorities(c, queue):
        soonest = min(soonest, value(c, EARLIEST, (queue, priority)) - now)
    for (until,) in rows(c, FIRST_EXPIRY, (queue,)):
        soonest = min(soonest, until - now)
    for (aside_at,) in rows(c, FIRST_ASIDE, (queue,)):
        if next(_known_aside(c, queue, policy), None) is not None:
            return min(soonest, 0.0)
        soonest = min(soonest, aside_at + policy.unknown_grace - now)
    return soonest


def _end_expired(c: apsw.Connection, queue: str, now: float, policy: Policy) -> tuple[int, int]:
    found = rows(c, EXPIRED, (queue, now, UPKEEP))
    buried = 0
    for seq, owner, attempts, started in found:
        if not started:
            run(c, RESCUE, (seq,))
            continue
        dead = attempts >= policy.max_attempts
        run(c, RESCUE_STARTED, (now, lease_ran_out(owner, attempts), seq, "running" if dead else "ready"))
        if dead:
            bury(c, seq, used_up(policy.max_attempts), now)
            buried += 1
    return len(found), buried


def _bury_old_aside(c: apsw.Connection, queue: str, now: float, policy: Policy) -> int:
    buried = 0
    found = rows(c, OLD_ASIDE, (queue, now - policy.unknown_grace, UPKEEP))
    for seq, topic, codec, version in found:
        if policy.knows(topic, codec, version):
            break  # for us to take; what is behind it waits until we have
        bury(c, seq, unknown_too_long(policy, topic, codec, version), now)
        buried += 1
    return buried


def _choose(
    c: apsw.Connection, queue: str, now: float, limit: int, policy: Policy, *, aside: bool
) -> tuple[list[int], int]:
    """Choose the rows to take, in order, and set aside those in their way that are unknown here."""
    ours: list[Candidate] = []
    if aside:
        for kind in _known_aside(c, queue, policy):
            ours += rows(c, ASIDE, (queue, *kind, limit))
    ours.sort(reverse=True)
    chosen: list[Candidate] = []
    unknown: list[int] = []
    for row in _due(c, queue, now, limit):
        while ours and ours[-1] < row and len(chosen) < limit:
            chosen.append(ours.pop())
        if len(chosen) >= limit or len(unknown) >= ASIDE_PER_CLAIM:
            break
        if policy.knows(*row[3:]):
            chosen.append(row)
        else:
            unknown.append(row[2])
    if len(unknown) < ASIDE_PER_CLAIM:  # otherwise there are ready ones that we have not looked at
        while ours and len(chosen) < limit:
            chosen.append(ours.pop())
    for seq in unknown:
        run(c, SET_ASIDE, (seq, now))
    return [row[2] for row in chosen], len(unknown)


def _due(c: apsw.Connection, queue: str, now: float, limit: int) -> Iterator[Candidate]:
    """What is due, in order, read in pages: the first is usually all that is needed."""
    page = limit
    for priority in _priorities(c, queue):
        place = (-1.0, 0)
        while True:
            found = rows(c, DUE, (queue, priority, now, *place, page))
            yield from found
            if len(found) < page:
                break
            place = found[-1][1:3]
            page = PAGE


def _priorities(c: apsw.Connection, queue: str) -> Iterator[int]:
    priority = LOWEST
    while (found := value(c, NEXT_PRIORITY, (queue, priority))) is not None:
        yield (priority := found)


def _known_aside(c: apsw.Connection, queue: str, policy: Policy) -> Iterator[tuple[str, str, int]]:
    """What is set aside (topic, codec, version) and known to this process."""
    for (topic, codec), (oldest, newest) in policy.known.items():
        version = oldest
        while (found := value(c, NEXT_ASIDE_VERSION, (queue, topic, codec, version, newest))) is not None:
            yield topic, codec, found
            version = found + 1
