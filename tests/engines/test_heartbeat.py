"""Leases: renewed, cancelled in time, taken over; with stalls, outages and other pods."""

import threading
import time

import apsw
import pytest
import trio
from trio.testing import MockClock

from otp.engines import (
    Lease,
    LeaseLost,
    MemoryEngine,
    MemoryStore,
    NotOpen,
    StoreUnavailable,
    Token,
    TransactionTimeout,
)
from otp.engines._clock import HostClock, host_clock
from otp.engines._port import Call
from tests.engines.support import add_items, claim, claimed, remove, sql, sqlite, until


async def test_renewed_as_long_as_it_is_held(tmp_path):
    async with sqlite(tmp_path, lease=1.2) as a, sqlite(tmp_path, lease=1.2) as b:
        await add_items(a, 1)
        (lease,) = await claim(a)
        first = lease.deadline
        with lease.guard():
            await trio.sleep(2.5)
            assert await claim(b) == []
        assert lease.deadline > first + 1.5
        assert not lease.lost
        assert a.statistics().beats >= 4
        a.let_go(lease)
        assert (await claimed(b)).token.epoch == 2


async def test_a_lost_lease_cancels_its_guards_and_is_told_once(tmp_path):
    async with sqlite(tmp_path, lease=1.0) as engine, trio.open_nursery() as nursery:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        told: list[str] = []

        async def worker() -> None:
            with pytest.raises(LeaseLost, match="another holder") as caught, lease.guard():
                await trio.sleep_forever()
            told.append(caught.value.token.key)

        nursery.start_soon(worker)
        nursery.start_soon(worker)
        await trio.sleep(0.02)
        await engine.write(sql("UPDATE item SET owner = 'other', epoch = epoch + 1"))
        await until(lambda: len(told) == 2)
        assert lease.lost
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(LeaseLost), lease.guard():
            pass
        with pytest.raises(LeaseLost):
            await engine.write(remove(lease))
        assert engine.statistics().leases_lost == 1


async def test_a_write_that_finds_the_lease_gone_cancels_the_others(tmp_path):
    async with sqlite(tmp_path, lease=60.0) as engine, trio.open_nursery() as nursery:
        await add_items(engine, 1)
        (lease,) = await claim(engine)

        async def worker() -> None:
            with pytest.raises(LeaseLost), lease.guard():
                await trio.sleep_forever()

        nursery.start_soon(worker)
        await trio.sleep(0.02)
        await engine.write(sql("UPDATE item SET owner = 'other'"))
        with pytest.raises(LeaseLost):
            await engine.write(remove(lease))
        assert lease.lost


async def test_an_outage_cancels_the_holder_before_the_lease_runs_out(tmp_path):
    async with sqlite(tmp_path, lease=1.5, margin=0.5, busy_timeout=0.1) as engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        other = apsw.Connection(str(tmp_path / "test.db"))
        other.execute("BEGIN IMMEDIATE")  # nobody can write any more
        try:
            with pytest.raises(LeaseLost, match="not renewed in time"), lease.guard():
                await trio.sleep_forever()
            assert engine.monotonic() < lease.deadline
            seen = engine.statistics()
            assert seen.beats_failed >= 1
            with pytest.raises(StoreUnavailable):
                await engine.write(sql("DELETE FROM item"))
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert (await claimed(engine)).token.epoch == 2


async def test_a_short_outage_is_survived(tmp_path):
    async with sqlite(tmp_path, lease=2.0) as engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        other = apsw.Connection(str(tmp_path / "test.db"))
        other.execute("BEGIN IMMEDIATE")
        with lease.guard():
            await until(lambda: engine.statistics().beats_failed >= 1)
            other.execute("ROLLBACK")
            other.close()
            await until(lambda: engine.statistics().beats >= 1)
        assert not lease.lost


async def test_a_stalled_loop_loses_its_leases_and_notices(tmp_path, caplog):
    async with sqlite(tmp_path, lease=1.0, stall_limit=0.4) as engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        other = apsw.Connection(str(tmp_path / "test.db"))

        def free() -> bool:
            query = "SELECT 1 FROM item WHERE until <= ?"
            return bool(other.execute(query, (engine.now(other),)).fetchall())

        with pytest.raises(LeaseLost, match="not renewed in time"), lease.guard():  # noqa: PT012
            await trio.sleep(0.01)
            begun = time.monotonic()
            while not free():  # the stall: our heartbeat thread runs on, but must not renew
                time.sleep(0.01)  # noqa: ASYNC251
                assert time.monotonic() - begun < 5
            other.close()
            await trio.sleep_forever()
        assert any("has not run" in record.message for record in caplog.records)
        # The loop runs again, so do the renewals.
        before = engine.statistics().beats
        await claim(engine)
        await until(lambda: engine.statistics().beats > before)


