"""The unread messages of one incarnation for the next: which, in what order, and what becomes of them otherwise."""

import math
from contextlib import asynccontextmanager
from random import Random
from typing import Any, ClassVar

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    Backoff,
    CallTimeout,
    Crashed,
    FailedToStart,
    GaveUp,
    Killed,
    Mailbox,
    MessagesDropped,
    NoMailbox,
    NotAlive,
    PoisonMessage,
    RestartBudget,
    Runtime,
    Supervisor,
    child,
    current_context,
    host,
    open_supervisor,
)
from otp._strategy import SupervisorCore
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, boom, perform, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def keeper(init=None):
    class Keeper(Actor):
        """Logs what it handles, with its incarnation."""

        log: ClassVar[list[Any]] = []

        async def init(self):
            if init is not None:
                await perform(self, init)

        async def handle_message(self, message):
            if callable(message):
                await perform(self, message)
            else:
                self.log.append((self.context.incarnation, message))

        async def handle_call(self, request):
            return await perform(self, request) if callable(request) else (self.context.incarnation, request)

    return Keeper.log, Keeper


async def crash_later(_):
    await trio.sleep(1)
    raise Boom


class Tree:
    def __init__(self, actor, *more, strategy="one_for_one", **options):
        self.runtime = Runtime()
        spec = child(actor, id="k", mailbox=Mailbox(kept=True), **options)
        self.supervisor = open_supervisor(
            Supervisor([spec, *more], intensity=100, strategy=strategy), runtime=self.runtime, log=False
        )


async def test_messages_and_calls_go_to_the_next_incarnation_in_order_but_not_the_poison():
    log, actor = keeper()
    tree = Tree(actor)
    with capture_events(tree.runtime) as events:
        async with tree.supervisor as supervisor:
            ref = supervisor.ref("k")
            ref.send(crash_later)
            await wait_all_tasks_blocked()
            ref.send("1")
            call = ref.request("call")
            ref.send("2")
            await trio.sleep(2)
            assert log == [(2, "1"), (2, "2")]
            assert call.result() == (2, "call")
            with pytest.raises(NotAlive):
                ref.send("to the old one")
    lost = events.one(PoisonMessage)
    assert (lost.path, lost.incarnation, lost.message) == ("app/k", 1, crash_later)
    assert isinstance(lost.reason, Crashed)
    assert isinstance(lost.reason.exception, Boom)
    assert events.of(MessagesDropped) == []


async def test_the_caller_of_the_call_being_handled_is_told():
    _, actor = keeper()
    async with Tree(actor).supervisor as supervisor:
        ref = supervisor.ref("k")
        running, queued = ref.request(crash_later), ref.request("queued")
        await trio.sleep(2)
        with pytest.raises(NotAlive):
            running.result()
        assert queued.result() == (2, "queued")


async def test_what_init_sends_itself_comes_first_then_the_old_then_the_new():
    log, actor = keeper(lambda a: a.send_self("resume"))
    async with Tree(actor, name="k").supervisor as supervisor:
        supervisor.ref("k").send(boom)
        supervisor.ref("k").send("old")
        await wait_all_tasks_blocked()
        supervisor.ref("k").send("new")
    assert log == [(1, "resume"), (2, "resume"), (2, "old"), (2, "new")]


async def test_the_box_survives_restarts_that_fail_and_a_backoff():
    def init(actor):
        if 1 < actor.context.incarnation < 4:
            raise Boom

    log, actor = keeper(init)
    async with Tree(actor, backoff=Backoff(initial=1, jitter=0)).supervisor as supervisor:
        ref = supervisor.ref("k")
        ref.send(boom)
        ref.send("1")
        call = ref.request("call")
        await trio.sleep(20)
        assert log == [(4, "1")]
        assert call.result() == (4, "call")


async def test_an_expired_call_in_the_box_times_out_and_is_skipped():
    _, actor = keeper()
    handled = []
    async with Tree(actor, backoff=Backoff(initial=10, jitter=0)).supervisor as supervisor:
        ref = supervisor.ref("k")
        ref.send(boom)
        began = trio.current_time()
        with pytest.raises(CallTimeout):
            await ref.call(lambda _: handled.append("never"), timeout=2)
        assert trio.current_time() - began == 2
        await trio.sleep(20)
        assert supervisor.ref("k").incarnation == 2
    assert handled == []


async def test_each_poison_is_dropped_and_the_rest_gets_through():
    log, actor = keeper()
    tree = Tree(actor)
    with capture_events(tree.runtime) as events:
        async with tree.supervisor as supervisor:
            for message in (boom, "1", boom, boom, "2", boom, "3"):
                supervisor.ref("k").send(message)
            await wait_all_tasks_blocked()
    assert log == [(2, "1"), (4, "2"), (5, "3")]
    assert len(events.of(PoisonMessage)) == 4


