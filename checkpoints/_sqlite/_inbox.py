"""Inboxes in SQLite. `hf_inbox` holds what is unprocessed and nothing else, so no query grows with what was done."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from otp.engines import Failure

from .._errors import ForeignLease
from .._rows import Counts, InboxStatistics, NewEntry, Posted, StoredEntry, with_failure
from . import _dead
from ._append import append, known
from ._schema import prepare
from ._sql import ENVELOPE, Row, changed, dump_history, envelope_of, lease_name, load_history, lost, row, rows
from ._take import forget_later, not_head, take_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from otp.engines import DeadLetter, Engine, Token, Transaction

_OPEN = """
INSERT INTO hf_inbox_head (name, lease, owner, epoch, next_seq, depth) VALUES (?1, ?2, ?3, ?4, 1, 0)
ON CONFLICT (name) DO UPDATE SET lease = excluded.lease, owner = excluded.owner, epoch = excluded.epoch
WHERE epoch < excluded.epoch OR (epoch = excluded.epoch AND owner = excluded.owner)
"""
_IS_MINE = "SELECT 1 FROM hf_inbox_head WHERE name = ? AND owner = ? AND epoch = ?"
_READ = f"""
SELECT seq, id, deduplicated, sender, posted_at, attempts, releases, error, history, {ENVELOPE}
FROM hf_inbox WHERE name = ? ORDER BY seq LIMIT ?
"""
_AT_HEAD = "name = ?1 AND seq = ?2 AND seq = (SELECT min(seq) FROM hf_inbox WHERE name = ?1)"
_BEGIN = f"""
UPDATE hf_inbox SET attempts = attempts + (attempt_epoch <> ?3), attempt_epoch = ?3 WHERE {_AT_HEAD}
RETURNING attempts, releases, error
"""
_UNKNOWN = f"""
UPDATE hf_inbox SET unknown_since = coalesce(unknown_since, ?3) WHERE {_AT_HEAD} RETURNING ?3 - unknown_since
"""
_FAILED = f"UPDATE hf_inbox SET attempt_epoch = 0, error = ?3, history = ?4 WHERE {_AT_HEAD}"
_HISTORY = f"SELECT attempts, history FROM hf_inbox WHERE {_AT_HEAD}"
# An attempt is given back only if one is open: twice given back is once.
_RELEASED = f"""
UPDATE hf_inbox SET attempts = attempts - (attempt_epoch = ?3), releases = releases + (attempt_epoch = ?3),
attempt_epoch = 0 WHERE {_AT_HEAD} RETURNING attempts
"""


def _entry(name: str, columns: Row) -> StoredEntry:
    seq, id_, deduplicated, sender, posted_at, attempts, releases, error, history, *envelope = columns
    return StoredEntry(
        inbox=name,
        seq=seq,
        id=id_,
        deduplicated=bool(deduplicated),
        sender=sender,
        envelope=envelope_of(tuple(envelope)),
        posted_at=posted_at,
        attempts=attempts,
        releases=releases,
        error=error,
        history=load_history(history),
    )


def _check_mine(c: apsw.Connection, name: str, token: Token) -> None:
    if row(c, _IS_MINE, name, token.owner, token.epoch) is None:
        raise lost(token)


class SqliteInboxes:
    """See `InboxBackend`."""

    def __init__(self, engine: Engine[apsw.Connection]) -> None:
        prepare(engine)
        self._engine = engine

    async def post(self, name: str, entry: NewEntry, max_depth: int, tx: Transaction | None) -> Posted:
        def fn(c: apsw.Connection) -> Posted:
            now = self._engine.now(c)
            first = known(c, name, entry.id, now) if entry.deduplicated else None
            if first is not None:
                return Posted(first, entry.id, duplicate=True)
            return Posted(append(c, name, entry, max_depth, now), entry.id, duplicate=False)

        return await self._engine.write(fn, tx=tx)

    async def open(self, name: str, token: Token) -> None:
        def fn(c: apsw.Connection) -> None:
            lease = lease_name(token)
            head = row(c, "SELECT lease FROM hf_inbox_head WHERE name = ?", name)
            if head is not None and head[0] not in (None, lease):
                raise ForeignLease(f"inbox {name!r}", head[0], lease)
            if not changed(c, _OPEN, name, lease, token.owner, token.epoch):
                raise lost(token)

        await self._engine.write(fn)

    async def read(self, name: str, token: Token, limit: int) -> Sequence[StoredEntry]:
        def fn(c: apsw.Connection) -> list[StoredEntry]:
            _check_mine(c, name, token)
            return [_entry(name, found) for found in rows(c, _READ, name, limit)]

        return await self._engine.read(fn)

    async def begin(self, name: str, token: Token, seq: int) -> Counts:
        def fn(c: apsw.Connection) -> Counts:
            _check_mine(c, name, token)
            found = row(c, _BEGIN, name, seq, token.epoch)
            if found is None:
                raise not_head(c, name, seq)
            return Counts(*found)

        return await self._engine.write(fn)

    async def note_unknown(self, name: str, token: Token, seq: int) -> float:
        def fn(c: apsw.Connection) -> float:
            _check_mine(c, name, token)
            found = row(c, _UNKNOWN, name, seq, self._engine.now(c))
            if found is None:
                raise not_head(c, name, seq)
            return float(found[0])

        return await self._engine.write(fn)

    async def finish(self, name: str, token: Token, seq: int, dedup_window: float, tx: Transaction | None) -> None:
        def fn(c: apsw.Connection) -> None:
            id_, deduplicated = take_head(c, name, token, seq, "id, deduplicated")
            if deduplicated:
                forget_later(c, name, id_, self._engine.now(c) + dedup_window)

        await self._engine.write(fn, tx=tx)

    async def end_attempt(self, name: str, token: Token, seq: int, error: str, *, counted: bool) -> int:
        def fn(c: apsw.Connection) -> int:
            _check_mine(c, name, token)
            found = row(c, _HISTORY, name, seq)
            if found is None:
                raise not_head(c, name, seq)
            attempts, history = found
            if not counted:
                return int((row(c, _RELEASED, name, seq, token.epoch) or (attempts,))[0])
            failure = Failure(attempt=attempts, at=self._engine.now(c), owner=token.owner, error=error)
            changed(c, _FAILED, name, seq, error, dump_history(with_failure(load_history(history), failure)))
            return int(attempts)

        return await self._engine.write(fn)

    async def bury(self, name: str, token: Token, seq: int, reason: str, error: str, tx: Transaction | None) -> None:
        def fn(c: apsw.Connection) -> None:
            _dead.bury(c, name, token, seq, reason, error, self._engine.now(c))

        await self._engine.write(fn, tx=tx)

    async def wait(self, name: str, token: Token) -> None:
        def probe(c: apsw.Connection, _now: float) -> float:
            head = row(c, "SELECT owner, epoch, depth FROM hf_inbox_head WHERE name = ?", name)
            return inf if head == (token.owner, token.epoch, 0) else 0.0

        await self._engine.watch(probe)

    async def statistics(self, name: str, max_depth: int) -> InboxStatistics:
        def fn(c: apsw.Connection) -> InboxStatistics:
            head = row(c, "SELECT owner, epoch, next_seq, depth FROM hf_inbox_head WHERE name = ?", name)
            owner, epoch, next_seq, depth = head or (None, 0, 1, 0)
            first = row(c, "SELECT seq, posted_at FROM hf_inbox WHERE name = ? ORDER BY seq LIMIT 1", name)
            (dead,) = row(c, "SELECT count(*) FROM hf_inbox_dead WHERE name = ?", name) or (0,)
            return InboxStatistics(
                name=name,
                depth=depth,
                max_depth=max_depth,
                posted=next_seq - 1,
                dead=dead,
                head=None if first is None else first[0],
                oldest_age=0.0 if first is None else max(0.0, self._engine.now(c) - first[1]),
                owner=owner,
                epoch=epoch,
            )

        return await self._engine.read(fn)

    async def dead_list(self, name: str, limit: int, after: tuple[float, str] | None) -> Sequence[DeadLetter]:
        return await self._engine.read(lambda c: _dead.page(c, name, limit, after))

    async def dead_show(self, name: str, id_: str) -> DeadLetter | None:
        return await self._engine.read(lambda c: _dead.show(c, name, id_))

    async def dead_requeue(self, name: str, id_: str, max_depth: int, tx: Transaction | None) -> int | None:
        return await self._engine.write(lambda c: _dead.requeue(c, name, id_, max_depth, self._engine.now(c)), tx=tx)

    async def dead_drop(self, name: str, id_: str, dedup_window: float, tx: Transaction | None) -> bool:
        return await self._engine.write(lambda c: _dead.drop(c, name, id_, self._engine.now(c) + dedup_window), tx=tx)
