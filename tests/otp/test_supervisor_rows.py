"""OTP's own supervisor tests with real children under the shell, in virtual time.

The number in a name is the row of OTP's supervisor_SUITE in the project's inventory; the rest is its case. The same
rows at the level of the decisions are in test_strategy_rows.py; here are those in which tasks, time or names matter.
"""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildCount,
    ChildExited,
    ChildIgnored,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
    Crashed,
    FailedToStart,
    GaveUp,
    Ignore,
    Killed,
    NameTaken,
    Normal,
    NotAlive,
    Runtime,
    Shutdown,
    Stop,
    Supervisor,
    SupervisorDecided,
    SupervisorStopped,
    WrongStrategy,
    child,
    open_supervisor,
    whereis,
)
from otp._protocol import TerminateChild
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo, Journal, boom, shell_of
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def statuses(supervisor):
    return {info.id: info.status for info in supervisor.which_children()}


def refs(supervisor):
    return {info.id: info.ref for info in supervisor.which_children()}


def flexible(*, ignore=(), crash=()):
    """A child whose nth start (from 1) is left out or fails."""
    starts = 0

    class Flexible(Echo):
        async def init(self):
            nonlocal starts
            starts += 1
            if starts in ignore:
                raise Ignore
            if starts in crash:
                raise Boom(f"start {starts}")

    return Flexible


def ignores():
    raise Ignore


async def test_row_001_sup_start_normal():
    async with no_task_left(), open_supervisor(Supervisor([])) as supervisor:
        assert supervisor.which_children() == []
        assert supervisor.alive
    assert not supervisor.alive


async def test_row_002_sup_start_ignore_init():
    # A supervisor as a value has no init; one that is made by a function may say there that it is not needed.
    def needed_not():
        raise Ignore

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with (
            no_task_left(),
            open_supervisor(Supervisor([child(needed_not, id="sub"), child(Echo)]), runtime=runtime) as supervisor,
        ):
            assert statuses(supervisor) == {"sub": "stopped", "Echo": "running"}
            assert await supervisor.restart_child("sub") is None
            with pytest.raises(NotAlive):
                supervisor.supervisor("sub")
    assert {e.path for e in events.of(ChildExited)} == {"app/Echo"}
    assert [e.path for e in events.of(ChildIgnored)] == ["app/sub"] * 2


async def test_row_003_sup_start_ignore_child():
    async with open_supervisor(Supervisor([child(ignores), child(Echo)])) as supervisor:
        assert statuses(supervisor) == {"ignores": "stopped", "Echo": "running"}
        assert supervisor.count_children() == ChildCount(specs=2, active=1, supervisors=0, workers=2)


async def test_rows_004_005_sup_start_ignore_temporary_child():
    temporary = child(ignores, restart="temporary")
    async with open_supervisor(Supervisor([temporary, child(Echo)])) as supervisor:
        assert statuses(supervisor) == {"Echo": "running"}
        assert await supervisor.start_child(temporary) is None
        assert statuses(supervisor) == {"Echo": "running"}
        assert await supervisor.start_child(child(ignores)) is None
        assert statuses(supervisor) == {"Echo": "running", "ignores": "stopped"}


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
async def test_rows_006_007_sup_start_ignore_child_start_child_simple(restart):
    template = child(flexible(ignore=[1, 3]), id="t", restart=restart)
    async with no_task_left(), open_supervisor(Supervisor([template], strategy="simple_one_for_one")) as supervisor:
        assert await supervisor.start_instance() is None
        started = await supervisor.start_instance()
        assert await supervisor.start_instance() is None
        assert [info.ref for info in supervisor.which_children()] == [started]


@pytest.mark.parametrize("garbage", [42, None, [1], Supervisor])
async def test_row_008_sup_start_error_return(garbage):
    """Adapted: what a function returns that is to make a supervisor, or what is given for one, is none."""
    async with no_task_left():
        with pytest.raises(FailedToStart, match=r"the start of child 'app/sub' returned .*; allowed are a cor"):
            async with open_supervisor(Supervisor([child(Echo), child(lambda: garbage, id="sub")])):
                raise AssertionError("not reached")
        with pytest.raises(TypeError, match="supervisor must be a Supervisor, not"):
            async with open_supervisor(garbage):
                raise AssertionError("not reached")


