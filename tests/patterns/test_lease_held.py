"""What runs only where its lease is held: standing by, taking over, stepping down, and never two at once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio

from checkpoints import AlreadyHeld, NameLeases
from otp import GaveUp, NoMailbox, Supervisor, child
from otp.engines import LeaseLost, MemoryEngine, MemoryStore, StoreUnavailable, Token
from otp.testing import no_task_left, settle
from patterns import (
    LeaseHeld,
    LeaseHeldActor,
    StandBack,
    StandingBy,
    SteppedDown,
    StoreOutage,
    TookOver,
    only_where_leased,
)
from tests.patterns.support import PATIENCE, acquired, empty, pod, shielded_sleep, until

LEASE = 6.0


class Leaders:
    """Notes who leads, and that there are never two."""

    def __init__(self):
        self.now = []
        self.epochs = []
        self.changed = trio.Event()

    @asynccontextmanager
    async def leading(self, who, epoch):
        assert not self.now, f"{who} leads beside {self.now}"
        self.now.append(who)
        self.epochs.append(epoch)
        try:
            yield
        finally:
            self.now.remove(who)


class Leader(LeaseHeld):
    def __init__(self, engine, work):
        super().__init__(engine, "leader")
        self._work = work

    async def lead(self, lease):
        await self._work(self, lease)


def leader(work, **options):
    return lambda engine: [child(lambda: Leader(engine, work), id="leader", **options)]


async def forever(leader, lease):
    await leader.intake.end.wait()


async def test_a_standby_is_started_and_ready_and_takes_over_at_once(autojump_clock):
    store = MemoryStore()
    async with no_task_left(), pod(leader(forever), store=store, lease=LEASE) as old:
        await until(lambda: old.events.of(TookOver))
        async with pod(leader(forever), store=store, lease=LEASE) as new:
            await until(lambda: new.events.of(StandingBy))
            assert new.runtime.readiness().ok
            await trio.sleep(100)
            assert not new.events.of(TookOver)
            released = trio.current_time()
            await old.drain(10.0)
            await until(lambda: new.events.of(TookOver))
            assert trio.current_time() - released < 0.1
            assert new.events.one(TookOver).epoch == 2
            assert old.events.one(SteppedDown).reason == "stopped"
            assert old.restarts == 0  # it waits for its stop


async def test_after_a_kill_it_takes_over_within_the_lease(autojump_clock):
    store = MemoryStore()
    async with MemoryEngine(store=store, lease=LEASE) as killed:
        lease = await NameLeases(killed).acquire("leader")
        assert lease is not None
        killed.let_go(lease)  # nobody renews it any more
        begun = trio.current_time()
        async with pod(leader(forever), store=store, lease=LEASE) as new:
            await until(lambda: new.events.of(TookOver))
            assert LEASE - 0.1 < trio.current_time() - begun < LEASE + 1


async def test_a_lost_lease_ends_the_leadership_and_it_stands_by_again(autojump_clock):
    store = MemoryStore()
    leaders = Leaders()

    async def work(leader, lease):
        async with leaders.leading(leader, lease.token.epoch):
            await leader.intake.end.wait()

    async with pod(leader(work), store=store, lease=LEASE) as one, pod(leader(work), store=store, lease=LEASE) as two:
        await until(lambda: leaders.now)
        first, second = (one, two) if one.events.of(TookOver) else (two, one)
        first.engine.down = True
        await until(lambda: second.events.of(TookOver))
        first.engine.down = False
        await until(lambda: first.events.of(StandingBy))
        await settle()
        assert leaders.epochs == [1, 2]
        assert first.restarts == second.restarts == 0
        await until(lambda: first.runtime.readiness().ok)
        await second.drain(5.0)
        await until(lambda: leaders.epochs == [1, 2, 3])


async def test_what_is_raised_while_the_lease_is_lost_is_no_crash(autojump_clock):
    async def work(leader, lease):
        try:
            await leader.intake.end.wait()
        except trio.Cancelled:
            raise ValueError("in the cleanup") from None

    async with pod(leader(work), lease=LEASE) as here:
        await until(lambda: here.events.of(TookOver))
        here.engine.down = True
        await until(lambda: here.events.of(SteppedDown))
        here.engine.down = False
        await until(lambda: len(here.events.of(TookOver)) == 2)
        assert here.restarts == 0
        assert "ValueError" in here.events.of(SteppedDown)[0].reason


async def test_a_crash_is_a_crash_and_the_restart_takes_the_next_epoch(autojump_clock):
    async def work(leader, lease):
        if lease.token.epoch == 1:
            raise ValueError("boom")
        await leader.intake.end.wait()

    async with pod(leader(work), lease=LEASE) as here:
        await until(lambda: len(here.events.of(TookOver)) == 2)
        assert here.restarts == 1
        assert [event.epoch for event in here.events.of(TookOver)] == [1, 2]
        assert "ValueError: boom" in here.events.of(SteppedDown)[0].reason


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), StandBack("not me")], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("grouped", [False, True])
async def test_an_outage_or_standing_back_is_no_crash_and_waits_longer_each_time(autojump_clock, error, grouped):
    times = []

    async def work(leader, lease):
        times.append(trio.current_time())
        if len(times) < 8:
            raise ExceptionGroup("from a nursery", [error]) if grouped else error
        await leader.intake.end.wait()

    async with pod(leader(work), lease=LEASE) as here:
        await until(lambda: len(times) == 8)
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses[0] < 0.15
        assert 2.0 < pauses[-1] <= 5.1
        assert here.restarts == 0


async def test_the_loss_of_another_lease_is_a_crash(autojump_clock):
    async def work(leader, lease):
        if lease.token.epoch == 1:
            raise LeaseLost(Token(kind="job", key="x", owner="y", epoch=1))
        await leader.intake.end.wait()

    async with pod(leader(work), lease=LEASE) as here:
        await until(lambda: len(here.events.of(TookOver)) == 2)
        assert here.restarts == 1


async def test_an_outage_while_standing_by_ends_with_the_readiness_back(autojump_clock):
    store = MemoryStore()
    async with pod(leader(forever), store=store, lease=LEASE) as old:
        await until(lambda: old.events.of(TookOver))
        async with pod(leader(forever), store=store, lease=LEASE) as new:
            await until(lambda: new.events.of(StandingBy))
            new.engine.down = True
            store.notify()
            await until(lambda: new.events.of(StoreOutage))
            assert not new.runtime.readiness().ok
            new.engine.down = False
            await trio.sleep(1)
            assert new.runtime.readiness().ok  # though it goes on standing by
            assert not new.events.of(TookOver)
            assert len(new.events.of(StandingBy)) == 1
            assert new.restarts == 0


async def test_at_the_end_of_a_drain_the_leader_is_cancelled_and_the_lease_released(autojump_clock):
    store = MemoryStore()

    async def work(leader, lease):
        await trio.sleep(1000)

    async with pod(leader(work), store=store, lease=60.0) as old:
        await until(lambda: old.events.of(TookOver))
        async with pod(leader(forever), store=store, lease=60.0) as new:
            await until(lambda: new.events.of(StandingBy))
            begun = trio.current_time()
            await old.drain(10.0)
            assert 9.0 < trio.current_time() - begun <= 10.0
            await until(lambda: new.events.of(TookOver))
            assert trio.current_time() - begun <= 10.1


async def test_a_leader_that_does_not_obey_loses_its_lease_at_the_deadline_all_the_same(autojump_clock):
    store = MemoryStore()

    async def work(leader, lease):
        await shielded_sleep(1000)

    async with pod(leader(forever), store=store, lease=60.0) as new:
        await until(lambda: new.events.of(TookOver))
        await new.supervisor.terminate_child("leader")
        async with pod(leader(work), store=store, lease=60.0) as old:
            await until(lambda: old.events.of(TookOver))
            begun = trio.current_time()
            await new.supervisor.restart_child("leader")
            assert await old.drain(10.0) == ["app/leader"]
            await until(lambda: len(new.events.of(TookOver)) == 2)
            assert trio.current_time() - begun <= 10.1
            assert old.events.one(SteppedDown).reason == "it does not obey its cancellation"


async def test_a_lease_that_is_acquired_while_the_intake_closes_is_released(autojump_clock):
    store = MemoryStore()

    async def slow_acquire(self, name, owner, seconds):
        epoch = await acquire(name, owner, seconds)
        in_acquire.set()
        await shielded_sleep(1.0)
        return epoch

    in_acquire = trio.Event()
    acquire: Any = None

    def children(engine):
        nonlocal acquire
        made: Any = Leader(engine, forever)
        acquire = made._names._backend.acquire
        made._names._backend.acquire = slow_acquire.__get__(made)
        return [child(lambda: made, id="leader")]

    async with pod(children, store=store, lease=60.0) as here:
        await in_acquire.wait()
        await here.drain(5.0)
        async with MemoryEngine(store=store) as other:
            await trio.sleep(2)  # the answer has come by then
            assert await NameLeases(other).acquire("leader") is not None
        assert not here.events.of(TookOver)


async def test_a_release_that_does_not_get_through_does_not_wedge_the_restart(autojump_clock):
    async def work(leader, lease):
        if lease.token.epoch == 1:
            await trio.sleep(1)
            here.engine.down = True
            raise ValueError("boom")
        await leader.intake.end.wait()

    async with pod(leader(work), lease=60.0) as here:
        await until(lambda: here.events.of(StoreOutage))
        here.engine.down = False
        begun = trio.current_time()
        await until(lambda: len(here.events.of(TookOver)) == 2)
        assert trio.current_time() - begun < 10  # it need not wait for its own old lease
        assert "not released, so it runs out" in here.events.of(SteppedDown)[0].reason


async def test_two_of_one_name_in_one_process_are_a_mistake_that_is_named(autojump_clock):
    def children(engine):
        return [child(lambda: Leader(engine, forever), id=id_) for id_ in ("one", "two")]

    with pytest.raises(GaveUp) as caught:
        async with pod(children, lease=60.0):
            await trio.sleep(PATIENCE)
    assert isinstance(caught.value.__cause__, AlreadyHeld)


async def test_done_is_done(autojump_clock):
    async def work(leader, lease):
        return

    async with pod(leader(work, restart="transient"), lease=60.0) as here:
        await until(lambda: here.events.of(SteppedDown))
        await settle()
        assert here.events.one(SteppedDown).reason == "done"
        assert here.status("leader") == "stopped"


# -- actors


class Counter(LeaseHeldActor):
    made: list[Counter]

    def __init__(self, engine, inits):
        super().__init__(engine, "counter")
        self._inits = inits
        self.total = 0

    async def init(self):
        self._inits.append(self.epoch)

    async def handle_message(self, message):
        if isinstance(message, Exception):
            raise message
        self.total += message

    async def handle_call(self, request):
        return self.total, self.epoch


def counter(inits, **options):
    return lambda engine: [child(lambda: Counter(engine, inits), id="counter", **options)]


async def test_messages_and_calls_reach_whoever_leads_here_and_a_standby_takes_none(autojump_clock):
    store = MemoryStore()
    async with pod(counter(inits := empty()), store=store) as old:
        await until(lambda: inits)
        old.ref("counter").send(5)
        assert await old.ref("counter").call("total") == (5, 1)
        async with pod(counter(inits), store=store) as new:
            await until(lambda: new.events.of(StandingBy))
            with pytest.raises(NoMailbox):
                new.ref("counter").send(5)
            await old.drain(5.0)
            await until(lambda: new.events.of(TookOver))
            await until(lambda: len(inits) == 2)
            assert await new.ref("counter").call("total") == (0, 2)
            with pytest.raises(NoMailbox):
                old.ref("counter").send(5)


async def test_each_leadership_is_a_fresh_object_of_the_factory(autojump_clock):
    async with pod(counter(inits := empty()), lease=LEASE) as here:
        await until(lambda: inits)
        here.ref("counter").send(5)
        assert await here.ref("counter").call("total") == (5, 1)
        here.engine.down = True
        await until(lambda: here.events.of(SteppedDown))
        with pytest.raises(NoMailbox):
            here.ref("counter").send(5)
        here.engine.down = False
        await until(lambda: inits == [1, 2])
        assert await here.ref("counter").call("total") == (0, 2)
        assert here.restarts == 0


async def test_an_actors_crash_is_the_childs(autojump_clock):
    async with pod(counter(inits := empty()), lease=LEASE) as here:
        await until(lambda: inits)
        here.ref("counter").send(ValueError("boom"))
        await until(lambda: inits == [1, 2])
        assert here.restarts == 1


async def test_when_draining_the_actor_handles_what_it_has_and_ends(autojump_clock):
    seen = []

    class Slow(Counter):
        async def handle_message(self, message):
            await trio.sleep(2)
            seen.append(message)

    async with pod(lambda engine: [child(lambda: Slow(engine, inits), id="counter")]) as here:
        await until(lambda: inits)
        for number in range(3):
            here.ref("counter").send(number)
        begun = trio.current_time()
        assert await here.drain(60.0) == []
        assert seen == [0, 1, 2]
        assert trio.current_time() - begun == pytest.approx(6.0, abs=0.1)
        assert here.restarts == 0


inits: list[int] = []


async def test_init_runs_after_the_acquisition_under_its_own_timeout(autojump_clock):
    class Slow(Counter):
        async def init(self):
            await super().init()
            if self.epoch == 1:
                await trio.sleep(100)

    store = MemoryStore()
    async with MemoryEngine(store=store) as other:
        names = NameLeases(other)
        lease = await acquired(names, "counter")
        async with pod(
            lambda engine: [child(lambda: Slow(engine, started), id="counter", init_timeout=3.0)], store=store
        ) as here:
            await trio.sleep(60)  # standing by is not a part of init
            assert not started
            assert not here.restarts
            await names.release(lease)
            await until(lambda: started == [2])


started: list[int] = []


# -- only_where_leased


async def test_a_function_runs_in_one_pod_at_a_time(autojump_clock):
    store = MemoryStore()
    running = []

    def children(engine):
        async def poll():
            running.append(engine)
            try:
                await trio.sleep_forever()
            finally:
                running.remove(engine)

        return [child(only_where_leased(engine, "team/feed", poll), id="feed")]

    async with pod(children, store=store) as one, pod(children, store=store) as two:
        await until(lambda: running)
        await trio.sleep(60)
        assert len(running) == 1
        first, second = (one, two) if running == [one.engine] else (two, one)
        begun = trio.current_time()
        assert await first.drain(10.0) == []
        await until(lambda: running == [second.engine])
        assert trio.current_time() - begun < 0.1
        assert first.restarts == second.restarts == 0


async def test_a_functions_crash_is_the_childs_and_its_end_too(autojump_clock):
    calls = []

    async def poll():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("boom")

    def children(engine):
        return [child(only_where_leased(engine, "feed", poll), id="feed", restart="transient")]

    async with pod(children) as here:
        await until(lambda: len(calls) == 2)
        await settle()
        assert here.restarts == 1
        assert here.status("feed") == "stopped"


async def test_an_actor_gets_the_messages_of_the_child(autojump_clock):
    from otp import Actor

    class Adder(Actor):
        async def handle_call(self, request):
            return request + 1

    def children(engine):
        return [child(only_where_leased(engine, "adder", Adder), id="adder", name="adder")]

    async with pod(children) as here:
        await until(lambda: here.events.of(TookOver))
        await settle()
        assert await here.ref("adder").call(4) == 5


async def test_a_whole_supervisor(autojump_clock):
    log = []

    def part(name):
        async def task():
            log.append(f"{name} runs")
            try:
                await trio.sleep_forever()
            finally:
                log.append(f"{name} ends")

        return child(task, id=name)

    def children(engine):
        return [child(only_where_leased(engine, "tree", Supervisor([part("a"), part("b")])), id="tree")]

    async with no_task_left(), pod(children, lease=LEASE) as here:
        await until(lambda: len(log) == 2)
        here.engine.down = True  # the lease is lost: all of it is cancelled
        await until(lambda: len(log) == 4)
        here.engine.down = False
        await until(lambda: len(log) == 6)
        begun = trio.current_time()
        await here.supervisor.terminate_child("tree")
        assert trio.current_time() == begun
        assert log[6:] == ["b ends", "a ends"]  # asked to stop, a tree stops in order
        assert here.restarts == 0


@pytest.mark.parametrize("options", [{"restart": "transient"}, {"name": "x"}, {"shutdown": -1}])
def test_wrong_options_are_refused(options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        only_where_leased(MemoryEngine(), "feed", forever, **options)


def test_an_engine_is_needed():
    with pytest.raises(TypeError, match="engine must be a Engine, not 'memory://'"):
        Leader("memory://", forever)
