"""The conformance suites on our own engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from checkpoints.testing import CheckpointConformance, InboxConformance, NameLeaseConformance, Stage
from otp.engines import Engine, Envelope, MemoryEngine, MemoryStore, SqliteEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _damaged(envelope: Envelope) -> Envelope:
    return evolve(envelope, body=envelope.body[:-1] + b"!")


class _Memory(Stage):
    damages = True
    virtual_time = True

    @pytest.fixture
    def make_engine(self) -> Callable[[], Engine[Any]]:
        store = MemoryStore()
        return lambda: MemoryEngine(store=store, lease=self.lease)

    async def damage_step(self, engine: Engine[Any], key: str, step: str) -> None:
        def fn(tables: Any) -> None:
            heads = tables.table("hf_checkpoint_head")
            head = heads[key]
            heads[key] = evolve(
                head,
                steps=tuple(
                    evolve(row, saved=evolve(row.saved, envelope=_damaged(row.saved.envelope)))
                    if row.saved.step == step
                    else row
                    for row in head.steps
                ),
            )

        await engine.write(fn)

    async def damage_entry(self, engine: Engine[Any], name: str, seq: int) -> None:
        def fn(tables: Any) -> None:
            entries = tables.table("hf_inbox")
            row = entries[name, seq]
            entries[name, seq] = evolve(row, entry=evolve(row.entry, envelope=_damaged(row.entry.envelope)))

        await engine.write(fn)


_DAMAGE = "SET body = CAST(substr(body, 1, length(body) - 1) || '!' AS BLOB)"


class _Sqlite(Stage):
    damages = True

    @pytest.fixture
    def make_engine(self, tmp_path: Path) -> Callable[[], Engine[Any]]:
        return lambda: SqliteEngine(str(tmp_path / "store.db"), lease=self.lease)

    async def damage_step(self, engine: Engine[Any], key: str, step: str) -> None:
        await engine.write(
            lambda c: c.execute(f"UPDATE hf_checkpoint {_DAMAGE} WHERE key = ? AND step = ?", (key, step))
        )

    async def damage_entry(self, engine: Engine[Any], name: str, seq: int) -> None:
        await engine.write(lambda c: c.execute(f"UPDATE hf_inbox {_DAMAGE} WHERE name = ? AND seq = ?", (name, seq)))


class TestNamesInMemory(_Memory, NameLeaseConformance):
    pass


class TestNamesInSqlite(_Sqlite, NameLeaseConformance):
    pass


class TestCheckpointsInMemory(_Memory, CheckpointConformance):
    pass


class TestCheckpointsInSqlite(_Sqlite, CheckpointConformance):
    pass


class TestInboxInMemory(_Memory, InboxConformance):
    pass


class TestInboxInSqlite(_Sqlite, InboxConformance):
    pass