async def test_row_009_sup_start_fail():
    journal = Journal()
    specs = [child(journal.actor(i), id=i) for i in "ab"]
    specs += [child(flexible(crash=[1]), id="bad"), child(journal.actor("never"), id="never")]
    async with no_task_left():
        with pytest.raises(
            FailedToStart, match=r"app: child 'bad' failed to start: crashed \(Boom: start 1\)"
        ) as failed:
            async with open_supervisor(Supervisor(specs)):
                raise AssertionError("not reached")
    assert isinstance(failed.value.__cause__, Boom)
    assert journal.take() == ["+a", "+b", "-b shutdown", "-a shutdown"]


async def test_row_010_sup_start_child_returns_error():
    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        with pytest.raises(FailedToStart) as failed:
            await supervisor.start_child(child(flexible(crash=[1]), id="bad"))
        assert isinstance(failed.value.__cause__, Boom)
        with pytest.raises(
            FailedToStart, match="TypeError: the start of child 'app/odd' returned 42; allowed are a cor"
        ):
            await supervisor.start_child(child(lambda: 42, id="odd"))
        assert statuses(supervisor) == {"Echo": "running"}


async def test_row_011_sup_start_restart_child_returns_error():
    async with open_supervisor(Supervisor([child(flexible(crash=[2]), id="a")])) as supervisor:
        await supervisor.terminate_child("a")
        with pytest.raises(FailedToStart):
            await supervisor.restart_child("a")
        assert statuses(supervisor) == {"a": "stopped"}
        restarted = await supervisor.restart_child("a")
        assert restarted is not None
        assert await restarted.call("alive") == "alive"


async def test_row_012_sup_start_child_returns_error_simple():
    template = child(flexible(crash=[1]), id="t")
    async with open_supervisor(Supervisor([template], strategy="simple_one_for_one")) as supervisor:
        with pytest.raises(FailedToStart):
            await supervisor.start_instance()
        assert supervisor.which_children() == []


async def test_row_013_sup_start_map():
    sub = Supervisor([])
    async with open_supervisor(Supervisor([child(Echo), child(sub, id="sub")])) as supervisor:
        spec = supervisor.get_childspec("Echo")
        assert (spec.restart, spec.shutdown) == ("permanent", 5.0)
        assert supervisor.get_childspec("sub").shutdown == "infinity"
        with pytest.raises(ChildNotFound, match="app: child 'nobody' is not known"):
            supervisor.get_childspec("nobody")


async def test_row_014_sup_start_map_simple():
    template = child(lambda host, port: Echo(), id="t", restart="transient", shutdown=7.0)
    async with open_supervisor(Supervisor([template], strategy="simple_one_for_one")) as supervisor:
        ref = await supervisor.start_instance("host", 5432)
        assert ref is not None
        spec = supervisor.get_childspec(ref.id)
        assert (spec.id, spec.restart, spec.shutdown) == ("t:1", "transient", 7.0)
        for stranger in ("t", "t:2", "stranger"):
            with pytest.raises(ChildNotFound):
                supervisor.get_childspec(stranger)


# -- sup_stop


async def endings(*specs, strategy="one_for_one", instances=0):
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with no_task_left(), open_supervisor(Supervisor(specs, strategy=strategy), runtime=runtime) as supervisor:
            for _ in range(instances):
                await supervisor.start_instance()
            await wait_all_tasks_blocked()
            began = trio.current_time()
    return {e.path.removeprefix("app/"): e.reason for e in events.of(ChildExited)}, trio.current_time() - began


async def deaf():
    with trio.CancelScope(shield=True):
        await trio.sleep(20)


async def test_row_016_sup_stop_infinity():
    class Slow(Echo):
        async def terminate(self, reason):
            await trio.sleep(3600)

    reasons, took = await endings(
        child(Slow, id="worker", shutdown="infinity"), child(Supervisor([child(Slow, shutdown="infinity")]), id="sup")
    )
    assert reasons == {"worker": Shutdown(), "sup": Shutdown(), "sup/Slow": Shutdown()}
    assert took == pytest.approx(7200)


