"""The durable inbox: in order, one at a time, marked once, and what follows from failures, drains and lost leases."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
import trio
from attrs import evolve

from checkpoints import Inbox, NameLeases
from otp import Backoff, ChildExited, GaveUp, child
from otp.engines import LeaseLost, MemoryEngine, MemoryStore, SqliteEngine, StoreUnavailable, Token, Topic
from otp.testing import no_task_left, settle
from patterns import DurableInbox, EntryApplied, EntryFailed, SteppedDown, TookOver
from tests.patterns.support import TASK, Task, acquired, pod, until

SOON = Backoff(initial=0.5, cap=0.5, jitter=0.0)


def inbox_of(engine, **options):
    return Inbox(engine, "ledger", [TASK], **options)


class Ledger(DurableInbox[Task]):
    def __init__(self, inbox, work, **options):
        super().__init__(inbox, **{"backoff": SOON, **options})
        self._work = work

    async def init(self):
        self.seen = []

    async def handle_entry(self, entry):
        await self._work(self, entry)
        self.seen.append(entry.seq)

    async def handle_message(self, message):
        if isinstance(message, Exception):
            raise message
        self.seen.append(message)

    async def handle_call(self, request):
        return list(self.seen)


def ledger(work, *, shutdown=5.0, inbox=None, **options):
    return lambda engine: [
        child(lambda: Ledger(inbox_of(engine, **(inbox or {})), work, **options), id="ledger", shutdown=shutdown)
    ]


async def nothing(actor, entry):
    pass


async def post(pod_, *names):
    for name in names:
        await inbox_of(pod_.engine).post(Task(name))


async def test_entries_come_in_order_and_are_marked(autojump_clock):
    async with no_task_left(), pod(ledger(nothing)) as here:
        await post(here, "a", "b", "c")
        await until(lambda: len(here.events.of(EntryApplied)) == 3)
        assert await here.ref("ledger").call("seen") == [1, 2, 3]
        assert (await inbox_of(here.engine).statistics()).depth == 0
        await post(here, "d")
        await until(lambda: len(here.events.of(EntryApplied)) == 4)


async def test_one_at_a_time_with_messages_and_calls(autojump_clock):
    busy: list[Any] = []

    async def work(actor, entry):
        assert not busy
        busy.append(entry)
        await trio.sleep(1)
        busy.pop()

    async with pod(ledger(work)) as here:
        await post(here, "a", "b")
        await until(lambda: busy)
        here.ref("ledger").send("message")
        assert await here.ref("ledger").call("seen") in ([1, "message"], [1, "message", 2])
        assert not busy or busy[0].seq == 2


async def test_an_entry_is_left_to_the_next_leader_with_its_attempt_counted(autojump_clock):
    """Killed in the handler: the attempt was written before."""
    store = MemoryStore()
    seen = []

    async def work(actor, entry):
        seen.append((entry.seq, entry.attempt))

    async with MemoryEngine(store=store, lease=6.0) as killed:
        lease = await acquired(NameLeases(killed), "ledger")
        reader = await inbox_of(killed).open(lease)
        await inbox_of(killed).post(Task("a"))
        await inbox_of(killed).post(Task("b"))
        assert (await reader.next()).attempt == 1
        killed.let_go(lease)
        async with pod(ledger(work), store=store, lease=6.0):
            await until(lambda: len(seen) == 2)
    assert seen == [(1, 2), (2, 1)]


async def test_a_failure_is_tried_again_with_backoff_and_keeps_the_order(autojump_clock):
    seen = []

    async def work(actor, entry):
        seen.append((entry.seq, entry.attempt, trio.current_time()))
        if entry.seq == 1 and entry.attempt < 3:
            raise ValueError("boom")

    async with pod(ledger(work)) as here:
        await post(here, "a", "b")
        await until(lambda: len(here.events.of(EntryApplied)) == 2)
        assert [each[:2] for each in seen] == [(1, 1), (1, 2), (1, 3), (2, 1)]
        assert seen[1][2] - seen[0][2] == pytest.approx(0.5, abs=0.05)
        assert [event.decision for event in here.events.of(EntryFailed)] == ["retry", "retry"]
        assert "ValueError: boom" in here.events.of(EntryFailed)[0].error
        assert here.restarts == 0
        assert len(here.events.of(TookOver)) == 1


async def test_block_waits_for_ever(autojump_clock):
    async def work(actor, entry):
        raise ValueError("boom")

    async with pod(ledger(work, max_attempts=2)) as here:
        await post(here, "a", "b")
        await trio.sleep(60)
        assert len(here.events.of(EntryFailed)) > 50
        assert not here.events.of(EntryApplied)
        assert (await inbox_of(here.engine).statistics()).depth == 2


async def test_fault_19_dead_after_the_last_attempt_and_the_next_is_handled(autojump_clock):
    async def work(actor, entry):
        if entry.payload.name == "a" and not mended:
            raise ValueError("boom")

    mended = []
    async with pod(ledger(work, on_failure="dead", max_attempts=3)) as here:
        await post(here, "a", "b")
        await until(lambda: here.events.of(EntryApplied))
        assert here.events.one(EntryApplied).seq == 2
        assert [event.decision for event in here.events.of(EntryFailed)] == ["retry", "retry", "dead"]
        inbox = inbox_of(here.engine)
        (letter,) = await inbox.dead.list()
        assert letter.attempts == 3
        assert "ValueError: boom" in letter.error
        assert len(letter.history) == 3
        mended.append(1)
        await inbox.dead.requeue(letter.id)
        await until(lambda: len(here.events.of(EntryApplied)) == 2)


async def test_stop_lets_the_supervisor_decide(autojump_clock):
    async def work(actor, entry):
        raise ValueError("boom")

    with pytest.raises(GaveUp) as caught:  # noqa: PT012
        async with pod(ledger(work, on_failure="stop", max_attempts=2)) as here:
            await post(here, "a")
            await trio.sleep(60)
    assert isinstance(caught.value.__cause__, ValueError)


# -- commit


async def test_commit_marks_the_entry_together_with_what_else_is_in_it(autojump_clock):
    async def work(actor, entry):
        async with entry.commit() as tx:
            await Inbox(actor.inbox.engine, "effects", [TASK]).post(Task(entry.payload.name), tx=tx)
            if entry.attempt == 1:
                raise ValueError("in the middle")
        assert entry.processed

    async with pod(ledger(work)) as here:
        await post(here, "a", "b")
        await until(lambda: len(here.events.of(EntryApplied)) == 2)
        assert (await Inbox(here.engine, "effects", [TASK]).statistics()).posted == 2
        assert [event.attempt for event in here.events.of(EntryApplied)] == [2, 2]


async def test_commit_with_rows_of_ones_own_in_sqlite(tmp_path):
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE total (name TEXT)")
    connection.close()

    async def work(actor, entry):
        assert not entry.processed
        try:
            async with entry.commit() as tx:
                await tx.execute("INSERT INTO total VALUES (?)", entry.payload.name)
                if entry.attempt == 1 and entry.payload.name == "a":
                    raise ValueError("rolled back")  # noqa: TRY301
        except ValueError:
            assert not entry.processed
            raise

    engine = SqliteEngine(path, synchronous="normal")
    async with pod(ledger(work), make=lambda **_: engine) as here:
        await post(here, "a", "b")
        await until(lambda: len(here.events.of(EntryApplied)) == 2)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM total").fetchall() == [("a",), ("b",)]
    connection.close()


async def test_an_exception_after_the_commit_is_a_crash(autojump_clock):
    """The entry is done, but the actor's state may not be: it is made anew."""

    async def work(actor, entry):
        async with entry.commit():
            pass
        if entry.seq == 1:
            raise LookupError("afterwards")

    async with pod(ledger(work)) as here:
        await post(here, "a", "b")
        await until(lambda: here.events.of(EntryApplied))
        assert here.restarts == 1
        assert "LookupError: afterwards" in str(here.events.of(ChildExited)[-1].reason)
        assert here.events.one(EntryApplied).seq == 2
        assert not here.events.of(EntryFailed)