async def test_what_belongs_to_the_old_incarnation_is_not_handed_over():
    log, actor = keeper()
    turns = []

    async def helper(a):
        async def turn():
            turns.append("never")

        await a.in_turn(turn)

    def prepare(a):
        a.monitor("nobody")
        a.after(0.5, "timer")
        a.nursery.start_soon(helper, a)

    async with Tree(actor).supervisor as supervisor:
        ref = supervisor.ref("k")

        async def prepare_and_crash(a):
            prepare(a)
            await crash_later(a)

        ref.send(prepare_and_crash)
        await wait_all_tasks_blocked()
        ref.send("message")
        await trio.sleep(5)
    assert log == [(2, "message")]
    assert turns == []


async def test_a_turn_is_not_for_the_next_incarnation_which_could_not_begin_before_its_helper_has_ended():
    _, actor = keeper()
    turns = []

    async def helper(a):
        async def turn():
            turns.append("never")

        with trio.CancelScope(shield=True), pytest.raises(NotAlive):
            await a.in_turn(turn)

    async with Tree(actor).supervisor as supervisor:
        ref = supervisor.ref("k")
        ref.send(lambda a: a.nursery.start_soon(helper, a))
        ref.send(crash_later)
        await trio.sleep(2)
        assert supervisor.ref("k").incarnation == 2
    assert turns == []


@asynccontextmanager
async def holds_something():
    yield


@pytest.mark.parametrize("kind", [trio.sleep_forever, holds_something, Supervisor([])])
async def test_who_comes_back_as_another_kind_of_child_takes_no_messages_and_the_callers_are_told(kind):
    log, actor = keeper()
    told = []

    async def ask(ref):
        with pytest.raises(NoMailbox):
            await ref.call("question", timeout=math.inf)
        told.append(trio.current_time())

    options: dict[str, Any] = {"id": "k", "backoff": Backoff(initial=1, jitter=0)}
    runtime = Runtime()
    with capture_events(runtime) as events:
        tree = Supervisor([child(actor, mailbox=Mailbox(kept=True), **options)])
        async with open_supervisor(tree, runtime=runtime) as supervisor, trio.open_nursery() as nursery:
            ref = supervisor.ref("k")
            ref.send(crash_later)
            await wait_all_tasks_blocked()
            ref.send("for nobody")
            pending = ref.request("question")
            nursery.start_soon(ask, ref)
            await wait_all_tasks_blocked()
            await supervisor.change(Supervisor([child(kind, **options)]))
            await trio.sleep(10)
            with pytest.raises(NoMailbox):
                pending.result()
            assert told == [2]
            assert supervisor.ref("k").alive
            assert [(event.incarnation, event.count) for event in events.of(MessagesDropped)] == [(2, 1)]
    assert log == []


@pytest.mark.parametrize("again", [False, True])
async def test_a_helper_that_waits_for_its_turn_learns_that_the_init_has_failed(again):
    """Under a shield, too: the end of the actor waits for it. It may even ask once more."""
    told = []

    async def waits_for_its_turn(a):
        with trio.CancelScope(shield=True):
            for _ in range(1 + again):
                try:
                    await a.in_turn(trio.lowlevel.checkpoint)
                except NotAlive:
                    told.append(trio.current_time())

    async def init(a):
        a.nursery.start_soon(waits_for_its_turn, a)
        await trio.sleep(1)
        raise Boom

    _, actor = keeper(init)
    async with open_supervisor(Supervisor([])) as supervisor:
        with pytest.raises(FailedToStart, match="Boom"):
            await supervisor.start_child(child(actor, id="k"))
    assert told == [1] * (1 + again)


async def test_nobody_is_shown_the_next_incarnation_as_the_one_that_was_to_be_inspected():
    _, actor = keeper()
    async with Tree(actor).supervisor as supervisor:
        ref = supervisor.ref("k")
        ref.send(crash_later)
        await wait_all_tasks_blocked()
        with pytest.raises(NotAlive):
            await ref.inspect()
        await wait_all_tasks_blocked()
        assert (await supervisor.ref("k").inspect()).incarnation == 2


