"""Checkpoints in SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ForeignLease
from .._rows import CheckpointView, SavedStep, StepRow
from ._schema import prepare
from ._sql import ENVELOPE, Row, changed, columns_of, envelope_of, lease_name, lost, row, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from otp.engines import Engine, Envelope, Token, Transaction

# Few enough to cost nothing, and more than one clear can add.
_PRUNED_BY_A_CLEAR = 2

_OPEN = """
INSERT INTO hf_checkpoint_head (key, lease, owner, epoch, next_seq, touched_at) VALUES (?1, ?2, ?3, ?4, 1, ?5)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch, touched_at = excluded.touched_at
WHERE epoch < excluded.epoch OR (epoch = excluded.epoch AND owner = excluded.owner)
"""
_SAVE_HEAD = """
UPDATE hf_checkpoint_head SET next_seq = next_seq + 1, touched_at = ?4, closed_at = NULL
WHERE key = ?1 AND owner = ?2 AND epoch = ?3 RETURNING next_seq - 1
"""
_SAVE = f"""
INSERT INTO hf_checkpoint (key, step, occurrence, seq, epoch, saved_at, step_checksum, {ENVELOPE})
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key, step, occurrence) DO UPDATE SET
seq = excluded.seq, epoch = excluded.epoch, saved_at = excluded.saved_at, step_checksum = excluded.step_checksum,
topic = excluded.topic, version = excluded.version, codec = excluded.codec, headers = excluded.headers,
checksum = excluded.checksum, body = excluded.body
"""
_STEPS = f"""
SELECT step, occurrence, seq, epoch, saved_at, step_checksum, {ENVELOPE} FROM hf_checkpoint WHERE key = ? ORDER BY seq
"""
_IS_MINE = "SELECT 1 FROM hf_checkpoint_head WHERE key = ? AND owner = ? AND epoch = ?"
_CLOSE = "UPDATE hf_checkpoint_head SET closed_at = ?, touched_at = ? WHERE key = ? AND owner = ? AND epoch = ?"
_PRUNE_CLOSED = """
DELETE FROM hf_checkpoint_head WHERE key IN (
SELECT key FROM hf_checkpoint_head WHERE closed_at IS NOT NULL AND closed_at <= ? ORDER BY closed_at LIMIT ?)
"""


def _step(columns: Row) -> StepRow:
    step, occurrence, seq, epoch, saved_at, checksum, *envelope = columns
    saved = SavedStep(step, occurrence, seq, envelope_of(tuple(envelope)), epoch, saved_at)
    return StepRow(saved, checksum)


class SqliteCheckpoints:
    """See `CheckpointBackend`."""

    def __init__(self, engine: Engine[apsw.Connection]) -> None:
        prepare(engine)
        self._engine = engine

    async def open(self, key: str, token: Token) -> Sequence[StepRow]:
        def fn(c: apsw.Connection) -> list[StepRow]:
            lease = lease_name(token)
            known = row(c, "SELECT lease FROM hf_checkpoint_head WHERE key = ?", key)
            if known is not None and known[0] != lease:
                raise ForeignLease(f"checkpoint {key!r}", known[0], lease)
            if not changed(c, _OPEN, key, lease, token.owner, token.epoch, self._engine.now(c)):
                raise lost(token)
            return [_step(found) for found in rows(c, _STEPS, key)]

        return await self._engine.write(fn)

    async def save(
        self,
        key: str,
        token: Token,
        step: str,
        occurrence: int,
        envelope: Envelope,
        checksum: int,
        tx: Transaction | None,
    ) -> tuple[int, float]:
        def fn(c: apsw.Connection) -> tuple[int, float]:
            now = self._engine.now(c)
            head = row(c, _SAVE_HEAD, key, token.owner, token.epoch, now)
            if head is None:
                raise lost(token)
            seq = int(head[0])
            changed(c, _SAVE, key, step, occurrence, seq, token.epoch, now, checksum, *columns_of(envelope))
            return seq, now

        return await self._engine.write(fn, tx=tx)

    async def discard(self, key: str, token: Token, from_seq: int) -> None:
        def fn(c: apsw.Connection) -> None:
            if row(c, _IS_MINE, key, token.owner, token.epoch) is None:
                raise lost(token)
            changed(c, "DELETE FROM hf_checkpoint WHERE key = ? AND seq >= ?", key, from_seq)

        await self._engine.write(fn)

    async def clear(self, key: str, token: Token, keep: float, tx: Transaction | None) -> None:
        def fn(c: apsw.Connection) -> None:
            now = self._engine.now(c)
            if not changed(c, _CLOSE, now, now, key, token.owner, token.epoch):
                raise lost(token)
            changed(c, "DELETE FROM hf_checkpoint WHERE key = ?", key)
            changed(c, _PRUNE_CLOSED, now - keep, _PRUNED_BY_A_CLEAR)

        await self._engine.write(fn, tx=tx)

    async def prune(self, closed_for: float, abandoned_for: float | None, limit: int) -> int:
        def fn(c: apsw.Connection) -> int:
            now = self._engine.now(c)
            pruned = changed(c, _PRUNE_CLOSED, now - closed_for, limit)
            if abandoned_for is not None and pruned < limit:
                old = rows(
                    c,
                    "SELECT key FROM hf_checkpoint_head WHERE closed_at IS NULL AND touched_at <= ? LIMIT ?",
                    now - abandoned_for,
                    limit - pruned,
                )
                for (key,) in old:
                    changed(c, "DELETE FROM hf_checkpoint WHERE key = ?", key)
                    changed(c, "DELETE FROM hf_checkpoint_head WHERE key = ?", key)
                pruned += len(old)
            return pruned

        return await self._engine.write(fn)

    async def peek(self, key: str) -> tuple[CheckpointView, Sequence[StepRow]] | None:
        def fn(c: apsw.Connection) -> tuple[CheckpointView, Sequence[StepRow]] | None:
            head = row(c, "SELECT lease, owner, epoch, closed_at FROM hf_checkpoint_head WHERE key = ?", key)
            if head is None:
                return None
            lease, owner, epoch, closed_at = head
            view = CheckpointView(key, lease, owner, epoch, closed_at is not None, ())
            return view, [_step(found) for found in rows(c, _STEPS, key)]

        return await self._engine.read(fn)
