"""The memory engine: transactions with an undo log, watching, sharing; under virtual time."""

import math

import pytest
import trio
from trio.testing import MockClock

from otp.engines import MemoryEngine, MemoryStore, MemoryTables, NotOpen, StoreError, TransactionTimeout


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


def put(key: str, row: object):
    def fn(tables: MemoryTables) -> None:
        tables.table("t")[key] = row

    return fn


def drop(key: str):
    def fn(tables: MemoryTables) -> None:
        del tables.table("t")[key]

    return fn


async def rows(engine: MemoryEngine) -> dict[object, object]:
    return await engine.read(lambda tables: dict(tables.table("t")))


async def test_a_failing_function_is_undone(autojump_clock):
    async with MemoryEngine() as engine:
        await engine.write(put("a", 1))

        def fn(tables: MemoryTables) -> None:
            table = tables.table("t")
            table["a"] = 2
            table["b"] = 3
            del table["a"]
            heap = tables.other("heap", list)
            heap.append(1)
            tables.on_rollback(lambda: heap.remove(1))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await engine.write(fn)
        assert await rows(engine) == {"a": 1}
        assert await engine.read(lambda tables: tables.other("heap", list)) == []


async def test_transaction(autojump_clock):
    async with MemoryEngine() as engine:
        ends: list[bool] = []
        async with engine.transaction() as tx:
            tx.on_end(ends.append)
            await engine.write(put("a", 1), tx=tx)
            with pytest.raises(KeyError):
                await engine.write(drop("none"), tx=tx)
            with pytest.raises(StoreError, match="no SQL"):
                await tx.execute("SELECT 1")
        with pytest.raises(TransactionTimeout):  # noqa: PT012
            async with engine.transaction(timeout=3.0) as tx:
                tx.on_end(ends.append)
                await engine.write(put("a", 2), tx=tx)
                await trio.sleep(10)
        with pytest.raises(NotOpen):
            await engine.write(put("a", 3), tx=tx)
        with pytest.raises(NotOpen):
            tx.on_end(ends.append)
        assert trio.current_time() == 3.0
        assert ends == [True, False]
        assert await rows(engine) == {"a": 1}


async def test_a_transaction_is_isolated(autojump_clock):
    async with MemoryEngine() as engine, trio.open_nursery() as nursery:
        seen: list[object] = []

        async def look() -> None:
            seen.append(await rows(engine))

        with pytest.raises(RuntimeError, match="no"):  # noqa: PT012
            async with engine.transaction() as tx:
                await engine.write(put("a", 1), tx=tx)
                nursery.start_soon(look)
                await trio.sleep(1)
                assert seen == []
                raise RuntimeError("no")
        await trio.sleep(1)
        assert seen == [{}]


async def test_reading_must_not_write(autojump_clock):
    async with MemoryEngine() as engine:
        with pytest.raises(StoreError, match="use write"):
            await engine.read(put("a", 1))
        assert await rows(engine) == {}


async def test_watch(autojump_clock):
    store = MemoryStore()
    async with MemoryEngine(store=store) as a, MemoryEngine(store=store) as b, trio.open_nursery() as nursery:
        woken: list[float] = []

        async def wait() -> None:
            await b.watch(lambda tables, _: 0.0 if tables.table("t") else math.inf)
            woken.append(trio.current_time())

        nursery.start_soon(wait)
        await trio.sleep(10)
        assert woken == []
        await a.write(put("a", 1))
        await trio.sleep(1)
        assert woken == [10.0]
        await a.watch(lambda _, now: 50.0 - now)
        assert trio.current_time() == 50.0


async def test_shared_by_name_or_private(autojump_clock):
    async with MemoryEngine("test_shared") as a, MemoryEngine("test_shared") as b, MemoryEngine() as c:
        await a.write(put("a", 1))
        assert await rows(b) == {"a": 1}
        assert await rows(c) == {}
    async with MemoryEngine("test_shared") as again:
        assert await rows(again) == {"a": 1}
        assert again.owner != a.owner
    with pytest.raises(ValueError, match="exclude"):
        MemoryEngine("x", store=MemoryStore())


async def test_engines_may_be_closed_in_any_order(autojump_clock):
    a, b = MemoryEngine(), MemoryEngine()
    await a.__aenter__()
    await b.__aenter__()
    await a.__aexit__(None, None, None)
    await b.write(put("a", 1))
    await b.__aexit__(None, None, None)
    assert "closed" in repr(b)