async def test_row_017_sup_stop_timeout():
    reasons, took = await endings(child(Echo), child(deaf, shutdown=1.0))
    assert reasons == {"Echo": Shutdown(), "deaf": Killed()}
    assert took == pytest.approx(20)  # nothing can be killed: it is said to be stuck, and waited for


async def test_row_018_sup_stop_timeout_dynamic():
    reasons, took = await endings(child(deaf, shutdown=1.0), strategy="simple_one_for_one", instances=5)
    assert list(reasons.values()) == [Killed()] * 5
    assert took == pytest.approx(20)


async def test_row_019_sup_stop_brutal_kill():
    reasons, took = await endings(child(Echo, id="a"), child(Echo, id="b", shutdown="brutal"))
    assert reasons == {"a": Shutdown(), "b": Killed()}
    assert took == 0


async def test_row_020_sup_stop_brutal_kill_dynamic():
    reasons, _ = await endings(child(Echo, shutdown="brutal"), strategy="simple_one_for_one", instances=10)
    assert list(reasons.values()) == [Killed()] * 10


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_row_021_sup_stop_race(restart):
    # While the last child takes its time to stop, the others end by themselves, in every way there is.
    ways: dict[str, tuple[Exception | None, object]] = {
        "normal": (None, Normal()),
        "shutdown": (Stop("x"), Shutdown("x")),
        "other": (Boom(), None),
        "none": (None, Shutdown()),
    }
    gate, never = trio.Event(), trio.Event()

    def ends(name):
        async def task():
            await (never if name == "none" else gate).wait()
            error, _ = ways[name]
            if error is not None:
                raise error

        return task

    class Last(Echo):
        async def terminate(self, reason):
            gate.set()
            await trio.sleep(1)

    reasons, took = await endings(
        *[child(ends(name), id=name, restart=restart) for name in ways], child(Last), strategy="one_for_one"
    )
    assert took == pytest.approx(1)
    for name, (error, reason) in ways.items():
        if reason is None:
            assert isinstance(reasons[name], Crashed)
            assert reasons[name].exception is error
        else:
            assert reasons[name] == reason
    assert len(reasons) == 5  # none of them was restarted


async def test_row_022_sup_stop_non_shutdown_exit_dynamic():
    class Odd(Echo):
        async def terminate(self, reason):
            raise Boom

    simple = Supervisor([child(Odd)], strategy="simple_one_for_one")
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with no_task_left(), open_supervisor(Supervisor([child(simple, id="sub")]), runtime=runtime) as root:
            for _ in range(5):
                await root.supervisor("sub").start_instance()
    exits = events.of(ChildExited)
    assert [type(e.reason) for e in exits] == [Crashed] * 5 + [Shutdown]
    assert exits[-1].path == "app/sub"


# -- administration


async def test_row_023_child_adm():
    async with open_supervisor(Supervisor([child(Echo, id="a")])) as supervisor:
        first = supervisor.ref("a")
        with pytest.raises(AlreadyStarted):
            await supervisor.start_child(child(Echo, id="a"))
        with pytest.raises(ChildRunning):
            await supervisor.restart_child("a")
        with pytest.raises(ChildRunning):
            await supervisor.delete_child("a")
        await supervisor.terminate_child("a")
        assert not first.alive
        await supervisor.terminate_child("a")  # again: no error
        with pytest.raises(NotAlive, match="app/a is not alive"):
            supervisor.ref("a")
        with pytest.raises(AlreadyPresent):
            await supervisor.start_child(child(Echo, id="a"))
        second = await supervisor.restart_child("a")
        assert second is supervisor.ref("a")
        assert second is not first
        await supervisor.terminate_child("a")
        await supervisor.delete_child("a")
        for request in (supervisor.terminate_child, supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildNotFound):
                await request("a")
        with pytest.raises(ChildNotFound):
            supervisor.ref("a")
        third = await supervisor.start_child(child(Echo, id="a"))
        assert third is supervisor.ref("a")
        with pytest.raises(WrongStrategy):
            await supervisor.start_instance()
        with pytest.raises(TypeError, match="a is not a supervisor"):
            supervisor.supervisor("a")
    for request in (supervisor.terminate_child, supervisor.restart_child, supervisor.delete_child):
        with pytest.raises(SupervisorStopped, match="app does not run"):
            await request("a")


