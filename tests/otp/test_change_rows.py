"""Live change: OTP's tests of code_change, adapted, and what they leave open.

The number in a name is the row of OTP's supervisor_SUITE in the project's inventory; the rest is its case. OTP changes
flags and specs when code is upgraded; here a supervisor is given another spec while it runs. Rows 64 to 70, which do
the same with significant children, are in test_significant_rows.py.
"""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    AlreadyPresent,
    Backoff,
    ChildRunning,
    Killed,
    RestartBudget,
    Supervisor,
    SupervisorStopped,
    child,
    open_supervisor,
    whereis,
)
from otp._protocol import Change, RestartChild
from otp._spec import Strategy
from tests.otp.actors import Echo, Journal, boom, up
from tests.otp.simulator import Simulation, a_child
from tests.otp.virtual import virtual_time

pytestmark = virtual_time

WAIT = Backoff(initial=2.0, factor=1.0, cap=2.0, jitter=0.0)


def statuses(supervisor):
    return {info.id: info.status for info in supervisor.which_children()}


async def crash(supervisor, id_):
    supervisor.ref(id_).send(boom)
    await wait_all_tasks_blocked()


async def test_row_083_code_change():
    """Adapted: flags are the arguments of `Supervisor`, and what is wrong with them is found before `change`."""
    async with open_supervisor(Supervisor([child(Echo, id="a"), child(Echo, id="b")], intensity=0)) as supervisor:
        before = supervisor.ref("a")
        spec = Supervisor([child(Echo, id="a"), child(Echo, id="b")], strategy="one_for_all", intensity=2, period=10)
        await supervisor.change(spec)
        assert supervisor.spec is spec
        assert supervisor.ref("a") is before
        numbers = supervisor.statistics()
        assert (numbers.strategy, numbers.intensity, numbers.period) == ("one_for_all", 2, 10)
        await crash(supervisor, "b")
        assert supervisor.ref("a") is not before  # the new strategy
        with pytest.raises(ValueError, match="strategy cannot become simple_one_for_one while app runs"):
            await supervisor.change(Supervisor([child(Echo)], strategy="simple_one_for_one"))
        with pytest.raises(TypeError, match="spec must be a Supervisor, not 3"):
            await supervisor.change(3)  # type: ignore[arg-type]
        assert supervisor.spec is spec
    with pytest.raises(SupervisorStopped):
        await supervisor.change(spec)


async def test_row_084_code_change_map():
    """Adapted: children that stay keep their incarnation, new ones are added stopped, absent ones stay."""
    journal = Journal()
    old = Supervisor([child(journal.actor(f"old {i}"), id=i) for i in "ab"])
    async with open_supervisor(old) as supervisor:
        a, b = supervisor.ref("a"), supervisor.ref("b")
        journal.take()
        new = child(journal.actor("new a"), id="a", restart="transient", shutdown=7.0)
        await supervisor.change(Supervisor([child(journal.actor("c"), id="c"), new]))
        assert statuses(supervisor) == {"c": "stopped", "a": "running", "b": "running"}
        assert (supervisor.ref("a"), supervisor.ref("b")) == (a, b)
        assert supervisor.get_childspec("a") is new
        await supervisor.terminate_child("b")
        await supervisor.change(Supervisor([child(journal.actor("c"), id="c"), new]))
        assert statuses(supervisor) == {"c": "stopped", "a": "running", "b": "stopped"}
        assert journal.take() == ["-old b shutdown"]
        await supervisor.restart_child("b")
        assert journal.take() == ["+old b"]
        with pytest.raises(AlreadyPresent):
            await supervisor.start_child(child(Echo, id="c"))
        await supervisor.restart_child("c")
        await crash(supervisor, "a")
        assert journal.take() == ["+c", "-old a crashed (Boom)", "+new a"]
    # The start order is the new one, behind it what it does not know.
    assert journal.take() == ["-old b shutdown", "-new a shutdown", "-c shutdown"]