# -- leases and outages


async def test_a_lost_lease_cancels_the_handler_and_the_next_leader_goes_on(autojump_clock):
    store = MemoryStore()
    seen = []

    async def work(actor, entry):
        seen.append((entry.seq, entry.attempt, actor.epoch))
        if actor.epoch == 1:
            await trio.sleep_forever()

    async with pod(ledger(work), store=store, lease=6.0) as one:
        await post(one, "a", "b")
        await until(lambda: seen)
        one.engine.down = True
        async with pod(ledger(work), store=store, lease=6.0) as two:
            await until(lambda: len(two.events.of(EntryApplied)) == 2)
            one.engine.down = False
            assert seen == [(1, 1, 1), (1, 2, 2), (2, 1, 2)]
            assert one.restarts == two.restarts == 0


@pytest.mark.parametrize("where", ["handler", "mark"])
async def test_an_outage_is_no_failure_of_the_entry_and_no_crash(autojump_clock, where):
    async def work(actor, entry):
        if actor.epoch == 1:
            if where == "handler":
                raise StoreUnavailable("elsewhere")
            here.engine.down = True

    async with pod(ledger(work), lease=60.0) as here:
        await post(here, "a")
        await until(lambda: here.events.of(SteppedDown))
        here.engine.down = False
        await until(lambda: here.events.of(EntryApplied))
        assert here.restarts == 0
        assert not here.events.of(EntryFailed)
        if where == "handler":
            assert here.events.one(EntryApplied).attempt == 1