async def test_row_024_child_adm_simple():
    class Worker(Echo):
        def __init__(self, number):
            self.number = number

    simple = Supervisor([child(Worker)], strategy="simple_one_for_one")
    async with open_supervisor(simple) as supervisor:
        one = await supervisor.start_instance(1)
        two = await supervisor.start_instance(2)
        assert one is not None
        assert two is not None
        assert await two.call(lambda worker: worker.number) == 2
        two.send(boom)
        await wait_all_tasks_blocked()
        again = supervisor.ref(two.id)
        assert again is not two
        assert await again.call(lambda worker: worker.number) == 2  # with the same arguments
        await supervisor.terminate_child(one.id)
        await supervisor.terminate_child(one.id)
        with pytest.raises(ChildNotFound):
            await supervisor.terminate_child("stranger")
        with pytest.raises(TypeError, match="start cannot be called"):
            await supervisor.start_instance(1, 2, 3)
        with pytest.raises(WrongStrategy):
            await supervisor.start_child(child(Echo))
        assert supervisor.count_children() == ChildCount(specs=1, active=1, supervisors=0, workers=1)


async def test_row_029_multiple_restarts():
    async with open_supervisor(Supervisor([child(Echo)], intensity=1, period=1.0)) as supervisor:
        for _ in range(10):
            supervisor.ref("Echo").send(boom)
            await trio.sleep(2.1)
        assert supervisor.statistics().restarts == 0


# -- strategies, with real children


async def crash(supervisor, id_):
    supervisor.ref(id_).send(boom)
    await wait_all_tasks_blocked()


async def test_row_030_one_for_one():
    async with no_task_left():
        with pytest.raises(GaveUp, match="needed more than 2 restarts in 3600 s") as gave_up:  # noqa: PT012
            spec = Supervisor([child(Echo, id=i) for i in "abc"], intensity=2, period=3600)
            async with open_supervisor(spec) as supervisor:
                for _ in range(2):
                    before = refs(supervisor)
                    await crash(supervisor, "b")
                    after = refs(supervisor)
                    assert after["b"] is not before["b"]
                    assert (after["a"], after["c"]) == (before["a"], before["c"])
                await crash(supervisor, "b")
                raise AssertionError("not reached")
    assert isinstance(gave_up.value.__cause__, Boom)
    assert (gave_up.value.supervisor, gave_up.value.child) == ("app", "b")


@pytest.mark.parametrize(
    ("strategy", "row"), [("one_for_all", "32"), ("rest_for_one", "41"), ("one_for_one", "30")], ids=str
)
async def test_rows_032_041_groups_are_replaced_in_order(strategy, row):
    journal = Journal()
    spec = Supervisor([child(journal.actor(i), id=i) for i in "abcd"], strategy=strategy)
    async with open_supervisor(spec) as supervisor:
        before = refs(supervisor)
        journal.take()
        await crash(supervisor, "b")
        dead = {"one_for_all": "abcd", "rest_for_one": "bcd", "one_for_one": "b"}[strategy]
        crashed = "-b crashed (Boom)"
        stopped = [f"-{i} shutdown" for i in reversed(dead) if i != "b"]
        assert journal.take() == [crashed, *stopped, *[f"+{i}" for i in dead]]
        after = refs(supervisor)
        assert [i for i in "abcd" if after[i] is not before[i]] == list(dead)
        assert not any(before[i].alive for i in dead)
        assert supervisor.statistics().restarts == 1  # one for the whole group


async def test_row_034_one_for_all_other_child_fails_restart():
    journal = Journal()
    starts = 0

    async def init(_):
        nonlocal starts
        starts += 1
        if starts == 2:
            raise Boom

    specs = [child(journal.actor("a"), id="a"), child(journal.actor("b", init=init), id="b")]
    async with open_supervisor(Supervisor(specs, strategy="one_for_all")) as supervisor:
        journal.take()
        await crash(supervisor, "a")
        assert journal.take() == ["-a crashed (Boom)", "-b shutdown", "+a", "-a shutdown", "+a", "+b"]