async def test_row_085_code_change_simple():
    """Adapted: the flags change, and the kind of supervisor cannot."""
    template = child(Echo, id="t")
    async with open_supervisor(Supervisor([template], strategy="simple_one_for_one", intensity=0)) as supervisor:
        await supervisor.start_instance()
        await supervisor.change(Supervisor([template], strategy="simple_one_for_one", intensity=1, max_children=1))
        await crash(supervisor, "t:1")
        assert statuses(supervisor) == {"t:1": "running"}
        for wrong, message in [
            (Supervisor([template]), "strategy must stay simple_one_for_one while app runs, not 'one_for_one'"),
            (Supervisor([child(Echo)], strategy="simple_one_for_one"), "id of the template must stay 't'"),
        ]:
            with pytest.raises(ValueError, match=message):
                await supervisor.change(wrong)
            assert supervisor.spec.intensity == 1


async def test_row_086_code_change_simple_map():
    """Adapted: the next incarnation of an instance is made by the new template, with the arguments that it had."""

    class Old(Echo):
        def __init__(self, *numbers):
            self.numbers = numbers

    class New(Old):
        pass

    class Narrow(Old):
        def __init__(self, number):
            super().__init__(number)

    def simple(cls, **options):
        return Supervisor([child(cls, id="t", **options)], strategy="simple_one_for_one")

    async def look(ref):
        return await ref.call(lambda actor: (type(actor), actor.numbers))

    async with open_supervisor(simple(Old)) as supervisor:
        await supervisor.start_instance(1, 2)
        await supervisor.start_instance(3, key="k")
        await supervisor.change(simple(New, restart="transient"))
        assert await look(supervisor.ref("t:1")) == (Old, (1, 2))
        await crash(supervisor, "t:1")
        assert await look(supervisor.ref("t:1")) == (New, (1, 2))
        assert await look(up(await supervisor.start_instance(4))) == (New, (4,))
        with pytest.raises(TypeError, match=r"child 't': start cannot be called with \(1, 2\)"):
            await supervisor.change(simple(Narrow))
        await crash(supervisor, "t:k")
        assert await look(supervisor.ref("t:k")) == (New, (3,))  # nothing of it was done
        await supervisor.terminate_child("t:1")
        await supervisor.change(simple(Narrow))
        await crash(supervisor, "t:2")
        assert await look(supervisor.ref("t:2")) == (Narrow, (4,))


# -- what holds at once, and what for the next incarnation


async def test_a_new_shutdown_time_holds_for_the_incarnation_that_lives():
    async def slow():
        with trio.CancelScope(shield=True):
            await trio.sleep(3)

    def spec(seconds):
        class Slow(Echo):
            async def terminate(self, reason):
                await slow()

        return Supervisor([child(Slow, id="a", shutdown=seconds)])

    async with open_supervisor(spec(1.0)) as supervisor:
        await supervisor.change(spec(30.0))
        began = trio.current_time()
        await supervisor.terminate_child("a")
        assert trio.current_time() - began == pytest.approx(3)
        assert supervisor.which_children()[0].reason != Killed()


async def test_a_new_name_is_for_the_next_incarnation():
    async with open_supervisor(Supervisor([child(Echo, name="old")])) as supervisor:
        await supervisor.change(Supervisor([child(Echo, name="new")]))
        assert whereis("old") is supervisor.ref("Echo")
        assert whereis("new") is None
        await crash(supervisor, "Echo")
        assert whereis("old") is None
        assert whereis("new") is supervisor.ref("Echo")


async def test_a_nested_supervisor_goes_on_and_takes_its_new_spec_when_it_is_restarted():
    def spec(inner):
        return Supervisor([child(Supervisor([child(Echo, id=inner)], intensity=0), id="sub")])

    async with open_supervisor(spec("old")) as root:
        await root.change(spec("new"))
        assert statuses(root.supervisor("sub")) == {"old": "running"}
        await crash(root.supervisor("sub"), "old")
        assert statuses(root.supervisor("sub")) == {"new": "running"}


