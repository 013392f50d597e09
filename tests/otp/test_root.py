"""The front door: how a tree starts and stops with its `async with` block, whatever happens in or around it."""

import math
import pickle
import subprocess
import sys

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import otp
from otp import (
    Crashed,
    FailedToStart,
    GaveUp,
    Killed,
    NotAlive,
    Readiness,
    RestartBudget,
    Runtime,
    Shutdown,
    Supervisor,
    child,
    current_context,
    host,
    open_supervisor,
    whereis,
)
from otp.testing import no_task_left
from tests.otp.actors import Boom, Echo, Journal, boom, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def tree(journal):
    return Supervisor([child(journal.actor(i, terminate=sleeps(1)), id=i) for i in "abc"])


STOPPED = ["-c shutdown", "-b shutdown", "-a shutdown"]


async def test_an_exception_in_the_body_stops_the_tree_in_order_and_goes_on():
    journal = Journal()
    error = Boom("body")
    with pytest.raises(Boom) as caught:  # noqa: PT012
        async with no_task_left(), open_supervisor(tree(journal)):
            journal.take()
            raise error
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert journal.take() == STOPPED


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_ctrl_c_in_the_body_stops_the_tree_in_order(error):
    journal = Journal()
    with pytest.raises(error):  # noqa: PT012
        async with no_task_left(), open_supervisor(tree(journal)):
            journal.take()
            raise error
    assert journal.take() == STOPPED


async def test_a_cancel_around_it_stops_the_tree_in_order_and_goes_on():
    journal = Journal()
    with trio.CancelScope() as scope:
        async with no_task_left(), open_supervisor(tree(journal)):
            journal.take()
            began = trio.current_time()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert journal.take() == STOPPED
    assert trio.current_time() - began == pytest.approx(3)  # each in its own time, as without a cancel


async def test_a_cancel_around_it_reaches_no_child():
    seen = []

    class Watching(Echo):
        async def handle_message(self, message):
            try:
                await trio.sleep(1)
                seen.append("finished")
            except trio.Cancelled:
                seen.append("cancelled")
                raise

    with trio.CancelScope() as scope:
        async with open_supervisor(Supervisor([child(Watching)])) as supervisor:
            supervisor.ref("Watching").send("x")
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
    assert seen == ["finished"]


async def test_a_cancel_while_it_starts_stops_what_was_started():
    journal = Journal()
    specs = [child(journal.actor("a"), id="a")]
    specs.append(child(journal.actor("slow", init=sleeps(1000)), id="slow", init_timeout=math.inf))
    with trio.move_on_after(1) as scope:
        async with no_task_left(), open_supervisor(Supervisor(specs)):
            raise AssertionError("not reached")
    assert scope.cancelled_caught
    assert journal.take() == ["+a", "-a shutdown"]


async def test_giving_up_cancels_the_body_and_is_raised():
    noticed = []
    async with no_task_left():
        with pytest.raises(GaveUp) as gave_up:  # noqa: PT012
            async with open_supervisor(Supervisor([child(Echo)], intensity=0)) as supervisor:
                supervisor.ref("Echo").send(boom)
                try:
                    await trio.sleep_forever()
                except trio.Cancelled:
                    noticed.append("cancelled")
                    raise
    assert noticed == ["cancelled"]
    assert isinstance(gave_up.value.__cause__, Boom)


async def test_giving_up_is_raised_although_the_body_fell_over_the_dead_tree():
    with pytest.raises(GaveUp):  # noqa: PT012
        async with open_supervisor(Supervisor([child(Echo)], intensity=0)) as supervisor:
            ref = supervisor.ref("Echo")
            await ref.call(boom)


