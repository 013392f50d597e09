"""Stopping: the order, the time each child gets, what is forced, what is stuck, and that nothing is left."""

import math
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Behaviour,
    ChildExited,
    ChildStarted,
    ChildStuck,
    Crashed,
    Killed,
    Normal,
    Runtime,
    Shutdown,
    Stop,
    Supervisor,
    child,
    host,
    open_supervisor,
)
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo, Journal, boom, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def reasons_of(*specs, during=None):
    """Run a tree, stop it, and tell what its children ended with, in the order in which they ended."""
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with no_task_left(), open_supervisor(Supervisor(specs), runtime=runtime) as supervisor:
            if during is not None:
                await during(supervisor)
            await wait_all_tasks_blocked()
    return {event.path.removeprefix("app/"): event.reason for event in events.of(ChildExited)}


async def stubborn(seconds=10.0):
    """A task that goes on for a while after it was cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


async def test_children_stop_one_by_one_in_reverse_start_order():
    journal = Journal()

    async def slow(_):
        await trio.sleep(1)
        journal("slow done")

    specs = [
        child(journal.actor("a"), id="a"),
        child(Supervisor([child(journal.actor("b1"), id="b1"), child(journal.actor("b2"), id="b2")]), id="b"),
        child(journal.actor("c", terminate=slow), id="c"),
        child(journal.actor("d"), id="d"),
    ]
    async with no_task_left(), open_supervisor(Supervisor(specs)):
        assert journal.take() == ["+a", "+b1", "+b2", "+c", "+d"]
    assert journal.take() == [
        "-d shutdown",
        "-c shutdown",
        "slow done",
        "-b2 shutdown",
        "-b1 shutdown",
        "-a shutdown",
    ]


async def test_an_actor_handles_what_it_has_before_it_stops():
    handled = []

    class Worker(Echo):
        async def handle_message(self, message):
            await trio.sleep(0.1)
            handled.append(message)
            if message == 3:
                self.send_self("sent while stopping: not handled")

    async with open_supervisor(Supervisor([child(Worker)])) as supervisor:
        for i in range(10):
            supervisor.ref("Worker").send(i)
    assert handled == list(range(10))


async def test_the_mailbox_gets_three_quarters_of_the_time_and_terminate_the_rest():
    times: dict[str, float] = {}

    class Worker(Echo):
        async def handle_message(self, message):
            try:
                await trio.sleep_forever()
            finally:
                times["handler cancelled"] = trio.current_time() - began

        async def terminate(self, reason):
            assert reason == Killed()
            try:
                await trio.sleep_forever()
            finally:
                times["terminate cancelled"] = trio.current_time() - began

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Worker, shutdown=8.0)]), runtime=runtime) as supervisor:
            supervisor.ref("Worker").send("x")
            await wait_all_tasks_blocked()
            began = trio.current_time()
    assert times == pytest.approx({"handler cancelled": 6.0, "terminate cancelled": 8.0})
    assert events.of(ChildExited)[0].reason == Killed()


async def test_terminate_runs_after_a_crash_and_is_bounded_by_the_shutdown_time():
    runtime = Runtime()
    with capture_events(runtime) as events:
        spec = child(Journal().actor("a", terminate=sleeps(math.inf)), id="a", shutdown=2.0, restart="temporary")
        async with open_supervisor(Supervisor([spec]), runtime=runtime) as supervisor:
            supervisor.ref("a").send(boom)
            began = trio.current_time()
            await trio.sleep(3)
    exited = events.of(ChildExited)[0]
    assert exited.at - began == pytest.approx(2.0)
    assert isinstance(exited.reason, Crashed)  # being cut short in its cleanup does not make it less of a crash
    assert isinstance(exited.reason.exception, Boom)


async def test_a_stop_shortens_a_cleanup_that_is_going_on():
    times = []

    async def terminate(_):
        try:
            await trio.sleep_forever()
        finally:
            times.append(trio.current_time())

    spec = child(Journal().actor("a", terminate=terminate), id="a", shutdown="infinity", restart="temporary")
    async with open_supervisor(Supervisor([])) as supervisor:
        ref = await supervisor.start_child(child(Journal().actor("a", terminate=terminate), id="a", shutdown=5.0))
        assert ref is not None
        ref.send(boom)
        await trio.sleep(3)
        began = trio.current_time()
    assert times == pytest.approx([began + 2.0])  # five seconds from the crash: less than five from the stop
    assert spec.shutdown == "infinity"


async def test_a_cleanup_within_a_cleanup_gets_no_longer_than_that_has():
    inner: list[float] = []

    async def terminate(actor):
        await trio.sleep(4)
        began = trio.current_time()
        with actor.context.cleanup():
            await trio.sleep_forever()
        inner.append(trio.current_time() - began)

    spec = child(Journal().actor("a", terminate=terminate), id="a", shutdown=5.0, restart="temporary")
    async with open_supervisor(Supervisor([spec])) as supervisor:
        supervisor.ref("a").send(boom)
        await trio.sleep(10)
    assert inner == pytest.approx([1.0])


async def test_a_stop_shortens_a_cleanup_also_after_one_within_it():
    async def terminate(actor):
        with actor.context.cleanup():
            await trio.sleep(2)
        await trio.sleep_forever()

    runtime = Runtime()
    spec = child(Journal().actor("a", terminate=terminate), id="a", shutdown=50.0)
    async with open_supervisor(Supervisor([spec]), runtime=runtime) as supervisor:
        supervisor.ref("a").send(boom)
        await wait_all_tasks_blocked()
        runtime.stop_by = began = trio.current_time() + 4
    assert trio.current_time() == pytest.approx(began)


async def test_brutal_runs_terminate_up_to_its_first_wait():
    steps = []

    async def terminate(_):
        steps.append("entered")
        await trio.lowlevel.checkpoint()
        steps.append("never")

    reasons = await reasons_of(child(Journal().actor("a", terminate=terminate), id="a", shutdown="brutal"))
    assert steps == ["entered"]
    assert reasons == {"a": Killed()}


async def test_a_plain_task_is_cancelled_at_once_and_that_is_no_force():
    async def with_cleanup():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

    async def done_anyway():
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise Stop("saved") from None

    reasons = await reasons_of(
        child(trio.sleep_forever, id="idle"),
        child(with_cleanup),
        child(lambda: stubborn(6), id="late"),
        child(trio.sleep_forever, id="brutal", shutdown="brutal"),
        child(done_anyway),
    )
    assert reasons == {
        "idle": Shutdown(),
        "with_cleanup": Shutdown(),
        "late": Killed(),
        "brutal": Killed(),
        "done_anyway": Shutdown("saved"),
    }


async def test_a_context_manager_is_left_within_its_time():
    log = []

    def manager(name, seconds):
        @asynccontextmanager
        async def managed():
            log.append(f"+{name}")
            try:
                yield
            finally:
                await trio.sleep(seconds)  # not shielded: the time is the child's, not the manager's, business
                log.append(f"-{name}")

        return managed

    reasons = await reasons_of(
        child(manager("quick", 1), id="quick"),
        child(manager("slow", 100), id="slow", shutdown=2.0),
        child(manager("patient", 100), id="patient", shutdown="infinity"),
    )
    assert log == ["+quick", "+slow", "+patient", "-patient", "-quick"]
    assert reasons == {"quick": Shutdown(), "slow": Killed(), "patient": Shutdown()}


async def test_what_goes_on_in_a_nursery_of_a_context_manager_ends_with_it():
    @asynccontextmanager
    async def server():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield
            nursery.cancel_scope.cancel()

    assert await reasons_of(child(server)) == {"server": Shutdown()}


async def test_a_crash_in_the_nursery_of_a_context_manager_is_its_crash():
    async def fail():
        await trio.sleep(1)
        raise Boom("background")

    @asynccontextmanager
    async def server():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield

    async def wait(_):
        await trio.sleep(2)

    reasons = await reasons_of(child(server, restart="temporary"), during=wait)
    assert isinstance(reasons["server"], Crashed)
    assert type(reasons["server"].exception) is Boom


async def test_a_behaviour_winds_down_by_itself_and_is_cancelled_when_its_time_is_over():
    class Winding(Behaviour):
        def __init__(self, seconds):
            self.seconds = seconds

        async def serve(self, context):
            context.started()
            await context.stopping.wait()
            assert context.stop_asked
            assert context.stop_deadline == trio.current_time() + 5.0
            await trio.sleep(self.seconds)

    reasons = await reasons_of(child(lambda: Winding(4), id="quick"), child(lambda: Winding(6), id="slow"))
    assert reasons == {"quick": Shutdown(), "slow": Killed()}


async def test_cleanup_of_a_behaviour_is_shielded_and_bounded():
    class Careful(Behaviour):
        async def serve(self, context):
            context.started()
            try:
                await trio.sleep_forever()
            finally:
                with context.cleanup() as scope:
                    assert scope.deadline == trio.current_time()  # nothing is left of the five seconds
                    await trio.lowlevel.checkpoint()

    assert await reasons_of(child(Careful)) == {"Careful": Killed()}


async def test_a_child_that_will_not_stop_is_reported_as_stuck_and_waited_for():
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with (
            no_task_left(),
            open_supervisor(
                Supervisor([child(Echo), child(lambda: stubborn(60), id="stubborn", shutdown=2.0)]), runtime=runtime
            ) as supervisor,
        ):
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.terminate_child, "stubborn")
                await trio.sleep(30)
                info = supervisor.which_children()[1]
                assert (info.status, info.stuck) == ("stopping", True)
                assert supervisor.statistics().children[1].stuck
                # Everything else goes on.
                assert await supervisor.ref("Echo").call("alive") == "alive"
            assert not supervisor.which_children()[1].stuck
    stuck = events.one(ChildStuck)
    assert stuck.path == "app/stubborn"
    assert stuck.waited == pytest.approx(7.0)
    assert [e.reason for e in events.of(ChildExited) if e.path == "app/stubborn"] == [Killed()]


async def test_a_stop_breaks_off_an_init_that_takes_long():
    class Slow(Echo):
        async def init(self):
            await trio.sleep(1000)

    began = trio.current_time()
    async with open_supervisor(Supervisor([])) as supervisor, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def start():
            with pytest.raises(Exception, match=r"failed to start|does not run"):
                await supervisor.start_child(child(Slow, init_timeout=math.inf))

        await wait_all_tasks_blocked()
        await supervisor.terminate_child("Slow")
    assert trio.current_time() == began


async def test_a_supervisor_that_is_still_starting_stops_in_order():
    journal = Journal()
    specs = [child(journal.actor(i), id=i) for i in "ab"]
    specs.append(child(journal.actor("slow", init=sleeps(1000)), id="slow", init_timeout=math.inf))
    with trio.move_on_after(1) as scope:
        async with no_task_left(), open_supervisor(Supervisor([child(Supervisor(specs), id="sub")])):
            raise AssertionError("it cannot have started")
    assert scope.cancelled_caught
    assert journal.take() == ["+a", "+b", "-b shutdown", "-a shutdown"]


async def test_a_factory_may_return_a_supervisor_which_stops_in_order_too():
    journal = Journal()

    def make():
        return Supervisor([child(journal.actor(i, terminate=sleeps(3)), id=i) for i in "ab"])

    async with no_task_left(), open_supervisor(Supervisor([child(make, shutdown="infinity")])) as supervisor:
        assert [info.id for info in supervisor.supervisor("make").which_children()] == ["a", "b"]
        journal.take()
    assert journal.take() == ["-b shutdown", "-a shutdown"]


async def test_a_shutdown_time_for_a_supervisor_may_cut_its_own_stop_short():
    slow = [child(lambda: stubborn(3), id=f"slow{i}", shutdown=10.0) for i in range(5)]
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with (
            no_task_left(),
            open_supervisor(Supervisor([child(Supervisor(slow), id="sub", shutdown=4.0)]), runtime=runtime),
        ):
            await wait_all_tasks_blocked()
            began = trio.current_time()
    reasons = [(e.path.rpartition("/")[2], e.reason) for e in events.of(ChildExited)]
    assert reasons[0] == ("slow4", Shutdown())
    assert reasons[-1] == ("sub", Killed())
    assert trio.current_time() - began == pytest.approx(7.0)


@pytest.mark.parametrize("fails", [False, True], ids=["cancelled", "also fails"])
async def test_a_child_with_a_nursery_in_a_supervisor_that_is_cut_short_does_not_end_the_program(fails):
    async def works_in_a_nursery():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                if fails:
                    raise Boom

    async with open_supervisor(
        Supervisor(
            [
                child(
                    Supervisor(
                        [
                            child(works_in_a_nursery),
                            child(Journal().actor("slow", terminate=sleeps(10)), id="slow", shutdown=60.0),
                        ]
                    ),
                    id="cut short",
                    shutdown=1.0,
                )
            ]
        )
    ) as supervisor:
        await supervisor.terminate_child("cut short")
        await trio.sleep(1)  # this block goes on


async def test_a_cancellation_that_belongs_to_another_task_is_a_crash_and_not_the_end_of_everything():
    caught = []

    async def catch():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                caught.append(cancelled)
                raise

    async def raises_what_it_was_told():
        raise caught[0]

    await catch()
    runtime = Runtime()
    with capture_events(runtime) as events:
        tree = Supervisor([child(Echo), child(raises_what_it_was_told, restart="temporary")])
        async with open_supervisor(tree, runtime=runtime) as supervisor:
            await wait_all_tasks_blocked()
            assert supervisor.ref("Echo").alive
            (exited,) = events.of(ChildExited)
    assert exited.reason == Crashed(caught[0])


async def test_a_hosted_child_with_a_nursery_is_cancelled_with_its_host():
    async def works_in_a_nursery():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    class Host(Behaviour):
        async def serve(self, context):
            context.started()
            await host(context, child(works_in_a_nursery))

    assert await reasons_of(child(Host, shutdown=1.0)) == {"Host/works_in_a_nursery": Killed(), "Host": Killed()}


async def test_of_a_guest_is_told_what_is_told_of_any_child_and_that_it_is_one(caplog):
    async def fails():
        await trio.lowlevel.checkpoint()
        raise Boom

    class Host(Behaviour):
        async def serve(self, context):
            context.started()
            with pytest.raises(Boom):
                await host(context, child(fails, id="guest"))
            await context.stopping.wait()

    runtime = Runtime()
    with capture_events(runtime) as events, caplog.at_level("INFO", "otp"):
        async with open_supervisor(Supervisor([child(Host)]), runtime=runtime):
            await wait_all_tasks_blocked()
    assert [(e.path, e.guest) for e in events.of(ChildStarted)] == [("app/Host", False), ("app/Host/guest", True)]
    first, last = events.of(ChildExited)
    assert (first.path, first.guest, str(first.reason)) == ("app/Host/guest", True, "crashed (Boom)")
    assert (last.path, last.guest) == ("app/Host", False)
    assert "guest" not in caplog.text  # its host tells


async def test_a_handler_with_a_nursery_that_is_cancelled_was_killed():
    told = []

    class Waits(Echo):
        async def handle_message(self, message):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)

        async def terminate(self, reason):
            told.append(reason)

    async def send(supervisor):
        supervisor.ref("Waits").send("go")
        await wait_all_tasks_blocked()

    assert await reasons_of(child(Waits), during=send) == {"Waits": Killed()}
    assert told == [Killed()]


async def test_all_instances_of_a_simple_supervisor_stop_at_once():
    simple = Supervisor([child(lambda _: stubborn(3), id="one")], strategy="simple_one_for_one")
    async with no_task_left(), open_supervisor(simple) as supervisor:
        for i in range(10):
            await supervisor.start_instance(i)
        await wait_all_tasks_blocked()
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(3.0)


@pytest.mark.parametrize("count", [0, 1, 200])
async def test_after_the_stop_no_task_remains(count):
    class WithHelper(Echo):
        async def init(self):
            self.nursery.start_soon(trio.sleep_forever)
            self.nursery.start_soon(stubborn)

    specs = [child(WithHelper if i % 3 else Echo, id=f"a{i}", shutdown="infinity") for i in range(count)]
    async with no_task_left(), open_supervisor(Supervisor(specs)) as supervisor:
        for info in supervisor.which_children():
            assert info.ref is not None
            if count < 10 or int(info.id[1:]) % 10 == 0:
                assert await info.ref.call("x") == "x"


async def test_children_that_end_by_themselves_during_the_stop_keep_their_own_reason():
    # Row 21 in test_supervisor_rows has the whole table; this is the tightest race: in the same tick.
    gate = trio.Event()

    async def ends():
        await gate.wait()

    async def crashes():
        await gate.wait()
        raise Boom

    async def during(_):
        await wait_all_tasks_blocked()
        gate.set()

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with (
            no_task_left(),
            open_supervisor(Supervisor([child(ends), child(crashes)], intensity=0), runtime=runtime),
        ):
            await wait_all_tasks_blocked()
            gate.set()
    reasons = {e.path: e.reason for e in events.of(ChildExited)}
    assert reasons["app/ends"] in (Normal(), Shutdown())
    assert isinstance(reasons["app/crashes"], Crashed | Shutdown)