@pytest.mark.parametrize("how", ["transient", "temporary", "parked", "terminated", "terminated in backoff"])
async def test_without_a_next_incarnation_it_is_dropped_and_the_callers_are_told(how):
    ways: dict[str, dict[str, Any]] = {
        "transient": {"restart": "transient"},
        "temporary": {"restart": "temporary"},
        "parked": {"budget": RestartBudget(intensity=0, on_exceed="park")},
        "terminated": {"shutdown": 0.5},
        "terminated in backoff": {"backoff": Backoff(initial=100, cap=100)},
    }
    log, actor = keeper()
    tree = Tree(actor, **ways[how])
    with capture_events(tree.runtime) as events:
        async with tree.supervisor as supervisor:
            ref = supervisor.ref("k")
            ref.send(sleeps(1))
            ref.send(lambda a: a.stop() if how == "transient" else boom(a))
            await wait_all_tasks_blocked()
            ref.send("1")
            ref.send("2")
            call = ref.request("call")
            if how == "terminated":
                await supervisor.terminate_child("k")
            else:
                await trio.sleep(2)
            if how == "terminated in backoff":
                assert not call.done
                assert events.of(MessagesDropped) == []
                await supervisor.terminate_child("k")
            with pytest.raises(NotAlive, match="app/k"):
                call.result()
            assert events.one(MessagesDropped).count == (3 if how == "terminated" else 2)
    assert log == []


async def test_parked_after_a_backoff_it_is_dropped_and_the_callers_are_told():
    """Found by the soak: whether it comes back was decided when the backoff was over, and nobody looked then."""
    log, actor = keeper()
    budget = RestartBudget(intensity=0, on_exceed="park")
    tree = Tree(actor, budget=budget, backoff=Backoff(initial=1, jitter=0))
    with capture_events(tree.runtime) as events:
        async with tree.supervisor as supervisor:
            ref = supervisor.ref("k")
            ref.send(boom)
            ref.send("1")
            call = ref.request("call")
            await wait_all_tasks_blocked()
            assert not call.done
            await trio.sleep(2)
            assert [info.status for info in supervisor.which_children()] == ["parked"]
            with pytest.raises(NotAlive, match="app/k"):
                call.result()
            assert events.one(MessagesDropped).count == 1
            await supervisor.restart_child("k")
    assert log == []


async def test_forgotten_at_the_end_of_the_boot_it_is_dropped_and_the_callers_are_told():
    """It has ended in the boot, and what becomes of it is decided when the last child is up."""
    calls = []

    def init(actor):
        actor.send_self(crash_later)
        actor.me.send("1")
        calls.append(actor.me.request("call"))

    log, actor = keeper(init)
    _, slow = keeper(sleeps(5))
    tree = Tree(actor, child(slow, id="slow"), budget=RestartBudget(intensity=0, on_exceed="drop"))
    with capture_events(tree.runtime) as events:
        async with tree.supervisor as supervisor:
            assert [info.id for info in supervisor.which_children()] == ["slow"]
            with pytest.raises(NotAlive, match="app/k"):
                calls[0].result()
            assert events.one(MessagesDropped).count == 1
    assert log == []


async def test_when_the_supervisor_gives_up_it_is_dropped_and_the_callers_are_told():
    log, actor = keeper()
    runtime = Runtime()
    calls = []
    spec = Supervisor([child(actor, id="k", mailbox=Mailbox(kept=True))], intensity=1)
    with capture_events(runtime) as events:
        with pytest.raises(GaveUp):  # noqa: PT012
            async with no_task_left(), open_supervisor(spec, runtime=runtime, log=False) as supervisor:
                ref = supervisor.ref("k")
                for message in (boom, boom, "1"):
                    ref.send(message)
                calls.append(ref.request("call"))
                await trio.sleep_forever()
        assert events.one(MessagesDropped).count == 1
    with pytest.raises(NotAlive):
        calls[0].result()
    assert log == []


async def test_in_a_group_restart_what_the_siblings_could_not_handle_in_time_is_kept():
    log, actor = keeper()
    tree = Tree(actor, child(keeper()[1], id="other"), strategy="one_for_all", shutdown=1)
    with capture_events(tree.runtime) as events:
        async with tree.supervisor as supervisor:
            ref = supervisor.ref("k")
            ref.send(sleeps(100))
            await wait_all_tasks_blocked()
            ref.send("kept")
            call = ref.request("call")
            supervisor.ref("other").send(boom)
            await trio.sleep(5)
            assert call.result() == (supervisor.ref("k").incarnation, "call")
    assert [message for _, message in log] == ["kept"]
    assert isinstance(events.of(PoisonMessage)[-1].reason, Killed)


async def test_a_supervisor_that_stops_drops_everything():
    _, actor = keeper()
    tree = Tree(actor, backoff=Backoff(initial=1000, cap=1000))
    with capture_events(tree.runtime) as events:
        async with no_task_left(), tree.supervisor as supervisor:
            ref = supervisor.ref("k")
            ref.send(boom)
            ref.send("1")
            call = ref.request("call")
            await wait_all_tasks_blocked()
        assert events.one(MessagesDropped).count == 1
    with pytest.raises(NotAlive):
        call.result()


