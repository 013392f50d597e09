"""Who goes on after a cancellation is reported, whatever it was cancelled for; see also test_stop.py."""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import ChildExited, ChildStuck, FailedToStart, Runtime, Supervisor, child, open_supervisor
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo, boom, shell_of, up
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def stubborn(seconds):
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


class HelperWillNotEnd(Echo):
    async def init(self):
        self.nursery.start_soon(stubborn, 60)


class CleanupWillNotEnd(Echo):
    async def terminate(self, reason):
        await stubborn(60)


class HandlerWillNotEnd(Echo):
    """Its helper crashes, but the handler does not hear of that."""

    async def init(self):
        self.nursery.start_soon(self.crash)
        self.send_self(lambda _: stubborn(60))

    async def crash(self):
        await wait_all_tasks_blocked()
        raise Boom


@pytest.mark.parametrize("kind", [HelperWillNotEnd, CleanupWillNotEnd, HandlerWillNotEnd])
async def test_a_crashed_actor_that_is_not_done_in_its_shutdown_time_is_stuck(kind, caplog):
    runtime = Runtime()
    with capture_events(runtime) as events:
        specs = [child(Echo), child(kind, id="bad", shutdown=2.0, restart="temporary")]
        async with no_task_left(), open_supervisor(Supervisor(specs), runtime=runtime) as supervisor:
            if kind is not HandlerWillNotEnd:
                supervisor.ref("bad").send(boom)
            await trio.sleep(6.9)
            assert events.of(ChildStuck) == []
            assert not supervisor.which_children()[1].stuck
            await trio.sleep(0.2)
            stuck = events.one(ChildStuck)
            assert (stuck.path, stuck.after) == ("app/bad", "began to end")
            assert stuck.waited == pytest.approx(7.0)
            info = supervisor.which_children()[1]
            assert (info.status, info.stuck) == ("running", True)
            assert supervisor.statistics().children[1].stuck
            await trio.sleep(60)
            assert [info.id for info in supervisor.which_children()] == ["Echo"]
    assert len(events.of(ChildStuck)) == 1
    (line,) = [r for r in caplog.records if r.name == "otp" and r.levelno == logging.ERROR]
    assert line.getMessage() == "app/bad #2 is stuck: began to end 7.0 s ago, then cancelled, and still running"


async def test_an_actor_that_ends_in_time_is_not_stuck():
    class Slow(Echo):
        async def terminate(self, reason):
            await trio.sleep(1.9)

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Slow, shutdown=2.0)]), runtime=runtime) as supervisor:
            supervisor.ref("Slow").send(boom)
            await trio.sleep(60)
            assert supervisor.which_children()[0].status == "running"
            assert events.of(ChildStuck) == []


async def test_a_child_that_is_asked_to_stop_while_it_is_stuck_is_not_reported_twice():
    runtime = Runtime()
    with capture_events(runtime) as events:
        specs = [child(CleanupWillNotEnd, id="bad", shutdown=2.0)]
        async with open_supervisor(Supervisor(specs), runtime=runtime) as supervisor:
            supervisor.ref("bad").send(boom)
            await trio.sleep(10)
            await supervisor.terminate_child("bad")
    assert [event.after for event in events.of(ChildStuck)] == ["began to end"]


async def test_a_child_that_does_not_come_up_in_time_and_does_not_end_either_is_stuck():
    class Deaf(Echo):
        async def init(self):
            await stubborn(60)

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo)]), runtime=runtime) as supervisor:
            # The clock is set for the quick one, and must not be wrong for the other.
            for id_, limit in [("quick", 1.0), ("deaf", 10.0)]:
                kind = Deaf if id_ == "deaf" else Echo
                spec = child(kind, id=id_, init_timeout=limit)
                if id_ == "quick":
                    await supervisor.start_child(spec)
                    continue
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def start(spec=spec):
                        with pytest.raises(FailedToStart, match="did not start within its init_timeout of 10 s"):
                            await supervisor.start_child(spec)

                    await trio.sleep(14.9)
                    assert events.of(ChildStuck) == []
                    await trio.sleep(0.2)
                    stuck = events.one(ChildStuck)
                    assert (stuck.path, stuck.after) == ("app/deaf", "began to start")
                    assert stuck.waited == pytest.approx(15.0)
                    assert supervisor.which_children()[2].stuck
            assert supervisor.count_children().specs == 2