async def test_row_036_simple_one_for_one_shutdown():
    async def slow():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    _, took = await endings(child(slow), strategy="simple_one_for_one", instances=20)
    assert took == pytest.approx(2)


async def test_row_040_simple_one_for_one_restart_ignore():
    template = child(flexible(ignore=[2]), id="t", restart="transient")
    async with open_supervisor(Supervisor([template], strategy="simple_one_for_one")) as supervisor:
        ref = await supervisor.start_instance()
        assert ref is not None
        await crash(supervisor, ref.id)
        assert supervisor.which_children() == []


# -- termination classes


@pytest.mark.parametrize(
    ("row", "restart", "end", "then"),
    [
        (45, "permanent", lambda a: a.stop(), "running"),
        (46, "transient", lambda a: a.stop(), "stopped"),
        (47, "temporary", lambda a: a.stop(), None),
        (48, "permanent", lambda a: a.stop(Shutdown("x")), "running"),
        (49, "transient", lambda a: a.stop(Shutdown("x")), "stopped"),
        (50, "temporary", lambda a: a.stop(Shutdown()), None),
        (52, "permanent", boom, "running"),
        (53, "transient", boom, "running"),
        (53, "transient", lambda a: a.stop(Killed()), "running"),
        (54, "temporary", boom, None),
    ],
)
async def test_rows_045_to_054_termination_classes(row, restart, end, then):
    async with open_supervisor(Supervisor([child(Echo, id="a", name="a", restart=restart)])) as supervisor:
        before = supervisor.ref("a")
        before.send(end)
        await wait_all_tasks_blocked()
        assert not before.alive
        assert statuses(supervisor).get("a") == then
        assert (whereis("a") is not None) == (then == "running")


async def test_row_051_faulty_application_shutdown():
    inner = Supervisor([child(Echo, id="fine"), child(flexible(crash=[1]), id="faulty")])
    outer = Supervisor([child(Echo, id="first"), child(inner, id="inner")])
    with pytest.raises(FailedToStart) as failed:
        async with open_supervisor(outer):
            raise AssertionError("not reached")
    assert failed.value.chain == ("inner", "faulty")
    assert str(failed.value) == "app: child 'inner' > 'faulty' failed to start: crashed (Boom: start 1)"
    cause = failed.value.__cause__
    assert isinstance(cause, FailedToStart)
    assert cause.supervisor == "app/inner"
    assert isinstance(cause.__cause__, Boom)


async def test_row_055_child_unlink():
    # A child cannot leave its nursery; the nearest thing is one that ignores its cancellation for a long time.
    async with open_supervisor(Supervisor([child(deaf, shutdown=1.0), child(Echo)])) as supervisor:
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "deaf")
            await trio.sleep(10)
            assert [(each.id, each.status, each.stuck) for each in supervisor.which_children()] == [
                ("deaf", "stopping", True),
                ("Echo", "running", False),
            ]
            assert await supervisor.start_child(child(Echo, id="added")) is not None
            await crash(supervisor, "Echo")
            await supervisor.terminate_child("added")
            await supervisor.delete_child("added")
            with pytest.raises(ChildRunning):
                await supervisor.restart_child("deaf")
            assert trio.current_time() == 10
        assert trio.current_time() == 20
        assert statuses(supervisor) == {"deaf": "stopped", "Echo": "running"}


async def test_row_056_tree():
    leaf = [child(Echo, id=i) for i in "12"]
    middle = Supervisor(leaf, intensity=1, period=3600)
    root = Supervisor([child(middle, id="a"), child(middle, id="b")], intensity=1, period=3600)
    async with no_task_left():
        with pytest.raises(GaveUp) as gave_up:  # noqa: PT012
            async with open_supervisor(root) as supervisor:
                assert supervisor.count_children() == ChildCount(specs=2, active=2, supervisors=2, workers=0)
                b = supervisor.supervisor("b")
                a = supervisor.supervisor("a")
                await a.start_child(child(Echo, id="dynamic"))
                await a.terminate_child("2")
                await a.delete_child("2")
                assert a.count_children().specs == 2
                await crash(a, "1")
                assert supervisor.supervisor("a") is a  # a local restart
                await crash(a, "1")
                # It gave up and was restarted from its spec: what was added is gone, what was deleted is back.
                again = supervisor.supervisor("a")
                assert again is not a
                assert not a.alive
                assert list(refs(again)) == ["1", "2"]
                assert supervisor.supervisor("b") is b
                with pytest.raises(SupervisorStopped):
                    await a.start_child(child(Echo, id="late"))
                for _ in range(2):
                    await crash(supervisor.supervisor("a"), "2")
                raise AssertionError("not reached")
    assert gave_up.value.supervisor == "app"
    inner = gave_up.value.__cause__
    assert isinstance(inner, GaveUp)  # the whole chain of causes
    assert (inner.supervisor, inner.child) == ("app/a", "2")
    assert isinstance(inner.__cause__, Boom)