async def test_giving_up_is_raised_although_a_nursery_in_the_body_fell_over_the_dead_tree():
    with pytest.raises(GaveUp):
        async with (
            open_supervisor(Supervisor([child(Echo)], intensity=0)) as supervisor,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(supervisor.ref("Echo").call, boom)


async def test_two_failures_at_once_are_both_raised():
    with pytest.raises(ExceptionGroup) as group:  # noqa: PT012
        async with open_supervisor(Supervisor([child(Echo)], intensity=0)) as supervisor:
            supervisor.ref("Echo").send(boom)
            try:
                await trio.sleep_forever()
            finally:
                raise RuntimeError("body")
    assert [type(e) for e in group.value.exceptions] == [GaveUp, RuntimeError]


async def test_a_failed_start_is_raised_and_the_body_not_entered():
    def fails():
        raise Boom

    with pytest.raises(FailedToStart, match=r"svc: child 'fails' failed to start: crashed \(Boom\)"):
        async with open_supervisor(Supervisor([child(fails)]), name="svc"):
            raise AssertionError("not reached")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_ctrl_c_in_a_child_stops_the_tree_in_order_and_is_raised(error):
    # Python raises it in whatever is running.
    journal = Journal()

    def raises(_):
        raise error("in a child")

    async def main():
        async with open_supervisor(tree(journal)) as supervisor:
            journal.take()
            supervisor.ref("b").send(raises)
            await trio.sleep_forever()

    with pytest.raises(error):
        await main()
    lines = journal.take()
    assert lines[0].startswith(f"-b crashed ({error.__name__}")
    assert [line for line in lines if "shutdown" in line][-1] == "-a shutdown"


async def test_two_trees_side_by_side_and_one_within_the_other():
    async with (
        open_supervisor(Supervisor([child(Echo, name="same")]), name="one") as one,
        open_supervisor(Supervisor([child(Echo, name="same")]), name="two") as two,
    ):
        assert one.ref("Echo").path == "one/Echo"
        assert whereis("same") is two.ref("Echo")
        assert await one.ref("Echo").call(lambda _: whereis("same")) is one.ref("Echo")
        assert current_context().path == "two"
    with pytest.raises(RuntimeError, match="not in a supervised task"):
        current_context()


async def test_the_context_of_a_child_is_its_own():
    async def task():
        paths.append(current_context().path)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def inner():
                paths.append(current_context().path)

    async def crash_and_restart(actor):
        assert actor.context == current_context()
        boom(actor)

    paths: list[str] = []
    async with open_supervisor(Supervisor([child(task, restart="transient"), child(Echo)])) as supervisor:
        await wait_all_tasks_blocked()
        assert paths == ["app/task"] * 2
        first = supervisor.ref("Echo")
        first.send(crash_and_restart)
        await wait_all_tasks_blocked()
        # The new incarnation is started by the supervisor, and not in the context of whoever crashed or asked.
        path = await supervisor.ref("Echo").call(lambda _: current_context().incarnation)
        assert path == supervisor.ref("Echo").incarnation > first.incarnation


async def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="supervisor must be a Supervisor, not \\[\\]"):
        async with open_supervisor([]):  # type: ignore[arg-type]
            pass
    with pytest.raises(ValueError, match="name must be a string that is not empty and has no '/' in it, not 'a/b'"):
        async with open_supervisor(Supervisor([]), name="a/b"):
            pass


# -- the runtime


async def test_drain_waits_for_those_who_have_something_to_finish():
    class Consumer(otp.Behaviour):
        def __init__(self, seconds):
            self.seconds = seconds

        async def serve(self, context):
            with context.drains():
                context.started()
                await context.draining.wait()
                assert context.drain_deadline == trio.current_time() + 5
                await trio.sleep(self.seconds)
            await context.stopping.wait()

    specs = [child(lambda s=s: Consumer(s), id=f"c{s}") for s in (1, 3, 60)]
    async with open_supervisor(Supervisor([*specs, child(Echo)])) as supervisor:
        runtime = supervisor.runtime
        assert runtime.readiness() == Readiness(ok=True)
        assert runtime.statistics().draining == ("app/c1", "app/c3", "app/c60")
        began = trio.current_time()
        assert await runtime.drain(began + 5) == ["app/c60"]
        assert trio.current_time() == began + 5
        assert runtime.readiness().reasons == ("draining",)
        assert supervisor.ref("c1").alive  # nothing is stopped by it


