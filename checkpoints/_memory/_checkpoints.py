"""Checkpoints in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from otp.engines import Engine, Envelope, LeaseLost, MemoryTable, MemoryTables, Token, Transaction

from .._rows import CheckpointView, SavedStep, StepRow
from ._rules import Expiring, lease_name, may_open

if TYPE_CHECKING:
    from collections.abc import Sequence

_PRUNED_BY_A_CLEAR = 2


@frozen
class _Head:
    lease: str
    owner: str
    epoch: int
    next_seq: int
    touched_at: float
    closed_at: float | None = None
    steps: tuple[StepRow, ...] = ()


def _heads(c: MemoryTables) -> MemoryTable[str, _Head]:
    return c.table("hf_checkpoint_head")


def _closed(c: MemoryTables) -> Expiring[tuple[str, float]]:
    return Expiring(c, "hf_checkpoint_closed")


def _mine(c: MemoryTables, key: str, token: Token) -> _Head:
    head = _heads(c).get(key)
    if head is None or (head.owner, head.epoch) != (token.owner, token.epoch):
        raise LeaseLost(token)
    return head


def _prune_closed(c: MemoryTables, now: float, keep: float, limit: int) -> int:
    pruned = 0
    while pruned < limit and (found := _closed(c).take(now - keep, limit - pruned)):
        for key, at in found:
            head = _heads(c).get(key)
            if head is not None and head.closed_at == at:  # it was not used again since
                del _heads(c)[key]
                pruned += 1
    return pruned


class MemoryCheckpoints:
    """See `CheckpointBackend`."""

    def __init__(self, engine: Engine[MemoryTables]) -> None:
        self._engine = engine

    async def open(self, key: str, token: Token) -> Sequence[StepRow]:
        def fn(c: MemoryTables) -> tuple[StepRow, ...]:
            now = self._engine.now(c)
            head = _heads(c).get(key)
            if head is None:
                head = _Head(lease_name(token), token.owner, token.epoch, 1, now)
            elif not may_open(head.lease, head.owner, head.epoch, token, f"checkpoint {key!r}"):
                raise LeaseLost(token)
            _heads(c)[key] = evolve(head, owner=token.owner, epoch=token.epoch, touched_at=now)
            return head.steps

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
        def fn(c: MemoryTables) -> tuple[int, float]:
            now = self._engine.now(c)
            head = _mine(c, key, token)
            seq = head.next_seq
            others = (row for row in head.steps if (row.saved.step, row.saved.occurrence) != (step, occurrence))
            row = StepRow(SavedStep(step, occurrence, seq, envelope, token.epoch, now), checksum)
            _heads(c)[key] = evolve(head, next_seq=seq + 1, touched_at=now, closed_at=None, steps=(*others, row))
            return seq, now

        return await self._engine.write(fn, tx=tx)

    async def discard(self, key: str, token: Token, from_seq: int) -> None:
        def fn(c: MemoryTables) -> None:
            head = _mine(c, key, token)
            _heads(c)[key] = evolve(head, steps=tuple(row for row in head.steps if row.saved.seq < from_seq))

        await self._engine.write(fn)

    async def clear(self, key: str, token: Token, keep: float, tx: Transaction | None) -> None:
        def fn(c: MemoryTables) -> None:
            now = self._engine.now(c)
            head = _mine(c, key, token)
            _heads(c)[key] = evolve(head, touched_at=now, closed_at=now, steps=())
            _closed(c).put(now, (key, now))
            _prune_closed(c, now, keep, _PRUNED_BY_A_CLEAR)

        await self._engine.write(fn, tx=tx)

    async def prune(self, closed_for: float, abandoned_for: float | None, limit: int) -> int:
        def fn(c: MemoryTables) -> int:
            now = self._engine.now(c)
            pruned = _prune_closed(c, now, closed_for, limit)
            if abandoned_for is not None:
                old = [
                    key
                    for key, head in _heads(c).items()
                    if head.closed_at is None and head.touched_at <= now - abandoned_for
                ]
                for key in old[: limit - pruned]:
                    del _heads(c)[key]
                    pruned += 1
            return pruned

        return await self._engine.write(fn)

    async def peek(self, key: str) -> tuple[CheckpointView, Sequence[StepRow]] | None:
        def fn(c: MemoryTables) -> tuple[CheckpointView, Sequence[StepRow]] | None:
            head = _heads(c).get(key)
            if head is None:
                return None
            view = CheckpointView(key, head.lease, head.owner, head.epoch, head.closed_at is not None, ())
            return view, head.steps

        return await self._engine.read(fn)