async def test_the_loss_of_another_lease_is_a_failure_of_the_entry(autojump_clock):
    async def work(actor, entry):
        if entry.attempt == 1:
            raise LeaseLost(Token(kind="job", key="x", owner="y", epoch=1))

    async with pod(ledger(work)) as here:
        await post(here, "a")
        await until(lambda: here.events.of(EntryApplied))
        assert here.events.one(EntryFailed).decision == "retry"


async def test_an_outage_at_the_head_is_waited_out_while_leading(autojump_clock):
    async with pod(ledger(nothing), lease=60.0) as here:
        await until(lambda: here.events.of(TookOver))
        await settle()
        here.engine.down = True
        here.engine.store.notify()
        await until(lambda: not here.runtime.readiness().ok)
        here.engine.down = False
        await until(lambda: here.runtime.readiness().ok)  # also if nothing is in it
        await post(here, "a")
        await until(lambda: here.events.of(EntryApplied))
        assert len(here.events.of(TookOver)) == 1


# -- drain and stop


async def test_a_drain_lets_the_entry_in_the_handler_finish_and_begins_no_other(autojump_clock):
    gate = trio.Event()

    async def work(actor, entry):
        await gate.wait()

    async with no_task_left(), pod(ledger(work)) as here:
        await post(here, "a", "b")
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.drain, 60.0)
            await trio.sleep(30)
            gate.set()
        assert here.events.one(EntryApplied).seq == 1
        statistics = await inbox_of(here.engine).statistics()
        assert (statistics.depth, statistics.head) == (1, 2)
        assert here.events.one(SteppedDown).reason == "stopped"
        await trio.sleep(10)
        assert here.restarts == 0


@pytest.mark.parametrize("how", ["drain", "stop"])
async def test_idle_it_steps_down_at_once(autojump_clock, how):
    async with no_task_left(), pod(ledger(nothing)) as here:
        await until(lambda: here.events.of(TookOver))
        await settle()
        begun = trio.current_time()
        if how == "drain":
            assert await here.drain(60.0) == []
        else:
            await here.supervisor.terminate_child("ledger")
        assert trio.current_time() == begun
        assert here.events.one(SteppedDown).reason == "stopped"
        assert here.restarts == 0


@pytest.mark.parametrize("how", ["drain", "stop"])
@pytest.mark.parametrize("cleanup", ["quiet", "raises"])
async def test_a_handler_that_takes_too_long_is_cancelled_and_its_attempt_does_not_count(autojump_clock, how, cleanup):
    store = MemoryStore()
    attempts = []

    async def work(actor, entry):
        attempts.append(entry.attempt)
        if len(attempts) == 1:
            try:
                await trio.sleep(100)
            finally:
                if cleanup == "raises":
                    raise ValueError("in the cleanup")

    async with pod(ledger(work), store=store, lease=60.0) as old:
        await post(old, "a")
        await until(lambda: attempts)
        async with pod(ledger(work), store=store, lease=60.0) as new:
            begun = trio.current_time()
            if how == "drain":
                await old.drain(10.0)
            else:
                await old.supervisor.terminate_child("ledger")
            assert trio.current_time() - begun <= 10
            await until(lambda: new.events.of(EntryApplied))
            assert attempts == [1, 1]
            assert not old.events.of(EntryFailed)
            assert old.restarts == 0


async def test_a_handler_that_does_not_obey_does_not_keep_the_inbox(autojump_clock):
    store = MemoryStore()
    seen = []

    async def work(actor, entry):
        seen.append(actor.epoch)
        if len(seen) == 1:
            with trio.CancelScope(shield=True):
                await trio.sleep(30)
                with pytest.raises(LeaseLost):
                    async with entry.commit():
                        pass
            seen.append("refused")

    async with pod(ledger(work), store=store, lease=60.0) as old:
        await post(old, "a")
        await until(lambda: seen)
        async with pod(ledger(work), store=store, lease=60.0) as new:
            await old.drain(10.0)
            await until(lambda: new.events.of(EntryApplied))
            assert seen[:2] == [1, 2]
            await until(lambda: seen[-1] == "refused")


async def test_an_entry_pulled_when_the_actor_ends_costs_no_attempt(autojump_clock):
    """It waits in line behind a message whose handler takes all the time there is."""
    store = MemoryStore()

    class Slow(Ledger):
        async def handle_message(self, message):
            await trio.sleep(1000)

    async with pod(lambda engine: [child(lambda: Slow(inbox_of(engine), nothing), id="ledger")], store=store) as here:
        await until(lambda: here.events.of(TookOver))
        await settle()
        here.ref("ledger").send("slow")
        await settle()
        await post(here, "a")
        await settle()
        await here.supervisor.terminate_child("ledger")
        async with pod(ledger(nothing), store=store) as new:
            await until(lambda: new.events.of(EntryApplied))
            assert new.events.one(EntryApplied).attempt == 1