@pytest.mark.parametrize("shutdown", ["infinity", "brutal"])
async def test_a_supervisor_that_stops_drops_everything_at_once_and_not_when_its_last_child_has_ended(shutdown):
    """In order, and when it is cut short; be it kept for one that was down before, or one that goes down now."""

    async def takes_long():
        with current_context().cleanup():
            await trio.sleep(100)

    log, actor = keeper()
    spec = child(actor, id="k", mailbox=Mailbox(kept=True), backoff=Backoff(initial=1000, cap=1000), shutdown=1)
    below = Supervisor([child(takes_long, id="long", shutdown=200), spec, evolve(spec, id="l")])
    runtime = Runtime()
    with capture_events(runtime) as events:
        tree = Supervisor([child(below, id="below", shutdown=shutdown)])
        async with open_supervisor(tree, runtime=runtime, log=False) as supervisor, trio.open_nursery() as nursery:
            calls = []
            for id_, message in (("k", boom), ("l", sleeps(50))):
                ref = supervisor.supervisor("below").ref(id_)
                ref.send(message)
                ref.send("1")
                calls.append(ref.request("call"))
            await wait_all_tasks_blocked()
            nursery.start_soon(supervisor.terminate_child, "below")
            await trio.sleep(2)
            assert supervisor.which_children()[0].status == "stopping"
            for call in calls:
                with pytest.raises(NotAlive, match="app/below"):
                    call.result()
            assert [event.count for event in events.of(MessagesDropped)] == [1, 1]
    assert log == []


async def test_without_kept_nothing_is_kept():
    log, actor = keeper()
    async with open_supervisor(Supervisor([child(actor, id="k")])) as supervisor:
        ref = supervisor.ref("k")
        ref.send(boom)
        ref.send("1")
        call = ref.request("call")
        await wait_all_tasks_blocked()
        with pytest.raises(NotAlive):
            call.result()
    assert log == []


async def test_a_guest_keeps_nothing():
    _, actor = keeper()

    async def house():
        await host(current_context(), child(actor, id="guest", name="guest", mailbox=Mailbox(kept=True)))

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(house, restart="temporary")]), runtime=runtime):
            await wait_all_tasks_blocked()
            ref = runtime.registry.get("guest")
            assert ref is not None
            ref.send(boom)
            ref.send("1")
            call = ref.request("call")
            await wait_all_tasks_blocked()
            with pytest.raises(NotAlive):
                call.result()
        assert events.one(MessagesDropped).count == 1


@pytest.mark.parametrize("seed", range(5))
async def test_a_storm_of_crashes_loses_no_message_but_the_poison_and_no_reply(seed):
    rng = Random(seed)
    log, actor = keeper()
    tree = Tree(actor, name="k", backoff=Backoff(initial=0.01, cap=0.1))
    sent: list[int] = []
    calls: list[tuple[int, Any]] = []
    poison = 0
    with capture_events(tree.runtime) as events:
        async with tree.supervisor:
            for i in range(300):
                ref = tree.runtime.registry.get("k")
                if ref is not None:
                    try:
                        if (kind := rng.random()) < 0.1:
                            ref.send(boom)
                            poison += 1
                        elif kind < 0.5:
                            calls.append((i, ref.request(i)))
                        else:
                            ref.send(i)
                            sent.append(i)
                    except NotAlive:
                        pass
                if rng.random() < 0.3:
                    await trio.sleep(rng.random() * 0.05)
            await trio.sleep(100)
            answers = []
            for i, call in calls:
                try:
                    assert call.result()[1] == i
                    answers.append(i)
                except NotAlive:  # it found nobody there
                    pass
            assert answers
    assert [message for _, message in log] == sent
    assert len(events.of(PoisonMessage)) == poison


async def test_many_that_wait_for_their_next_incarnation_do_not_cost_the_square_of_their_number(monkeypatch):
    looked = 0
    returns = SupervisorCore.returns

    def count(core, id_):
        nonlocal looked
        looked += 1
        return returns(core, id_)

    _, actor = keeper()
    children = [
        child(actor, id=str(i), mailbox=Mailbox(kept=True), backoff=Backoff(initial=9, jitter=0)) for i in range(100)
    ]
    async with open_supervisor(Supervisor(children, intensity=1000), log=False) as supervisor:
        monkeypatch.setattr(SupervisorCore, "returns", count)
        for i in range(100):
            supervisor.ref(str(i)).send(boom)
            supervisor.ref(str(i)).send("unread")
        await trio.sleep(20)
    assert 0 < looked < 1000