async def test_row_073_count_restarting_children():
    backoff = Backoff(initial=10.0, jitter=0.0)
    spec = Supervisor([child(Echo, id=f"{i}", backoff=backoff) for i in range(5)], intensity=10)
    async with open_supervisor(spec) as supervisor:
        for id_ in "012":
            await crash(supervisor, id_)
        assert supervisor.count_children().active == 2
        assert statuses(supervisor)["0"] == "restarting"
        await supervisor.terminate_child("0")
        await trio.sleep(11)
        assert supervisor.count_children().active == 4
        assert statuses(supervisor)["0"] == "stopped"  # the termination during the backoff stands


async def test_row_076_do_not_save_child_specs_for_temporary_children():
    spec = child(Echo, id="t", restart="temporary")
    async with open_supervisor(Supervisor([])) as supervisor:
        for end in (boom, lambda a: a.stop(), lambda a: a.stop(Killed())):
            ref = await supervisor.start_child(spec)
            assert ref is not None
            with pytest.raises(AlreadyStarted):
                await supervisor.start_child(spec)
            ref.send(end)
            await wait_all_tasks_blocked()
        await supervisor.start_child(spec)
        await supervisor.terminate_child("t")
        await supervisor.start_child(spec)


@pytest.mark.parametrize(("row", "strategy"), [(80, "one_for_one"), (81, "rest_for_one")])
async def test_rows_080_081_hanging_restart_loop(row, strategy):
    starts = 0

    class Broken(Echo):
        async def init(self):
            nonlocal starts
            starts += 1
            if starts > 1:
                await trio.sleep(0.1)
                raise Boom

    specs = [child(Echo, id="early"), child(Broken, id="broken"), child(Echo, id="later")]
    spec = Supervisor(specs, strategy=strategy, intensity=1_000_000)
    async with no_task_left(), open_supervisor(spec, log=False) as supervisor:
        early, later = supervisor.ref("early"), supervisor.ref("later")
        supervisor.ref("broken").send(boom)
        await trio.sleep(10)
        assert starts > 50
        # It fails in a loop, and is there for everybody all the same.
        assert statuses(supervisor)["broken"] in ("restarting", "starting")
        with pytest.raises((AlreadyPresent, AlreadyStarted)):
            await supervisor.start_child(child(Echo, id="broken"))
        with pytest.raises((ChildRestarting, ChildRunning)):
            await supervisor.restart_child("broken")
        assert supervisor.ref("early") is early
        assert later.alive == (strategy == "one_for_one")
        added = await supervisor.start_child(child(Echo, id="added"))
        assert added is not None
        await supervisor.terminate_child("broken")
        tried = starts
        await trio.sleep(10)
        assert starts == tried
        assert statuses(supervisor)["broken"] == "stopped"


async def test_row_080_who_is_waiting_is_served_before_the_next_try():
    starts = 0

    class Broken(Echo):
        async def init(self):
            nonlocal starts
            starts += 1
            if starts > 1:
                raise Boom

    runtime = Runtime()
    async with open_supervisor(Supervisor([child(Broken, id="a")], intensity=100), runtime=runtime) as supervisor:
        # Asked before the supervisor hears that its first try has failed.
        task = shell_of(supervisor)
        runtime.events.subscribe(lambda _: task._post(TerminateChild("a")), ChildStartFailed)
        supervisor.ref("a").send(boom)
        await wait_all_tasks_blocked()
        assert statuses(supervisor) == {"a": "stopped"}
        assert supervisor.statistics().restarts == 1
    assert starts == 2


