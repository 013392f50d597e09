"""OTP's tests of significant children and automatic shutdown (EEP 56), with real children in virtual time.

The number in a name is the row of OTP's supervisor_SUITE in the project's inventory; the rest is its case. `kill` is
an actor that ends with `Killed`, since nothing can be killed from outside.
"""

from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import ChildExited, Killed, Runtime, Shutdown, Stop, Supervisor, SupervisorDecided, child, open_supervisor
from otp._protocol import RestartChild, Stopped
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Echo, boom
from tests.otp.simulator import Simulation, a_child
from tests.otp.virtual import virtual_time

pytestmark = virtual_time

MODES = ["never", "any_significant", "all_significant"]
WAYS = {"kill": lambda a: a.stop(Killed()), "abnormal": boom, "normal": lambda a: a.stop()}


def actor(id_, restart="permanent", *, significant=False):
    return child(Echo, id=id_, restart=restart, significant=significant)


async def end(supervisor, id_, way):
    """Let the child end in that way, or have it terminated; wait until all that follows has happened."""
    if way == "terminate_child":
        await supervisor.terminate_child(id_)
    else:
        supervisor.ref(id_).send(WAYS[way])
    await wait_all_tasks_blocked()


def statuses(supervisor):
    return {info.id: info.status for info in supervisor.which_children()}


@asynccontextmanager
async def running(spec):
    """Below a root that stays: when a root ends, its block is cancelled, and what it has yet to assert with it."""
    async with open_supervisor(Supervisor([child(spec, id="sub", restart="temporary")])) as root:
        yield root.supervisor("sub")


@pytest.mark.parametrize("way", ["terminate_child", *WAYS])
@pytest.mark.parametrize("mode", MODES)
async def test_row_057_nonsignificant_temporary(mode, way):
    async with running(Supervisor([actor("t", "temporary"), actor("p")], auto_shutdown=mode)) as supervisor:
        await end(supervisor, "t", way)
        assert statuses(supervisor) == {"p": "running"}


@pytest.mark.parametrize("way", ["terminate_child", *WAYS])
@pytest.mark.parametrize("mode", MODES)
async def test_row_058_nonsignificant_transient(mode, way):
    async with running(Supervisor([actor("t", "transient"), actor("p")], auto_shutdown=mode)) as supervisor:
        await end(supervisor, "t", way)
        restarted = way in ("kill", "abnormal")
        assert statuses(supervisor) == {"t": "running" if restarted else "stopped", "p": "running"}


async def ends_by_itself(specs, steps, **flags):
    """Whether the supervisor has ended after all of `steps`, and not before the last; and with what."""
    runtime = Runtime()
    alive = []
    with capture_events(runtime) as events:
        async with (
            no_task_left(),
            open_supervisor(
                Supervisor([child(Supervisor(specs, **flags), id="sub", restart="temporary")]), runtime=runtime
            ) as root,
        ):
            supervisor = root.supervisor("sub")
            for step in steps:
                alive.append(supervisor.alive)
                await end(supervisor, *step)
            alive.append(supervisor.alive)
    assert all(alive[:-1]), "it has ended too early"
    (reason,) = [e.reason for e in events.of(ChildExited) if e.path == "app/sub"]
    if not alive[-1]:
        assert reason == Shutdown("auto shutdown")
        verdicts = [e.decision.verdict for e in events.of(SupervisorDecided) if e.path == "app/sub"]
        assert verdicts[-1] == "auto shutdown"
    return not alive[-1]


@pytest.mark.parametrize("way", ["terminate_child", *WAYS])
async def test_row_059_significant_temporary(way):
    specs = [actor("a", "temporary", significant=True), actor("b", "temporary", significant=True), actor("p")]
    by_itself = way != "terminate_child"
    assert await ends_by_itself(specs, [("b", way)], auto_shutdown="any_significant") == by_itself
    assert await ends_by_itself(specs, [("b", way), ("a", way)], auto_shutdown="all_significant") == by_itself


