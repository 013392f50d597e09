"""Writing to SQLite: group commit, savepoints, interactive transactions, watching."""

import math
import time
from typing import Any

import apsw
import pytest
import trio

from otp.engines import (
    EngineStatistics,
    LeaseLost,
    MemoryEngine,
    NotOpen,
    SqliteEngine,
    StoreError,
    StoreUnavailable,
    TransactionTimeout,
)
from tests.engines.support import add_items, claim, note, notes, remove, sql, sqlite, until


async def test_what_is_queued_together_is_committed_together(tmp_path):
    async with sqlite(tmp_path) as engine:
        async with trio.open_nursery() as nursery:
            for i in range(300):
                nursery.start_soon(engine.write, note(str(i)))
        assert len(await notes(engine)) == 300
        # How many fit into the first commit is up to the scheduler, but it cannot be one each.
        assert engine.statistics().commits < 60


async def test_a_failing_function_does_not_spoil_the_others(tmp_path):
    async with sqlite(tmp_path) as engine:
        await engine.write(note("5"))
        failed: list[str] = []

        async def add(text: str) -> None:
            try:
                await engine.write(note(text))
            except apsw.ConstraintError:
                failed.append(text)

        async def half() -> None:
            def fn(c: apsw.Connection) -> None:
                note("never")(c)
                raise KeyError("mine")

            with pytest.raises(KeyError, match="mine"):
                await engine.write(fn)

        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(add, str(i))
                nursery.start_soon(half)
        assert failed == ["5"]
        assert sorted(await notes(engine), key=int) == [str(i) for i in range(20)]


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
async def test_a_function_that_ends_the_transaction_is_refused_and_spoils_nobody(tmp_path, statement):
    async with sqlite(tmp_path) as engine:
        # Without a UNIQUE constraint, so that something written twice would be seen.
        await engine.write(sql("CREATE TABLE log (text)"))

        async def rogue() -> None:
            with pytest.raises(StoreError, match="must not end"):
                await engine.write(sql(statement))

        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(engine.write, sql(f"INSERT INTO log VALUES ({i})"))
                nursery.start_soon(rogue)
        assert await engine.read(lambda c: c.execute("SELECT count(*) FROM log").get) == 20
        with pytest.raises(StoreError, match="rolled back"):  # noqa: PT012
            async with engine.transaction() as tx:
                await tx.execute("INSERT INTO log VALUES (99)")
                with pytest.raises(StoreError, match="must not end"):
                    await tx.execute(statement)
        assert await engine.read(lambda c: c.execute("SELECT count(*) FROM log").get) == 20


async def test_a_constraint_checked_at_commit_hits_only_the_one_that_broke_it(tmp_path):
    async with sqlite(tmp_path) as engine:
        await engine.write(sql("CREATE TABLE part (item INTEGER REFERENCES item DEFERRABLE INITIALLY DEFERRED)"))

        async def orphan() -> None:
            with pytest.raises(apsw.ConstraintError):
                await engine.write(sql("INSERT INTO part VALUES (99)"))

        async with trio.open_nursery() as nursery:
            for i in range(10):
                nursery.start_soon(engine.write, note(str(i)))
            nursery.start_soon(orphan)
        assert len(await notes(engine)) == 10


async def test_transaction_commits_and_rolls_back(tmp_path):
    async with sqlite(tmp_path) as engine:
        ends: list[bool] = []
        async with engine.transaction() as tx:
            tx.on_end(ends.append)
            rows = await tx.execute("INSERT INTO note VALUES (?) RETURNING text", "a")
            assert rows == [("a",)]
            await engine.write(note("b"), tx=tx)
            with pytest.raises(apsw.ConstraintError):
                await engine.write(note("b"), tx=tx)  # only this one is undone
        assert ends == [True]
        with pytest.raises(NotOpen):
            await tx.execute("SELECT 1")
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with engine.transaction() as tx:
                tx.on_end(ends.append)
                await engine.write(note("c"), tx=tx)
                raise ZeroDivisionError
        with trio.move_on_after(0.05):
            async with engine.transaction() as tx:
                tx.on_end(ends.append)
                await engine.write(note("d"), tx=tx)
                await trio.sleep_forever()
        assert ends == [True, False, False]
        assert await notes(engine) == ["a", "b"]


async def test_transaction_has_the_writer_for_itself_and_is_timed(tmp_path):
    async with sqlite(tmp_path) as engine, trio.open_nursery() as nursery:
        order: list[str] = []

        async def other() -> None:
            await engine.write(note("other"))
            order.append("other")

        with pytest.raises(TransactionTimeout, match=r"0\.2 s"):  # noqa: PT012
            async with engine.transaction(timeout=0.2) as tx:
                await engine.write(note("mine"), tx=tx)
                nursery.start_soon(other)
                try:
                    await trio.sleep_forever()
                finally:
                    order.append("mine")
        await until(lambda: len(order) == 2)
        assert order == ["mine", "other"]
        assert await notes(engine) == ["other"]


async def test_a_stalled_loop_does_not_keep_the_write_lock(tmp_path):
    async with sqlite(tmp_path) as a, sqlite(tmp_path) as b:
        with pytest.raises(TransactionTimeout):  # noqa: PT012
            async with a.transaction(timeout=0.1) as tx:
                await a.write(note("a"), tx=tx)
                time.sleep(0.3)  # noqa: ASYNC251 - the stall
                # Our loop has not run, yet the thread has rolled back: the lock is free for others.
                other = apsw.Connection(str(tmp_path / "test.db"))
                other.execute("INSERT INTO note VALUES ('other')")
                other.close()
                await tx.execute("SELECT 1")
        assert await notes(b) == ["other"]