async def test_row_080_a_failing_restart_loop_can_be_stopped():
    with trio.fail_after(100):
        async with (
            no_task_left(),
            open_supervisor(
                Supervisor([child(flexible(crash=range(2, 10**9)), id="a")], intensity=10**9), log=False
            ) as supervisor,
        ):
            supervisor.ref("a").send(boom)
            for _ in range(1000):
                await trio.lowlevel.checkpoint()
            assert len(supervisor.statistics().decisions) == 50


async def test_row_082_hanging_restart_loop_simple():
    simple = Supervisor(
        [child(flexible(crash=range(2, 10**9)), id="t")], strategy="simple_one_for_one", intensity=10**9
    )
    async with no_task_left(), open_supervisor(simple, log=False) as supervisor:
        ref = await supervisor.start_instance()
        assert ref is not None
        ref.send(boom)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert statuses(supervisor)[ref.id] in ("restarting", "starting")
        await supervisor.terminate_child(ref.id)
        assert supervisor.which_children() == []


async def test_row_087_order_of_children():
    journal = Journal()
    order = [f"c{i}" for i in range(30)]
    spec = Supervisor([child(journal.actor(i), id=i) for i in order], strategy="one_for_all")
    async with open_supervisor(spec) as supervisor:
        assert journal.take() == [f"+{i}" for i in order]
        await crash(supervisor, "c7")
        rest = [i for i in reversed(order) if i != "c7"]
        assert journal.take() == ["-c7 crashed (Boom)", *[f"-{i} shutdown" for i in rest], *[f"+{i}" for i in order]]
    assert journal.take() == [f"-{i} shutdown" for i in reversed(order)]


async def test_row_091_already_started_outside_supervisor():
    strangers = Supervisor([child(Echo, id="stranger", name="the name")])
    async with open_supervisor(Supervisor([child(strangers, id="strangers")])) as supervisor:
        with pytest.raises(FailedToStart) as failed:
            await supervisor.start_child(child(Echo, id="mine", name="the name"))
        taken = failed.value.__cause__
        assert isinstance(taken, NameTaken)
        assert (taken.name, taken.holder) == ("the name", "app/strangers/stranger")
        assert whereis("the name") is supervisor.supervisor("strangers").ref("stranger")


async def test_row_092_which_children():
    async with open_supervisor(Supervisor([])) as supervisor:
        assert supervisor.which_children() == []

        def look():
            (info,) = supervisor.which_children()
            assert supervisor.which_child("a") == info
            return info.status, info.ref, info.reason

        spec = child(Echo, id="a", backoff=Backoff(initial=1.0))
        ref = await supervisor.start_child(spec)
        assert look() == ("running", ref, None)
        info = supervisor.which_child("a")
        assert (info.id, info.spec, info.stuck) == ("a", spec, False)
        await crash(supervisor, "a")
        assert look()[:2] == ("restarting", None)
        await supervisor.terminate_child("a")
        assert look() == ("stopped", None, Shutdown())
        again = await supervisor.restart_child("a")
        assert look() == ("running", again, None)
        await supervisor.terminate_child("a")
        await supervisor.delete_child("a")
        assert supervisor.which_children() == []
        with pytest.raises(ChildNotFound, match="app: child 'a' is not known"):
            supervisor.which_child("a")


async def test_row_093_which_children_simple_one_for_one():
    async with open_supervisor(Supervisor([child(Echo, id="t")], strategy="simple_one_for_one")) as supervisor:
        ref = await supervisor.start_instance()
        assert ref is not None
        assert [supervisor.which_child("t:1")] == supervisor.which_children()
        assert supervisor.which_child("t:1").ref is ref
        await supervisor.terminate_child("t:1")
        for id_ in ("t:1", "t"):
            with pytest.raises(ChildNotFound):
                supervisor.which_child(id_)


# -- beyond the rows: what only the shell can get wrong