async def test_all_who_drain_come_back_when_the_work_is_done():
    done = trio.Event()

    async def consumer():
        with current_context().drains():
            await done.wait()
        await trio.sleep_forever()

    async with open_supervisor(Supervisor([child(consumer)])) as supervisor, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        began = trio.current_time()
        for _ in range(2):
            nursery.start_soon(supervisor.runtime.drain, began + 100)
            await wait_all_tasks_blocked()
        done.set()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_drain_comes_back_at_once_when_nobody_has_work():
    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        began = trio.current_time()
        assert await supervisor.runtime.drain(began + 5) == []
        assert trio.current_time() == began


async def test_who_is_stuck_is_named_and_does_not_make_it_unready():
    async def deaf():
        with trio.CancelScope(shield=True):
            await trio.sleep(30)

    inner = Supervisor([child(deaf, shutdown=1.0)])
    async with open_supervisor(Supervisor([child(inner, id="inner"), child(Echo)])) as supervisor:
        runtime = supervisor.runtime
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.supervisor("inner").terminate_child, "deaf")
            await trio.sleep(5)
            assert runtime.readiness() == Readiness(ok=True)
            await trio.sleep(5)
            assert runtime.readiness() == Readiness(ok=True, stuck=("app/inner/deaf",))
        assert runtime.readiness() == Readiness(ok=True)


async def test_who_is_parked_is_named_and_does_not_make_it_unready():
    """A child is given a budget that parks it so that the others can go on without it; and so they do."""
    budget = RestartBudget(intensity=0, on_exceed="park")
    inner = Supervisor([child(Echo, id="b", budget=budget)])
    specs = [child(inner, id="inner"), child(Echo, id="a", budget=budget), child(Echo, id="c")]
    async with open_supervisor(Supervisor(specs)) as supervisor:
        runtime, below = supervisor.runtime, supervisor.supervisor("inner")
        below.ref("b").send(boom)
        await wait_all_tasks_blocked()
        assert runtime.readiness() == Readiness(ok=True, parked=("app/inner/b",))
        supervisor.ref("a").send(boom)
        await wait_all_tasks_blocked()
        assert runtime.readiness() == Readiness(ok=True, parked=("app/a", "app/inner/b"))
        await below.restart_child("b")
        await supervisor.delete_child("a")
        assert runtime.readiness() == Readiness(ok=True)


async def test_supervisors_that_are_guests_are_looked_at_too():
    async def lives_elsewhere():
        budget = RestartBudget(intensity=0, on_exceed="park")
        inner = Supervisor([child(Echo, id="b", budget=budget, name="b")])
        await host(current_context(), child(inner, id="inner"), stop=end)

    end = trio.Event()
    async with open_supervisor(Supervisor([child(lives_elsewhere, id="host", restart="temporary")])) as supervisor:
        runtime = supervisor.runtime
        await wait_all_tasks_blocked()
        (guest,) = runtime.statistics().guests
        assert (guest.path, [each.status for each in guest.children]) == ("app/host/inner", ["running"])
        otp.send("b", boom)
        await wait_all_tasks_blocked()
        assert runtime.readiness() == Readiness(ok=True, parked=("app/host/inner/b",))
        end.set()
        await wait_all_tasks_blocked()
        assert runtime.readiness() == Readiness(ok=True)
        assert runtime.statistics().guests == ()


async def test_conditions_make_it_unready_until_cleared():
    async with open_supervisor(Supervisor([child(Echo, id="a", restart="temporary")])) as supervisor:
        ref, runtime = supervisor.ref("a"), supervisor.runtime
        await ref.call(lambda a: a.context.condition("store", ok=False, detail="no route"))
        assert runtime.readiness() == Readiness(ok=False, reasons=("app/a: store (no route)",))
        await ref.call(lambda a: a.context.condition("store", ok=True))
        assert runtime.readiness().ok
        await ref.call(lambda a: a.context.condition("store", ok=False))
        ref.send(boom)
        await wait_all_tasks_blocked()
        assert runtime.readiness().ok  # whoever has ended depends on nothing