@pytest.mark.parametrize("way", ["terminate_child", *WAYS])
async def test_row_060_significant_transient(way):
    specs = [actor("a", "transient", significant=True), actor("b", "transient", significant=True), actor("p")]
    assert await ends_by_itself(specs, [("b", way)], auto_shutdown="any_significant") == (way == "normal")
    both = [("b", way), ("a", way)]
    assert await ends_by_itself(specs, both, auto_shutdown="all_significant") == (way == "normal")


@pytest.mark.parametrize("first", ["terminate_child", "normal"])
async def test_rows_059_060_of_all_it_is_the_last_that_must_have_ended_by_itself(first):
    specs = [actor("a", "transient", significant=True), actor("b", "temporary", significant=True), actor("p")]
    assert await ends_by_itself(specs, [("a", first), ("b", "abnormal")], auto_shutdown="all_significant")
    assert not await ends_by_itself(specs, [("b", "normal"), ("a", "terminate_child")], auto_shutdown="all_significant")


async def test_row_060_a_child_that_is_being_terminated_does_not_hold_up_the_last():
    # OTP waits for the one before it sees the other; here both happen at once.
    class Slow(Echo):
        async def terminate(self, reason):
            await trio.sleep(3)

    specs = [child(Slow, id="slow", restart="transient", significant=True), actor("b", "temporary", significant=True)]
    async with running(Supervisor(specs, auto_shutdown="all_significant")) as supervisor:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "slow")
            await trio.sleep(1)
            supervisor.ref("b").send(boom)
        await wait_all_tasks_blocked()
        assert not supervisor.alive


@pytest.mark.parametrize("mode", MODES[1:])
async def test_row_061_significant_simple(mode):
    with pytest.raises(ValueError, match=f"auto_shutdown must be 'never' under simple_one_for_one, not '{mode}'"):
        Supervisor([child(Echo)], strategy="simple_one_for_one", auto_shutdown=mode)
    with pytest.raises(ValueError, match="significant must be False for child 'Echo'"):
        Supervisor([child(Echo, restart="transient", significant=True)], strategy="simple_one_for_one")


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_row_062_significant_bystander(strategy, mode):
    specs = [
        actor("p"),
        actor("transient", "transient", significant=True),
        actor("temporary", "temporary", significant=True),
    ]
    async with running(Supervisor(specs, strategy=strategy, auto_shutdown=mode)) as supervisor:
        await end(supervisor, "p", "abnormal")
        assert statuses(supervisor) == {"p": "running", "transient": "running"}
        await end(supervisor, "transient", "normal")
        assert not supervisor.alive


@pytest.mark.parametrize("significant", [True, False])
async def test_row_063_significant_escalation(significant):
    inner = Supervisor([actor("worker", "transient", significant=True)], auto_shutdown="any_significant")
    subtree = child(inner, id="inner", restart="transient", significant=significant)
    outer = Supervisor([subtree, actor("p")], auto_shutdown="any_significant")
    async with running(outer) as supervisor:
        supervisor.supervisor("inner").ref("worker").send(WAYS["normal"])
        await wait_all_tasks_blocked()
        assert supervisor.alive != significant
        if not significant:
            assert statuses(supervisor) == {"inner": "stopped", "p": "running"}


UPGRADES = [
    (64, "never", "any_significant"),
    (65, "any_significant", "never"),
    (66, "never", "all_significant"),
    (67, "all_significant", "never"),
    (68, "any_significant", "all_significant"),
    (69, "all_significant", "any_significant"),
]


@pytest.mark.parametrize(("row", "before", "after"), UPGRADES)
async def test_rows_064_to_069_significant_upgrade(row, before, after):
    """OTP upgrades code; here it is `change`, with children that were added by request."""
    significant = partial(actor, restart="transient", significant=True)
    async with running(Supervisor([], auto_shutdown=before)) as supervisor:
        if before != "never":
            await supervisor.start_child(significant("x"))
            await supervisor.start_child(significant("y"))
        await supervisor.change(Supervisor([], auto_shutdown=after))
        if after == "never":
            with pytest.raises(ValueError, match="significant must be False for child 'z', since the auto_shutdown"):
                await supervisor.start_child(significant("z"))
            assert statuses(supervisor) == {"x": "running", "y": "running"}
            await end(supervisor, "x", "normal")
            await end(supervisor, "y", "normal")
            assert supervisor.alive
            return
        await supervisor.start_child(significant("z"))
        for id_ in [*statuses(supervisor)][:-1]:
            await end(supervisor, id_, "normal")
            assert supervisor.alive == (after == "all_significant")
            if after == "any_significant":
                return
        await end(supervisor, "z", "normal")
        assert not supervisor.alive


