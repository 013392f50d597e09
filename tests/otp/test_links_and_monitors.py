"""Links and monitors: who hears of an end, when, and in what order with everything else."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    ChildExited,
    Crashed,
    Down,
    Exited,
    FailedToStart,
    Killed,
    LinkedExit,
    NoProcess,
    Normal,
    NotAlive,
    Runtime,
    Shutdown,
    Stop,
    Supervisor,
    child,
    open_supervisor,
    whereis,
)
from otp._life import life_at
from otp._links import Links
from otp._monitoring import Monitoring, Monitors
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo, boom, perform, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


class Watcher(Actor):
    """Runs the functions it is sent, keeps everything else."""

    async def init(self):
        self.seen = []

    async def handle_message(self, message):
        if callable(message):
            await perform(self, message)
        else:
            self.seen.append(message)

    async def handle_call(self, request):
        return await perform(self, request)


class Target(Echo):
    async def terminate(self, reason):
        await trio.sleep(1)


def tree(*more, **options):
    children = [child(Watcher, id="w", name="w"), child(Target, id="t", name="t", **options), *more]
    return open_supervisor(Supervisor(children, intensity=100))


async def seen(ref):
    return await ref.call(lambda a: a.seen)


def stops(reason):
    return lambda actor: actor.stop(reason)


def raises(error):
    def handler(_):
        raise error

    return handler


ENDS: dict[str, Any] = {
    "normal": (stops(Normal()), Normal()),
    "stop": (raises(Stop()), Normal()),
    "shutdown": (stops(Shutdown("why")), Shutdown("why")),
    "killed": (stops(Killed()), Killed()),
}


# -- monitors


@pytest.mark.parametrize("how", ENDS)
async def test_each_monitor_brings_one_down_with_the_reason(how):
    end, reason = ENDS[how]
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        first, second = await w.call(lambda a: (a.monitor(t), a.monitor("t")))
        t.send(end)
        await trio.sleep(2)
        assert await seen(w) == [
            Down(monitor=first, ref=t, name=None, reason=reason),
            Down(monitor=second, ref=t, name="t", reason=reason),
        ]
        await trio.sleep(10)
        assert len(await seen(w)) == 2


async def test_a_crash_is_told_with_its_exception():
    async with tree() as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        await w.call(lambda a: a.monitor(t))
        t.send(boom)
        await trio.sleep(2)
        (down,) = await seen(w)
        assert isinstance(down.reason, Crashed)
        assert isinstance(down.reason.exception, Boom)


async def test_a_dead_target_and_nobody_are_told_at_once():
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        t.send(stops(Shutdown("x")))
        await trio.sleep(2)
        dead, nobody = await w.call(lambda a: (a.monitor(t), a.monitor("nobody")))
        assert await seen(w) == [
            Down(monitor=dead, ref=t, name=None, reason=NoProcess()),
            Down(monitor=nobody, ref=None, name="nobody", reason=NoProcess()),
        ]


async def test_a_target_in_its_terminate_is_alive_and_is_told_when_it_is_gone():
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        t.send(stops(Shutdown("x")))
        await trio.sleep(0.5)
        assert t.alive
        with pytest.raises(NotAlive):
            t.send("x")
        await w.call(lambda a: a.monitor(t))
        assert await seen(w) == []
        await trio.sleep(1)
        assert not t.alive
        assert [down.reason for down in await seen(w)] == [Shutdown("x")]


async def test_the_name_is_free_and_the_group_left_when_down_comes():
    found = []

    class Looks(Watcher):
        async def handle_message(self, message):
            if isinstance(message, Down):
                assert message.ref is not None
                found.append((whereis("t"), message.ref.alive))
            else:
                await super().handle_message(message)

    async with tree(child(Looks, id="looks"), restart="temporary") as supervisor:
        await supervisor.ref("looks").call(lambda a: a.monitor("t"))
        supervisor.ref("t").send(boom)
        await trio.sleep(2)
    assert found == [(None, False)]


async def test_what_the_target_sent_before_its_end_comes_before_down():
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        await w.call(lambda a: a.monitor(t))
        w.send(sleeps(5))

        def last_words(actor):
            w.send("result")
            actor.stop()

        t.send(last_words)
        await trio.sleep(3)
        w.send("afterwards")
        await trio.sleep(10)
        result, down, afterwards = await seen(w)
    assert (result, type(down), afterwards) == ("result", Down, "afterwards")


async def test_down_goes_round_the_limit_of_the_mailbox():
    spec = Supervisor([child(Watcher, id="w", mailbox=1), child(Target, id="t", restart="temporary")])
    async with open_supervisor(spec) as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        await w.call(lambda a: [a.monitor(t) for _ in range(3)])
        w.send(sleeps(5))
        await wait_all_tasks_blocked()
        w.send("fills the box")
        t.send(boom)
        await trio.sleep(10)
        assert len(await seen(w)) == 4


async def test_demonitor_also_takes_back_what_lies_in_the_mailbox():
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        kept, gone, early = await w.call(lambda a: (a.monitor(t), a.monitor(t), a.monitor(t)))
        await w.call(lambda a: a.demonitor(early))

        async def flush(actor):
            await trio.sleep(5)
            assert w.mailbox().unread == 3
            actor.demonitor(gone)
            actor.demonitor(gone)

        w.send(flush)
        await wait_all_tasks_blocked()
        t.send(stops(Normal()))
        w.send("other")
        await trio.sleep(10)
        assert await seen(w) == ["other", Down(monitor=kept, ref=t, name=None, reason=Normal())]


async def test_any_child_can_be_watched():
    async def task():
        await trio.sleep(3)

    spec = Supervisor(
        [child(Watcher, id="w"), child(task, restart="temporary"), child(Supervisor([]), id="s", restart="temporary")]
    )
    async with open_supervisor(spec) as supervisor:
        w = supervisor.ref("w")
        refs = [supervisor.ref("task"), supervisor.ref("s")]
        await w.call(lambda a: [a.monitor(ref) for ref in refs])
        await trio.sleep(4)
        await supervisor.terminate_child("s")
        assert [(down.ref, down.reason) for down in await seen(w)] == [(refs[0], Normal()), (refs[1], Shutdown())]


async def test_monitors_of_those_who_are_gone_leave_nothing_with_the_target():
    async with tree() as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        await w.call(lambda a: [a.monitor(t) for _ in range(5)])
        assert len(life_at(t).part(Monitors).placed) == 5
        w.send(boom)
        await wait_all_tasks_blocked()
        assert len(life_at(t).part(Monitors).placed) == 0
        assert len(life_at(w).part(Monitoring).monitors) == 0


async def test_a_monitor_of_an_earlier_incarnation_tells_the_next_nothing():
    async with tree() as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        await w.call(lambda a: a.monitor(t))
        w.send(sleeps(3))
        w.send(boom)
        t.send(boom)
        await trio.sleep(10)
        assert supervisor.ref("w").incarnation > w.incarnation
        assert await seen(supervisor.ref("w")) == []


# -- links


def exits(events):
    return {event.path.removeprefix("app/"): event.reason for event in events.of(ChildExited) if not event.asked}


async def end_linked(end, *, one_way=False, by="t", trap=False):
    """Two linked children of which `by` ends so: the exits, and what the linking one has seen."""
    runtime = Runtime()
    spec = Supervisor([child(Watcher, id="w", restart="temporary"), child(Target, id="t", restart="temporary")])
    with capture_events(runtime) as events:
        async with no_task_left(), open_supervisor(spec, runtime=runtime) as supervisor:
            w, t = supervisor.ref("w"), supervisor.ref("t")
            await w.call(lambda a: a.trap_exits(trap))
            await w.call(lambda a: a.link(t, one_way=one_way))
            supervisor.ref(by).send(end)
            await trio.sleep(3)
            messages = await seen(w) if w.alive else None
            ended = exits(events)
        return ended, messages, t


@pytest.mark.parametrize("by", ["t", "w"])
@pytest.mark.parametrize("how", ["shutdown", "killed"])
async def test_the_exit_of_one_ends_the_other_with_the_same_reason(how, by):
    end, reason = ENDS[how]
    ended, _, _ = await end_linked(end, by=by)
    assert ended == {"w": reason, "t": reason}


@pytest.mark.parametrize("by", ["t", "w"])
async def test_a_crash_ends_the_other_by_a_crash_that_says_whose_it_was(by):
    ended, _, _ = await end_linked(boom, by=by)
    other = ended["w" if by == "t" else "t"].exception
    assert isinstance(other, LinkedExit)
    assert other.source == f"app/{by}"
    assert isinstance(other.__cause__, Boom)
    assert ended[by].exception is other.__cause__


@pytest.mark.parametrize("by", ["t", "w"])
@pytest.mark.parametrize("how", ["normal", "stop"])
async def test_a_normal_exit_ends_nobody_else(how, by):
    ended, _, _ = await end_linked(ENDS[how][0], by=by)
    assert ended == {by: Normal()}


async def test_a_one_way_link_works_one_way():
    ended, _, _ = await end_linked(boom, one_way=True, by="w")
    assert list(ended) == ["w"]
    ended, _, _ = await end_linked(boom, one_way=True, by="t")
    assert sorted(ended) == ["t", "w"]


@pytest.mark.parametrize("how", ENDS)
async def test_who_traps_exits_gets_all_of_them_as_messages(how):
    end, reason = ENDS[how]
    ended, messages, t = await end_linked(end, trap=True)
    assert ended == {"t": reason}
    assert messages == [Exited(ref=t, reason=reason)]


async def test_an_exit_overtakes_all_messages_and_cancels_the_handler():
    handled = []
    runtime = Runtime()
    spec = Supervisor([child(Watcher, id="w", restart="temporary"), child(Echo, id="t", restart="temporary")])
    with capture_events(runtime) as events:
        async with open_supervisor(spec, runtime=runtime) as supervisor:
            w, t = supervisor.ref("w"), supervisor.ref("t")
            await w.call(lambda a: a.link(t))
            w.send(sleeps(1000))
            w.send(lambda _: handled.append("never"))
            await wait_all_tasks_blocked()
            t.send(boom)
            await wait_all_tasks_blocked()
            assert trio.current_time() == 0
            assert sorted(exits(events)) == ["t", "w"]
    assert handled == []


async def test_the_stop_of_the_supervisor_cannot_be_trapped_and_is_not_changed_by_links():
    order = []

    class Slow(Watcher):
        async def terminate(self, reason):
            order.append((self.context.id, reason))

    spec = Supervisor([child(Slow, id="a", name="a"), child(Slow, id="b", name="b")], strategy="one_for_all")
    async with open_supervisor(spec) as supervisor:
        for id_, other in ("ab", "ba"):
            await supervisor.ref(id_).call(lambda a, other=other: (a.trap_exits(), a.link(other)))
        supervisor.ref("a").send(sleeps(2))
        await wait_all_tasks_blocked()
    assert order == [("b", Shutdown()), ("a", Shutdown())]


async def test_one_that_is_asked_to_stop_takes_no_notice_of_links():
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with tree() as supervisor, trio.open_nursery() as nursery:
            w, t = supervisor.ref("w"), supervisor.ref("t")
            await w.call(lambda a: a.link(t))
            finished = []

            async def work(_):
                await trio.sleep(2)
                finished.append("work")

            w.send(work)
            await wait_all_tasks_blocked()
            nursery.start_soon(supervisor.terminate_child, "w")
            await wait_all_tasks_blocked()
            t.send(boom)
    assert finished == ["work"]
    assert len(events) == 0


async def test_an_exit_that_comes_during_terminate_does_not_change_the_reason():
    runtime = Runtime()
    spec = Supervisor([child(Target, id="t", restart="temporary"), child(Watcher, id="w", restart="temporary")])
    with capture_events(runtime) as events:
        async with open_supervisor(spec, runtime=runtime) as supervisor:
            w, t = supervisor.ref("w"), supervisor.ref("t")
            await w.call(lambda a: a.link(t))
            t.send(stops(Shutdown("mine")))
            await trio.sleep(0.5)
            w.send(boom)
            await trio.sleep(2)
    assert exits(events)["t"] == Shutdown("mine")


async def test_a_link_to_the_dead_is_refused_or_told_to_who_traps():
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        t.send(stops(Normal()))
        await trio.sleep(2)

        def link(actor):
            for target in (t, "nobody"):
                with pytest.raises(NotAlive):
                    actor.link(target)
            actor.trap_exits()
            actor.link(t)

        await w.call(link)
        assert await seen(w) == [Exited(ref=t, reason=NoProcess())]


async def test_unlink_cuts_both_ways_and_takes_back_what_was_told():
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")
        await w.call(lambda a: (a.link(t), a.link(t), a.unlink(t)))
        t.send(boom)
        await trio.sleep(2)
        assert w.alive
    async with tree(restart="temporary") as supervisor:
        w, t = supervisor.ref("w"), supervisor.ref("t")

        async def unlink_late(actor):
            await trio.sleep(5)
            actor.unlink(t)

        await w.call(lambda a: (a.trap_exits(), a.link(t)))
        w.send(unlink_late)
        await wait_all_tasks_blocked()
        t.send(boom)
        await trio.sleep(10)
        assert await seen(w) == []


async def test_a_plain_task_ends_with_its_link_and_a_supervisor_does_not():
    runtime = Runtime()
    spec = Supervisor(
        [
            child(Watcher, id="w", restart="temporary"),
            child(trio.sleep_forever, id="task", restart="temporary"),
            child(Supervisor([]), id="s"),
        ]
    )
    with capture_events(runtime) as events:
        async with open_supervisor(spec, runtime=runtime) as supervisor:
            w = supervisor.ref("w")
            refs = [supervisor.ref("task"), supervisor.ref("s")]
            await w.call(lambda a: [a.link(ref) for ref in refs])
            w.send(stops(Shutdown("enough")))
            await wait_all_tasks_blocked()
            assert exits(events) == {"w": Shutdown("enough"), "task": Shutdown("enough")}


async def test_a_link_made_in_init_makes_it_a_failed_start():
    class Needs(Actor):
        async def init(self):
            self.link("t")
            await trio.sleep(5)

    async with tree(restart="temporary") as supervisor, trio.open_nursery() as nursery:
        failed = []

        async def start():
            with pytest.raises(FailedToStart) as caught:
                await supervisor.start_child(child(Needs, id="n"))
            failed.append(caught.value)

        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        supervisor.ref("t").send(boom)
    assert isinstance(failed[0].__cause__, LinkedExit)


async def test_a_ring_of_links_goes_down_together_and_leaves_nothing():
    runtime = Runtime()
    n = 20
    spec = Supervisor([child(Watcher, id=str(i), name=str(i), restart="temporary") for i in range(n)])
    with capture_events(runtime) as events:
        async with no_task_left(), open_supervisor(spec, runtime=runtime, log=False) as supervisor:
            refs = [supervisor.ref(str(i)) for i in range(n)]
            for i in range(n):
                await refs[i].call(lambda a, i=i: a.link(str((i + 1) % n)))
            refs[7].send(boom)
            await wait_all_tasks_blocked()
            assert len(exits(events)) == n
            links = [life_at(ref).part(Links) for ref in refs]
            assert not any(each.tells or each.hears for each in links)