async def test_who_has_ended_sets_no_condition_that_nobody_would_ever_clear():
    async with open_supervisor(Supervisor([child(Echo, id="a")])) as supervisor:
        context = await supervisor.ref("a").call(lambda a: a.context)
        await supervisor.terminate_child("a")
        context.condition("store", ok=False)
        assert supervisor.runtime.readiness().ok


async def test_readiness_before_and_after():
    runtime = Runtime()
    assert not runtime.readiness().ok
    async with open_supervisor(Supervisor([]), runtime=runtime):
        assert runtime.readiness().ok
    assert runtime.readiness().reasons == ("not started, or stopping",)


async def test_exit_callbacks_run_once_last_one_first():
    runtime = Runtime()
    log = []
    runtime.at_exit(lambda: log.append("first"))
    forget = runtime.at_exit(lambda: log.append("forgotten"))
    runtime.at_exit(lambda: next(iter([])))
    runtime.at_exit(lambda: log.append("last"))
    forget()
    forget()
    (error,) = runtime.run_exit_callbacks()
    assert isinstance(error, StopIteration)
    assert runtime.run_exit_callbacks() == []
    assert log == ["last", "first"]


async def test_a_subscriber_that_raises_is_removed_and_nothing_else_happens(caplog):
    runtime = Runtime()
    seen = []

    def broken(event):
        seen.append(event)
        raise Boom

    runtime.events.subscribe(broken)
    async with open_supervisor(Supervisor([child(Echo)]), runtime=runtime) as supervisor:
        assert await supervisor.ref("Echo").call("alive") == "alive"
    assert len(seen) == 1
    assert "raised and was removed" in caplog.text


async def test_events_nobody_wants_are_not_built():
    runtime = Runtime()
    assert not runtime.events.wants(otp.ChildStarted)
    unsubscribe = runtime.events.subscribe(lambda _: None, otp.ChildExited)
    assert runtime.events.wants(otp.ChildExited)
    assert not runtime.events.wants(otp.ChildStarted)
    unsubscribe()
    unsubscribe()
    assert not runtime.events.wants(otp.ChildExited)


async def test_statistics_show_the_tree():
    inner = Supervisor([child(Echo, id="leaf")], strategy="one_for_all")
    async with open_supervisor(Supervisor([child(inner, id="inner"), child(trio.sleep_forever)])) as supervisor:
        root = supervisor.runtime.statistics().root
        assert root is not None
        assert (root.path, [c.id for c in root.children]) == ("app", ["inner", "sleep_forever"])
        assert root.children[1].mailbox is None
        nested = root.children[0].children
        assert nested is not None
        assert nested.path == "app/inner"
        assert nested.children[0].mailbox is not None


# -- errors and exports


@pytest.mark.parametrize(
    "error",
    [
        otp.NotAlive("app/a", Killed()),
        otp.NotAlive("name"),
        otp.MailboxFull("app/a", 3),
        otp.NoMailbox("app/a"),
        otp.CallTimeout("app/a", 5.0),
        otp.CallingSelf("app/a"),
        otp.NameTaken("name", "app/a"),
        otp.InitTimeout("app/a", 3.0),
        otp.NeverStarted("app/a"),
        otp.GaveUp("app", "a", 3, 5.0, Shutdown()),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert isinstance(error, otp.OtpError)


async def test_not_alive_tells_what_it_died_of():
    error = NotAlive("app/a", Crashed(Boom("why")))
    assert str(error) == "app/a is not alive: it ended with crashed (Boom: why)"


def imported(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


async def test_import_otp_loads_no_engine_and_little_else():
    code = """
import sys, otp
heavy = ("otp.engines", "apsw", "cattrs", "hypercorn", "h11", "pytest")
sys.exit(", ".join(module for module in sys.modules if module.startswith(heavy)) or 0)
"""
    done = imported(code)
    assert done.returncode == 0, done.stderr