async def test_queries_and_requests_are_served_while_a_child_is_slow_to_start():
    class Slow(Echo):
        async def init(self):
            await trio.sleep(1000)

    async with open_supervisor(Supervisor([child(Echo)])) as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, child(Slow, init_timeout=math.inf))
        await wait_all_tasks_blocked()
        began = trio.current_time()
        assert statuses(supervisor) == {"Echo": "running", "Slow": "starting"}
        await supervisor.terminate_child("Echo")
        assert trio.current_time() == began
    assert trio.current_time() >= began + 1000


async def test_init_timeout_is_a_failed_start_that_names_it():
    class Slow(Echo):
        async def init(self):
            await trio.sleep(1000)

    async with no_task_left():
        with pytest.raises(FailedToStart, match="app/Slow did not start within its init_timeout of 2 s"):
            async with open_supervisor(Supervisor([child(Slow, init_timeout=2.0)])):
                raise AssertionError("not reached")
        assert trio.current_time() >= 2.0


async def test_init_timeout_does_not_apply_after_init():
    async with open_supervisor(Supervisor([child(Echo, init_timeout=2.0)])) as supervisor:
        ref = supervisor.ref("Echo")
        await trio.sleep(10)
        assert ref.alive


async def test_backoff_waits_between_restarts():
    starts = []

    class Flaky(Echo):
        async def init(self):
            starts.append(trio.current_time())

        async def handle_message(self, message):
            raise Boom

    backoff = Backoff(initial=1.0, factor=2.0, cap=5.0, jitter=0.0)
    async with open_supervisor(Supervisor([child(Flaky, backoff=backoff)], intensity=100)) as supervisor:
        for _ in range(5):
            supervisor.ref("Flaky").send("x")
            await trio.sleep(6)
    # A crash every six seconds: the waits are 1, 2, 4, 5, 5 seconds after it.
    assert [start - starts[0] for start in starts[1:]] == pytest.approx([1, 8, 16, 23, 29])


async def test_a_request_is_served_although_its_caller_was_cancelled():
    class Slow(Echo):
        async def init(self):
            await trio.sleep(10)

    async with open_supervisor(Supervisor([])) as supervisor:
        with trio.move_on_after(1):
            await supervisor.start_child(child(Slow))
        await trio.sleep(10)
        assert statuses(supervisor) == {"Slow": "running"}


async def test_requests_that_wait_are_refused_when_the_supervisor_ends():
    class Slow(Echo):
        async def init(self):
            await trio.sleep_forever()

    refused = []
    async with trio.open_nursery() as nursery:  # noqa: SIM117  (it ends after the tree)
        async with open_supervisor(Supervisor([])) as supervisor:

            async def ask():
                with pytest.raises((SupervisorStopped, FailedToStart)):
                    await supervisor.start_child(child(Slow, init_timeout=math.inf))
                refused.append(True)

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
    assert refused == [True]


async def test_a_child_can_start_its_siblings():
    async def start_sibling(actor):
        ref = await actor.context.supervisor.start_child(child(Echo, id="sibling"))
        return ref.path

    async with open_supervisor(Supervisor([child(Echo, id="first")])) as supervisor:
        assert await supervisor.ref("first").call(start_sibling) == "app/sibling"


async def test_start_child_returns_the_ref_also_of_a_child_that_ends_at_once():
    async def at_once():
        pass

    async with open_supervisor(Supervisor([])) as supervisor:
        ref = await supervisor.start_child(child(at_once, restart="temporary"))
        assert ref is not None
        assert not ref.alive


async def test_a_child_that_asks_for_its_own_end_gets_it_when_its_time_is_over():
    async def end_me(actor):
        await actor.context.supervisor.terminate_child("suicidal")

    async with open_supervisor(Supervisor([child(Echo, id="suicidal")])) as supervisor:
        supervisor.ref("suicidal").send(end_me)
        await trio.sleep(5)
        assert statuses(supervisor) == {"suicidal": "stopped"}


async def test_decisions_are_events_with_the_use_of_the_window():
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo, id="a")]), runtime=runtime) as supervisor:
            await crash(supervisor, "a")
            await crash(supervisor, "a")
    decisions = [(e.path, e.decision.child, e.decision.verdict, e.decision.used) for e in events.of(SupervisorDecided)]
    assert decisions == [("app", "a", "restart", 1), ("app", "a", "restart", 2)]
