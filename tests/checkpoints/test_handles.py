"""What the handles remember between two answers of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import frozen

from checkpoints import Inbox, NameLeases
from otp.engines import MemoryEngine, NotOpen, SqliteEngine, Topic

if TYPE_CHECKING:
    from pathlib import Path


@frozen
class Coin:
    value: int


COIN = Topic("coin", Coin)


async def test_a_name_acquired_while_the_engine_was_closing_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = MemoryEngine()
    names = NameLeases(engine)

    def closed(_lease: object) -> None:
        raise NotOpen("closing")

    async with engine:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "hold", closed)  # the answer came when the engine had begun to close
            with pytest.raises(NotOpen):
                await names.acquire("ledger")
    async with engine:
        lease = await names.acquire("ledger")
        assert lease is not None
        assert lease.token.epoch == 2


async def test_a_lease_is_counted_from_before_its_request(autojump_clock: object) -> None:
    async def keep_the_store_busy(task_status: trio.TaskStatus[None]) -> None:
        async with engine.transaction():
            task_status.started()
            await trio.sleep(3)

    async with MemoryEngine(lease=15.0) as engine, trio.open_nursery() as nursery:
        await nursery.start(keep_the_store_busy)
        asked = trio.current_time()
        lease = await NameLeases(engine).acquire("ledger")
        assert lease is not None
        assert trio.current_time() > asked
        assert lease.deadline == asked + 15.0


async def test_entries_are_read_once_however_they_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    async with MemoryEngine() as engine:
        inbox = Inbox(engine, "ledger", [COIN])
        for value in range(6):
            await inbox.post(Coin(value))
        lease = await NameLeases(engine).acquire("ledger")
        assert lease is not None
        reader = await inbox.open(lease)
        read = engine.read

        async def counted(fn: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(fn)

        monkeypatch.setattr(engine, "read", counted)
        for value in range(6):
            entry = await reader.next()
            assert entry is not None
            assert entry.payload == Coin(value)
            match value:
                case 0 | 1:
                    async with entry.commit():
                        pass
                case 2:
                    await reader.mark(entry)
                case 3:
                    await reader.bury(entry, reason="because")
                case _:
                    async with engine.transaction() as tx:
                        await reader.bury(entry, reason="because", tx=tx)
            assert entry.processed
        assert reads == 1


async def test_a_mark_that_was_rolled_back_has_the_store_asked_again() -> None:
    async with MemoryEngine() as engine:
        inbox = Inbox(engine, "ledger", [COIN])
        for value in range(2):
            await inbox.post(Coin(value))
        lease = await NameLeases(engine).acquire("ledger")
        assert lease is not None
        reader = await inbox.open(lease)
        for _ in range(2):
            entry = await reader.next()
            assert entry is not None
            with pytest.raises(KeyError):
                async with entry.commit():
                    raise KeyError
            assert not entry.processed
            assert (entry.payload, entry.attempt) == (Coin(0), 1)


async def test_expired_ids_go_by_the_posts_to_any_inbox(tmp_path: Path) -> None:
    async with SqliteEngine(tmp_path / "x.db", synchronous="normal") as engine:
        names = NameLeases(engine)
        for number in range(20):  # one entity each, none of which is written to again
            inbox = Inbox(engine, f"order-{number}", [COIN], dedup_window=0.0)
            await inbox.post(Coin(1), id="paid")
            lease = await names.acquire(inbox.name)
            assert lease is not None
            reader = await inbox.open(lease)
            entry = await reader.next()
            assert entry is not None
            await reader.mark(entry)
        known = await engine.read(lambda c: c.execute("SELECT name FROM hf_inbox_dedup").fetchall())
        assert len(known) <= 2