async def test_a_full_mailbox_delays_an_entry_and_nothing_else(autojump_clock):
    gate = trio.Event()

    class Slow(Ledger):
        async def handle_message(self, message):
            await gate.wait()

    def children(engine):
        return [child(lambda: Slow(inbox_of(engine), nothing), id="ledger", mailbox=2)]

    async with pod(children) as here:
        await until(lambda: here.events.of(TookOver))
        await settle()
        for number in range(3):
            here.ref("ledger").send(number)
            await settle()
        await post(here, "a")
        await trio.sleep(1)
        gate.set()
        await until(lambda: here.events.of(EntryApplied))
        assert here.events.one(EntryApplied).attempt == 1
        assert here.restarts == 0


async def test_a_message_that_crashes_it_makes_its_state_anew(autojump_clock):
    async with pod(ledger(nothing)) as here:
        await post(here, "a")
        await until(lambda: here.events.of(EntryApplied))
        here.ref("ledger").send(ValueError("boom"))
        await until(lambda: len(here.events.of(TookOver)) == 2)
        await settle()
        assert await here.ref("ledger").call("seen") == []
        assert here.restarts == 1


# -- what cannot be read


async def unknown_entry(engine):
    newer = Topic("task", Task, version=2)
    await Inbox(engine, "ledger", [newer]).post(Task("new"))


async def test_an_unknown_head_makes_it_stand_back_so_that_a_newer_process_leads(autojump_clock):
    store = MemoryStore()
    newer = Topic("task", Task, version=2)

    @newer.upcast(1)
    def _same(old):
        return old

    def new_children(engine):
        return [child(lambda: Ledger(Inbox(engine, "ledger", [newer]), nothing), id="ledger")]

    async with pod(ledger(nothing), store=store) as old:
        await unknown_entry(old.engine)
        await until(lambda: len(old.events.of(SteppedDown)) == 3)
        async with pod(new_children, store=store) as new:
            await until(lambda: new.events.of(EntryApplied))
            assert new.events.one(EntryApplied).attempt == 1
            assert old.restarts == 0


@pytest.mark.parametrize("policy", ["dead", "stop"])
async def test_an_unknown_head_after_the_grace(autojump_clock, policy):
    children = ledger(nothing, on_failure=policy, inbox={"unknown_grace": 20.0})
    if policy == "stop":
        with pytest.raises(GaveUp):  # noqa: PT012
            async with pod(children) as here:
                await unknown_entry(here.engine)
                await trio.sleep(100)
        return
    async with pod(children) as here:
        await unknown_entry(here.engine)
        await post(here, "b")
        await until(lambda: here.events.of(EntryApplied))
        assert trio.current_time() >= 20.0
        (letter,) = await inbox_of(here.engine).dead.list()
        assert letter.envelope.version == 2
        assert here.restarts == 0


@pytest.mark.parametrize("policy", ["dead", "stop", "block"])
async def test_fault_21_a_head_that_no_program_can_read(autojump_clock, policy):
    def damage(tables):
        entries = tables.table("hf_inbox")
        row = entries["ledger", 1]
        entries["ledger", 1] = evolve(
            row, entry=evolve(row.entry, envelope=evolve(row.entry.envelope, body=b"garbage"))
        )

    async def damaged(engine):
        await inbox_of(engine).post(Task("a"))
        await inbox_of(engine).post(Task("b"))
        await engine.write(damage)

    store = MemoryStore()
    async with MemoryEngine(store=store) as engine:
        await damaged(engine)
    if policy == "stop":
        with pytest.raises(GaveUp):
            async with pod(ledger(nothing, on_failure=policy), store=store):
                await trio.sleep(100)
        return
    async with pod(ledger(nothing, on_failure=policy), store=store) as here:
        if policy == "dead":
            await until(lambda: here.events.of(EntryApplied))
            assert here.events.one(EntryApplied).seq == 2
        else:
            await until(lambda: not here.runtime.readiness().ok)
            assert "inbox" in here.runtime.readiness().reasons[0]
            await trio.sleep(10)
            assert not here.events.of(EntryApplied)
        assert here.restarts == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_failure": "skip"}, "on_failure must be 'block', 'dead' or 'stop', not 'skip'"),
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
        ({"max_attempts": True}, "max_attempts must be a whole number"),
        ({"backoff": 1.0}, "backoff must be a Backoff"),
    ],
)
def test_wrong_settings_are_refused(options, text):
    with pytest.raises((TypeError, ValueError), match=text):
        Ledger(inbox_of(MemoryEngine()), nothing, **options)