async def test_a_stall_within_the_limit_is_bridged(tmp_path):
    async with sqlite(tmp_path, lease=1.0, stall_limit=30.0) as engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        with lease.guard():
            time.sleep(2.0)  # noqa: ASYNC251
            await trio.sleep(0.05)
        assert not lease.lost


async def test_a_claim_whose_answer_came_too_late_is_lost_at_once(tmp_path):
    async with sqlite(tmp_path, lease=5.0) as engine:
        lease = Lease(Token("item", "1", engine.owner, 1), deadline=engine.monotonic() + 0.1)
        engine.hold(lease)
        with pytest.raises(LeaseLost), lease.guard():
            await trio.sleep_forever()


async def test_closing_the_engine_ends_what_is_held(tmp_path):
    engine = sqlite(tmp_path)
    async with engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
    assert lease.lost
    with pytest.raises(NotOpen):
        engine.hold(lease)
    engine.let_go(lease)


async def test_an_unknown_kind_is_refused(tmp_path):
    async with sqlite(tmp_path) as engine:
        with pytest.raises(ValueError, match="lease kind 'x'"):
            engine.hold(Lease(Token("x", "1", engine.owner, 1), deadline=1e12))
        with pytest.raises(ValueError, match="other functions"):
            engine.lease_kind("item", lambda c, tokens, until: tokens)


async def test_a_finish_and_a_heartbeat_at_the_same_time_never_lose_what_was_finished(tmp_path):
    """The heartbeat may find the row gone before we know that our own finish is committed."""
    async with sqlite(tmp_path) as engine:
        assert engine._heartbeat is not None
        keeper = engine._heartbeat._keeper
        keeper.interval, keeper.retry = 0.002, 0.001  # far more often than a lease of 15 s would need
        await add_items(engine, 200)
        for _ in range(200):
            (lease,) = await claim(engine)
            async with engine.transaction() as tx:
                await engine.finish(lease, remove(lease), tx=tx)
                await trio.sleep(0.003)
            assert not lease.lost
        assert engine.statistics().leases_lost == 0
        assert engine.statistics().beats > 20


def free(c, owner, charged):
    c.execute("UPDATE item SET until = 0 WHERE owner = ?", (owner,))


# -- the end by force -------------------------------------------------------------------------------


@pytest.mark.parametrize("stall_limit", [60.0, 0.05])
async def test_all_is_given_back_while_the_loop_is_blocked(tmp_path, stall_limit):
    """By a thread, as in a forced exit; and told apart, whether the process counted as dead by then."""
    told: list[list[str]] = []

    def give_back(c, owner, charged):
        told.append(sorted(token.key for token in charged))
        c.execute("UPDATE item SET until = 0 WHERE owner = ?", (owner,))

    engine = sqlite(tmp_path, lease=60.0, stall_limit=stall_limit, give_back=give_back)
    async with engine, sqlite(tmp_path, lease=60.0) as other:
        await add_items(engine, 3)
        leases = await claim(engine, 2)
        await until(lambda: engine.statistics().leases_held == 2)
        if stall_limit < 1.0:
            time.sleep(0.2)  # noqa: ASYNC251  (that is what it is about)
        thread = threading.Thread(target=engine.give_all_back)
        thread.start()
        thread.join()  # the loop is blocked by this
        assert told == [["1", "2"] if stall_limit < 1.0 else []]
        assert len(await claim(other, 3)) == 3
        with pytest.raises(NotOpen, match="all that it held was given back"):
            await claim(engine)  # nobody would see it
        await until(lambda: all(lease.lost for lease in leases))
        engine.give_all_back()  # again: nothing
        assert len(told) == 1


async def test_a_claim_that_the_loop_has_not_heard_of_is_given_back_too(tmp_path):
    """The writer has committed it, and then the loop was blocked for good."""
    engine = sqlite(tmp_path, lease=60.0, give_back=free)
    async with engine, sqlite(tmp_path, lease=60.0) as other:
        await add_items(engine, 1)
        writer = engine._parts().writer
        writer.inbox.put(Call(lambda c: c.execute("UPDATE item SET owner = ?, until = 1e12", (engine.owner,)) and None))
        while not writer.commits > 1:
            time.sleep(0.001)  # noqa: ASYNC251  (the loop hears of nothing)
        engine.give_all_back()
        assert len(await claim(other)) == 1