@pytest.mark.parametrize("significant", [True, False])
async def test_row_070_significant_upgrade_child(significant):
    """OTP upgrades code; here it is `change`. The child goes on living, and its end has the new meaning."""

    def spec(flag):
        return Supervisor([actor("a", "transient", significant=flag)], auto_shutdown="any_significant")

    async with running(spec(not significant)) as supervisor:
        before = supervisor.ref("a")
        await supervisor.change(spec(significant))
        assert supervisor.ref("a") is before
        await end(supervisor, "a", "normal")
        assert supervisor.alive != significant


# -- what OTP does not test


async def test_a_temporary_child_that_goes_down_with_its_group_does_not_hold_up_the_last():
    specs = [
        a_child("first", "transient", significant=True),
        a_child("b"),
        a_child("t", "temporary", significant=True),
        a_child("c"),
    ]
    sim = Simulation(specs, "rest_for_one", auto_shutdown="all_significant").boot()
    sim.slow_stop = {"c"}
    sim.end("b")  # so c is being stopped, and then it is t's turn
    sim.end("first", Shutdown())
    sim.finish("c")
    assert sim.outcome == Stopped(Shutdown("auto shutdown"))


async def test_a_child_that_ends_during_the_boot_counts_after_it():
    started = []

    async def short():
        pass

    class Slow(Echo):
        async def init(self):
            await trio.sleep(1)
            started.append(trio.current_time())

    specs = [child(short, restart="temporary", significant=True), child(Slow)]
    async with no_task_left(), open_supervisor(Supervisor(specs, auto_shutdown="any_significant")) as supervisor:
        await wait_all_tasks_blocked()
        assert not supervisor.alive
    assert len(started) == 1


@pytest.mark.parametrize(("mode", "goes_on"), [("any_significant", False), ("all_significant", True)])
async def test_who_ended_during_the_boot_and_was_brought_back_has_ended_all_the_same(mode, goes_on):
    """In OTP the exit lies in the supervisor's mailbox before the request does, and the first one is the end.

    So it must not matter here that the request is served while the boot goes on. Only whether *all* have ended is a
    question of who is there when it is asked.
    """
    sim = Simulation([a_child("s", "transient", significant=True), a_child("slow")], auto_shutdown=mode)
    sim.slow_start = {"slow"}
    sim.boot()
    sim.end("s", Shutdown())
    request = RestartChild("s")
    sim.send(request)  # in its turn, which comes after the start that is under way
    sim.come_up("slow")
    assert sim.replies[request].error is None
    assert sim.took() == ["start s", "start slow", "end s", "start s"] + ([] if goes_on else ["stop slow", "stop s"])
    assert sim.outcome == (None if goes_on else Stopped(Shutdown("auto shutdown")))


async def test_the_block_of_a_root_that_shuts_down_is_cancelled_and_left_without_an_error():
    async def job():
        await trio.sleep(7)
        raise Stop("done")

    spec = Supervisor([child(Echo), child(job, restart="transient", significant=True)], auto_shutdown="any_significant")
    async with open_supervisor(spec):
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(7)


async def test_a_permanent_supervisor_is_started_again_after_its_auto_shutdown():
    inner = Supervisor([actor("w", "transient", significant=True)], auto_shutdown="any_significant")
    async with open_supervisor(Supervisor([child(inner, id="inner")])) as root:
        before = root.supervisor("inner")
        await end(before, "w", "normal")
        assert not before.alive
        assert statuses(root.supervisor("inner")) == {"w": "running"}