async def test_a_change_does_not_outlast_the_supervisor():
    inner = Supervisor([child(Echo, id="a")], intensity=0)
    async with open_supervisor(Supervisor([child(inner, id="sub")])) as root:
        await root.supervisor("sub").change(Supervisor([child(Echo, id="a"), child(Echo, id="b")], intensity=0))
        await crash(root.supervisor("sub"), "a")
        assert statuses(root.supervisor("sub")) == {"a": "running"}


# -- while something is under way: in the core, where every moment can be had


def changed(sim: Simulation, children: str, strategy: Strategy, intensity: int = 3) -> None:
    specs = [a_child(id_, backoff=WAIT) for id_ in children.split()]
    assert sim.ask(Change(Supervisor(specs, strategy=strategy, intensity=intensity))).error is None


async def test_a_group_that_waits_comes_back_although_the_strategy_is_another_now():
    sim = Simulation("a b c", "one_for_all", backoff=WAIT).boot()
    sim.end("b")
    assert sim.statuses() == {"a": "stopped", "b": "restarting", "c": "stopped"}
    changed(sim, "a b c", "one_for_one")
    sim.advance(2.0)
    assert sim.statuses() == dict.fromkeys("abc", "running")


async def test_a_group_that_is_stopping_is_down_before_it_starts_although_the_strategy_is_another_now():
    sim = Simulation("a b c", "one_for_all").boot()
    sim.slow_stop = {"c"}
    sim.end("a")
    sim.took()
    changed(sim, "a b c", "one_for_one")
    assert sim.took() == []
    sim.finish("c")
    assert sim.took() == ["stop b", "start a", "start b", "start c"]


async def test_those_that_wait_one_by_one_are_one_group_when_the_strategy_becomes_one():
    sim = Simulation("a b c", "one_for_one", backoff=WAIT).boot()
    sim.end("a")
    sim.advance(1.0)
    sim.end("b")
    changed(sim, "a b c", "one_for_all")
    assert sim.statuses() == {"a": "restarting", "b": "restarting", "c": "running"}
    sim.end("c")
    assert sim.last().verdict == "join"
    assert sim.statuses() == dict.fromkeys("abc", "restarting")
    sim.advance(1.0)
    assert sim.statuses() == dict.fromkeys("abc", "running")
    sim.advance(5.0)
    assert sim.core.restarts(1.0) == 1  # for all three


async def test_who_waits_comes_back_once_more_although_it_is_temporary_now():
    sim = Simulation([a_child("a", backoff=WAIT)]).boot()
    sim.end("a")
    sim.ask(Change(Supervisor([a_child("a", "temporary")])))
    sim.advance(2.0)
    assert sim.statuses() == {"a": "running"}
    sim.end("a")
    assert sim.statuses() == {}


async def test_so_does_one_that_waits_with_its_group():
    sim = Simulation("a b", "one_for_all", backoff=WAIT).boot()
    sim.end("a")
    sim.ask(Change(Supervisor([a_child("a"), a_child("b", "temporary")], strategy="one_for_all")))
    sim.advance(2.0)
    assert sim.statuses() == {"a": "running", "b": "running"}


@pytest.mark.parametrize("mode", ["never", "any_significant"])
async def test_who_became_temporary_while_it_was_restarted_is_not_tried_again(mode):
    sim = Simulation("a b").boot()
    sim.slow_start = {"a"}
    sim.end("a")
    new = [a_child("a", "temporary", significant=mode != "never"), a_child("b")]
    sim.ask(Change(Supervisor(new, auto_shutdown=mode)))
    sim.fail_to_start("a")
    assert "a" not in sim.statuses()
    assert not sim.retries
    assert sim.verdicts() == ["restart", "forget"] + ["auto shutdown"] * (mode != "never")
    assert (sim.outcome is None) == (mode == "never")


async def test_who_became_transient_while_it_was_restarted_is_tried_again():
    sim = Simulation("a").boot()
    sim.slow_start = {"a"}
    sim.end("a")
    sim.ask(Change(Supervisor([a_child("a", "transient")])))
    sim.fail_to_start("a")
    sim.settle()
    sim.come_up("a")
    assert sim.statuses() == {"a": "running"}