async def test_during_a_long_boot_each_child_has_its_own_time():
    def slow(seconds):
        class Slow(Echo):
            async def init(self):
                await stubborn(seconds)

        return Slow

    runtime = Runtime()
    specs = [child(slow(seconds), id=str(seconds), init_timeout=20) for seconds in (18, 19, 17, 31)]
    with capture_events(runtime) as events, pytest.raises(FailedToStart):
        async with open_supervisor(Supervisor(specs), runtime=runtime):
            raise AssertionError("not reached")
    stuck = events.one(ChildStuck)
    assert stuck.path == "app/31"
    assert stuck.at == pytest.approx(18 + 19 + 17 + 20 + 5)


async def test_nothing_is_remembered_of_those_that_have_ended():
    app = Supervisor([child(Echo, restart="transient")], strategy="simple_one_for_one")
    async with open_supervisor(app) as supervisor:
        for _ in range(100):
            ref = up(await supervisor.start_instance())
            ref.send(lambda actor: actor.stop())
            await wait_all_tasks_blocked()
            await supervisor.terminate_child(ref.id)
        await wait_all_tasks_blocked()
        assert shell_of(supervisor)._overdue._expected == []


@pytest.mark.parametrize("shutdown", [1000.0, "infinity"])
@pytest.mark.parametrize("kind", [CleanupWillNotEnd, HelperWillNotEnd])
async def test_when_the_shutdown_is_hurried_who_is_stuck_is_reported_by_the_new_deadline(kind, shutdown):
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with (
            no_task_left(),
            open_supervisor(Supervisor([child(kind, id="bad", shutdown=shutdown)]), runtime=runtime) as supervisor,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(supervisor.terminate_child, "bad")
            await trio.sleep(10)
            runtime.hurry(11, 12)
            runtime.hurry(11, 13)  # later than it is already: it changes nothing
    stuck = events.one(ChildStuck)
    assert (stuck.at, stuck.after, stuck.waited) == (12 + 5, "asked to stop", 12 + 5)


async def stubborn_task():
    await stubborn(60)


@pytest.mark.parametrize("kind", [CleanupWillNotEnd, HelperWillNotEnd, stubborn_task])
async def test_the_children_of_a_supervisor_that_was_cut_short_are_told_as_well(kind):
    class Slow(Echo):
        async def terminate(self, reason):
            await trio.sleep(60)

    runtime = Runtime()
    inner = Supervisor([child(Echo), child(kind, id="bad", shutdown=2.0), child(Slow, shutdown=1.5)])
    with capture_events(runtime) as events:
        async with (
            no_task_left(),
            open_supervisor(Supervisor([child(inner, id="inner", shutdown=1.0)]), runtime=runtime),
        ):
            pass  # at 1 it is cut short, while it waits for the last; at 3 the time of `bad` is over
        assert trio.current_time() == pytest.approx(60 + (kind is CleanupWillNotEnd))
    first, second = events.of(ChildStuck)
    assert (first.path, first.after, first.at) == ("app/inner", "asked to stop", 1 + 5)
    assert (second.path, second.after, second.at) == ("app/inner/bad", "began to end", 1 + 2 + 5)


async def test_a_supervisor_that_was_cut_short_says_who_was_stuck_in_its_init_or_its_stop():
    class Deaf(Echo):
        async def init(self):
            await stubborn(60)

    runtime = Runtime()
    inner = Supervisor([child(CleanupWillNotEnd, id="stops", shutdown=2.0)])
    starting = Supervisor([child(Deaf, shutdown=2.0, init_timeout=1000)])
    with capture_events(runtime) as events:
        async with no_task_left(), open_supervisor(Supervisor([]), runtime=runtime) as supervisor:
            await supervisor.start_child(child(inner, id="inner", shutdown=1.0))
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def start():
                    with pytest.raises(FailedToStart):
                        await supervisor.start_child(child(starting, id="starting", shutdown=1.0))

                await wait_all_tasks_blocked()
                await supervisor.terminate_child("starting")
            await supervisor.terminate_child("inner")
    assert [(event.path, round(event.waited, 6)) for event in events.of(ChildStuck)] == [
        ("app/starting", 6),
        ("app/starting/Deaf", 7),
        ("app/inner", 6),
        ("app/inner/stops", 7),
    ]


async def test_ctrl_c_that_hits_the_end_of_a_child_does_not_hold_up_a_supervisor_that_was_cut_short():
    class Slow(Echo):
        async def terminate(self, reason):
            await stubborn(3)

    def interrupt(event):
        if event.path == "app/inner/slow":
            raise KeyboardInterrupt

    runtime = Runtime()
    runtime.events.subscribe(interrupt, ChildExited)  # so its end never gets to the supervisor
    inner = Supervisor([child(Slow, id="slow")])
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor(Supervisor([child(inner, id="inner", shutdown=1.0)]), runtime=runtime, log=False):
            pass
    assert trio.current_time() == pytest.approx(1 + 5)  # when it looked again