async def test_what_goes_wrong_at_the_end_keeps_nobody_waiting(tmp_path, caplog):
    async with sqlite(tmp_path, give_back=lambda c, owner, charged: 1 / 0) as engine:
        await add_items(engine, 1)
        await claim(engine)
        engine.give_all_back()
    assert "ZeroDivisionError" in caplog.text


async def test_giving_all_back_waits_for_nobody_who_holds_the_file(tmp_path):
    engine = sqlite(tmp_path, lease=1.2, give_back=free)
    async with engine:
        await add_items(engine, 1)
        await claim(engine)
        holder = apsw.Connection(str(tmp_path / "test.db"))
        holder.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        engine.give_all_back()
        assert time.monotonic() - begun < 2.0
        holder.execute("ROLLBACK")
        holder.close()


async def test_giving_all_back_where_nothing_is_held_does_nothing(tmp_path):
    engine = sqlite(tmp_path)
    engine.give_all_back()  # not open
    async with engine:
        engine.give_all_back()
    async with engine:  # opened again, it has a heartbeat again
        await add_items(engine, 1)
        assert len(await claim(engine)) == 1
    async with memory(MemoryStore()) as ends_with_the_process:
        ends_with_the_process.give_all_back()


# -- the memory engine, under virtual time ---------------------------------------------------------


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


def memory(store: MemoryStore) -> MemoryEngine:
    engine = MemoryEngine(store=store, lease=15.0)

    def extend(tables, tokens, until):
        rows = tables.table("item")
        still = [t for t in tokens if rows.get(t.key, ("", 0, 0.0))[:2] == (t.owner, t.epoch)]
        for t in still:
            rows[t.key] = (t.owner, t.epoch, until)
        return still

    engine.lease_kind("item", extend)
    return engine


async def memory_claim(engine: MemoryEngine) -> Lease | None:
    sent = engine.monotonic()

    def take(tables):
        rows = tables.table("item")
        _, epoch, until = rows.get("1", ("", 0, -1.0))
        now = engine.now(tables)
        if until > now:
            return None
        rows["1"] = (engine.owner, epoch + 1, now + engine.lease)
        return Token("item", "1", engine.owner, epoch + 1)

    token = await engine.write(take)
    if token is None:
        return None
    lease = Lease(token, deadline=sent + engine.lease)
    engine.hold(lease)
    return lease


async def test_memory_renews_hands_over_and_fences(autojump_clock):
    store = MemoryStore()
    async with memory(store) as b:
        async with memory(store) as a:
            lease = await memory_claim(a)
            assert lease is not None
            with lease.guard():
                await trio.sleep(101)
            assert a.statistics().beats == 20
            assert await memory_claim(b) is None
            left = trio.current_time()
        # Closed without a release, as if killed: free after the lease, and no sooner.
        assert lease.lost
        await b.watch(lambda tables, now: tables.table("item")["1"][2] - now)
        assert 10.0 <= trio.current_time() - left <= 15.0
        second = await memory_claim(b)
        assert second is not None
        assert second.token.epoch == 2


async def test_memory_store_that_does_not_answer(autojump_clock):
    engine = memory(MemoryStore())
    async with engine:
        lease = await memory_claim(engine)
        assert lease is not None

        def broken(tables, tokens, until):
            raise StoreUnavailable("an outage")

        engine._kinds["item"] = (broken, None)
        begun = trio.current_time()
        with pytest.raises(LeaseLost, match="not renewed in time"), lease.guard():
            await trio.sleep_forever()
        assert trio.current_time() - begun == 13.5
        assert engine.statistics().beats_failed == 9


async def test_after_a_sleep_of_the_machine_leases_are_given_up_soon(tmp_path):
    slept = 0.0
    real = host_clock()
    host = HostClock("boot", lambda: real.monotonic() + slept)
    async with sqlite(tmp_path, host=host, stall_limit=0.4) as engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        slept = 3600.0  # no timer has counted that
        await until(lambda: lease.lost, within=5.0)


async def test_a_transaction_of_another_process_is_no_longer_than_leases_can_bear(tmp_path):
    async with sqlite(tmp_path, lease=1.0) as other, sqlite(tmp_path, lease=1.0) as engine:
        await add_items(engine, 1)
        (lease,) = await claim(engine)
        with pytest.raises(TransactionTimeout):  # noqa: PT012 - the whole transaction is meant
            async with other.transaction() as tx:
                await tx.execute("SELECT 1")
                await trio.sleep(5)
        await trio.sleep(0.5)
        assert not lease.lost
    for memory, limit in ((MemoryEngine(), 5.0), (MemoryEngine(lease=3.0), 1.0)):
        assert memory._transaction_timeout(None) == limit
        assert memory._transaction_timeout(9) == 9.0