async def test_the_stop_goes_on_in_the_new_order_and_a_change_comes_too_late_for_it():
    sim = Simulation("a b c d").boot()
    changed(sim, "d c b a", "one_for_one")
    sim.slow_stop = {"a"}
    sim.took()
    sim.stop()
    assert isinstance(sim.ask(Change(Supervisor([]))).error, SupervisorStopped)
    sim.finish("a")
    assert sim.took() == ["stop a", "stop b", "stop c", "stop d"]


async def test_stops_under_way_go_on_and_those_that_come_follow_the_new_order():
    sim = Simulation("a b c d", "rest_for_one").boot()
    sim.slow_stop = {"d"}
    sim.end("a")
    sim.took()
    changed(sim, "a c b d", "rest_for_one")
    sim.finish("d")
    assert sim.took() == ["stop b", "stop c", "start a", "start c", "start b", "start d"]


async def test_during_the_boot_what_was_to_start_does_and_what_is_new_does_not():
    sim = Simulation("a b")
    sim.slow_start = {"a"}
    sim.boot()
    changed(sim, "n b a", "one_for_one")
    sim.come_up("a")
    assert sim.started
    assert sim.statuses() == {"n": "stopped", "b": "running", "a": "running"}


async def test_the_window_keeps_what_it_has_counted():
    sim = Simulation("a", intensity=3).boot()
    sim.end("a")
    sim.end("a")
    changed(sim, "a", "one_for_one", intensity=2)
    sim.end("a")
    sim.advance(2.0)
    assert sim.last().verdict == "give up"


@pytest.mark.parametrize("looks", [False, True])
async def test_what_a_shorter_period_leaves_out_is_forgotten_by_the_next_restart_and_not_by_who_looks(looks):
    def period(seconds: float) -> None:
        sim.ask(Change(Supervisor([a_child("a")], intensity=2, period=seconds)))
        if looks:
            sim.core.restarts(sim.now)

    sim = Simulation("a", intensity=2, period=10.0).boot()
    sim.end("a")
    sim.advance(5.0)
    period(1.0)
    period(10.0)
    assert sim.core.restarts(sim.now) == 1
    period(1.0)
    sim.end("a")  # in OTP, too, this is when the old ones go
    period(10.0)
    assert sim.core.restarts(sim.now) == 1
    sim.end("a")
    assert sim.statuses() == {"a": "running"}
    sim.end("a")
    assert sim.last().verdict == "give up"


async def test_a_budget_can_be_given_and_taken():
    sim = Simulation("a", intensity=0).boot()
    sim.ask(Change(Supervisor([a_child("a", budget=RestartBudget(intensity=1, on_exceed="park"))], intensity=0)))
    sim.end("a")
    sim.ask(Change(Supervisor([a_child("a", budget=RestartBudget(intensity=2, on_exceed="park"))], intensity=0)))
    sim.end("a")
    assert sim.statuses() == {"a": "running"}
    sim.end("a")
    assert sim.statuses() == {"a": "parked"}
    sim.ask(Change(Supervisor([a_child("a")], intensity=0)))
    assert sim.statuses() == {"a": "parked"}
    sim.ask(RestartChild("a"))
    assert isinstance(sim.ask(RestartChild("a")).error, ChildRunning)
    sim.end("a")
    assert sim.outcome is not None


async def test_a_budget_that_was_taken_and_is_given_again_is_a_new_one():
    def spec(budget: RestartBudget | None) -> Supervisor:
        return Supervisor([a_child("a", budget=budget)])

    once = RestartBudget(intensity=1, on_exceed="park")
    sim = Simulation([a_child("a", budget=once)]).boot()
    sim.end("a")
    sim.ask(Change(spec(None)))
    sim.ask(Change(spec(once)))
    sim.end("a")
    assert sim.statuses() == {"a": "running"}