async def test_a_runaway_statement_in_a_transaction_is_stopped(tmp_path):
    async with sqlite(tmp_path) as engine:
        begun = time.monotonic()
        with pytest.raises(TransactionTimeout):
            async with engine.transaction(timeout=0.2) as tx:
                await tx.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
                )
        assert time.monotonic() - begun < 5
        await engine.write(note("after"))


async def test_writing_beside_the_own_transaction_is_refused_instead_of_waiting_for_itself(tmp_path):
    async with sqlite(tmp_path) as engine, MemoryEngine() as memory:
        for store in (engine, memory):
            async with store.transaction():
                with pytest.raises(StoreError, match="tx=tx"):
                    await store.write(lambda _: None)
                with pytest.raises(StoreError, match="tx=tx"):
                    await store.read(lambda _: None)
        async with memory.transaction() as tx:
            with pytest.raises(ValueError, match="belongs to"):
                await engine.write(note("x"), tx=tx)


async def test_finish_lets_go_only_when_committed(tmp_path):
    async with sqlite(tmp_path) as engine:
        await add_items(engine, 2)
        first, second = await claim(engine, 2)
        await engine.finish(first, remove(first))
        assert engine.statistics().leases_held == 1
        with pytest.raises(RuntimeError, match="rolled back"):  # noqa: PT012
            async with engine.transaction() as tx:
                await engine.finish(second, remove(second), tx=tx)
                raise RuntimeError("rolled back")
        assert engine.statistics().leases_held == 1
        assert not second.lost
        async with engine.transaction() as tx:
            await engine.finish(second, remove(second), tx=tx)
            assert engine.statistics().leases_held == 1
        assert engine.statistics().leases_held == 0
        with pytest.raises(LeaseLost):
            await engine.finish(second, remove(second))


async def test_watch_is_woken_by_another_engine_and_by_time(tmp_path):
    async with sqlite(tmp_path) as a, sqlite(tmp_path) as b, trio.open_nursery() as nursery:
        woken: list[float] = []

        async def wait() -> None:
            await b.watch(lambda c, _: 0.0 if c.execute("SELECT 1 FROM note").fetchall() else math.inf)
            woken.append(time.monotonic())

        nursery.start_soon(wait)
        await trio.sleep(0.05)
        await a.write(note("x"))
        committed = time.monotonic()
        await until(lambda: bool(woken))
        print(f"woken {1000 * (woken[0] - committed):.1f} ms after the commit was known")  # noqa: T201
        assert woken[0] - committed < 1.0

        due = b.monotonic() + 0.1
        begun = time.monotonic()
        await b.watch(lambda c, _: due - b.monotonic())
        assert 0.09 < time.monotonic() - begun < 2.0

        with trio.move_on_after(0.05) as scope:
            await b.watch(lambda c, _: math.inf)
        assert scope.cancelled_caught


async def test_a_failing_probe_ends_its_own_watch_only(tmp_path):
    async with sqlite(tmp_path) as engine, trio.open_nursery() as nursery:
        woken: list[bool] = []

        async def wait() -> None:
            await engine.watch(lambda c, _: 0.0 if c.execute("SELECT 1 FROM note").fetchall() else math.inf)
            woken.append(True)

        nursery.start_soon(wait)
        await trio.sleep(0.02)
        with pytest.raises(apsw.SQLError):
            await engine.watch(lambda c, _: c.execute("SELECT nonsense").get)
        assert woken == []
        await engine.write(note("x"))
        await until(lambda: bool(woken))


async def test_a_reader_cannot_write_and_sees_committed_states_only(tmp_path):
    async with sqlite(tmp_path) as engine:
        with pytest.raises(StoreError, match="use write"):
            await engine.read(note("x"))
        async with engine.transaction() as tx:
            await engine.write(note("x"), tx=tx)
            async with trio.open_nursery() as nursery:

                async def look() -> None:
                    assert await notes(engine) == []

                nursery.start_soon(look)
        assert await notes(engine) == ["x"]


async def test_used_when_it_is_not_open(tmp_path):
    engine = sqlite(tmp_path)
    with pytest.raises(NotOpen):
        await engine.write(note("x"))
    for _ in range(2):  # it may be opened again
        async with engine:
            with pytest.raises(StoreError, match="open already"):
                async with engine:
                    pass
            await engine.write(lambda c: None)
    with pytest.raises(NotOpen):
        await engine.read(note("x"))
    assert engine.statistics() == EngineStatistics()


async def test_busy_is_waited_for_and_then_told(tmp_path):
    async with sqlite(tmp_path, busy_timeout=0.1) as engine:
        other = apsw.Connection(str(tmp_path / "test.db"))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="write lock") as caught:
            await engine.write(note("x"))
        assert caught.value.retry
        with pytest.raises(StoreUnavailable, match="write lock"):
            async with engine.transaction():
                pass
        other.execute("ROLLBACK")
        other.close()
        await engine.write(note("y"))
        assert await notes(engine) == ["y"]


async def test_a_transaction_knows_its_task_whoever_had_one_before(tmp_path):
    async def work(engine: SqliteEngine) -> None:
        for _ in range(10):
            async with engine.transaction() as tx:
                await tx.run(note_once)
                with pytest.raises(StoreError, match="has a transaction open"):
                    await engine.write(note_once)

    def note_once(c: Any) -> None:
        c.execute("INSERT OR IGNORE INTO note VALUES ('x')")

    async with sqlite(tmp_path) as engine, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(work, engine)
