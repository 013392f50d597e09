"""Budgets of single children: who pays for a restart, and what becomes of a child that needs too many."""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    ChildNotFound,
    ChildRestarting,
    GaveUp,
    Ignore,
    RecordedError,
    RestartBudget,
    Supervisor,
    child,
    open_supervisor,
)
from otp._exit import Crashed, Shutdown
from otp._protocol import DeleteChild, GiveUp, RestartChild, Stopped, TerminateChild
from otp._refusals import AlreadyPresent, WrongStrategy
from otp._spec import Backoff, OnExceed, Strategy
from tests.otp.actors import Boom, Echo, boom, up
from tests.otp.simulator import CRASH, Simulation, a_child

PARK = RestartBudget(intensity=1, period=5.0, on_exceed="park")
DROP = RestartBudget(intensity=1, period=5.0, on_exceed="drop")
ESCALATE = RestartBudget(intensity=1, period=5.0, on_exceed="escalate")
WAIT = Backoff(initial=2.0, factor=1.0, cap=2.0, jitter=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intensity": -1}, "intensity must be a whole number >= 0, not -1"),
        ({"period": 0}, "period must be a finite number of seconds > 0, not 0"),
        ({"on_exceed": "explode"}, "on_exceed must be one of 'escalate', 'park', 'drop', not 'explode'"),
    ],
)
def test_bad_budgets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RestartBudget(**options)
    with pytest.raises(TypeError, match="budget must be a RestartBudget or None, not 3"):
        child(Echo, budget=3)  # type: ignore[arg-type]


def test_a_child_with_a_budget_uses_nothing_of_its_supervisors():
    sim = Simulation([a_child("a", budget=RestartBudget(intensity=100)), a_child("b")], intensity=1).boot()
    for _ in range(50):
        sim.end("a")
    assert sim.core.restarts(sim.now) == 0
    assert (sim.last().used, sim.last().limit, sim.last().period) == (50, 100, 5.0)
    sim.end("b")
    assert (sim.last().used, sim.last().limit) == (1, 1)
    assert sim.statuses() == {"a": "running", "b": "running"}


def test_escalate_gives_up_with_the_numbers_of_the_budget():
    sim = Simulation([a_child("a", budget=ESCALATE), a_child("b")], intensity=1000).boot()
    sim.end("a")
    sim.end("a")
    assert isinstance(sim.outcome, GiveUp)
    error = sim.outcome.reason.exception
    assert isinstance(error, GaveUp)
    assert str(error) == "app gave up: child 'a' needed more than 1 restarts in 5 s, last exit: crashed (Boom: boom)"
    assert error.__cause__ is CRASH.exception


def test_the_window_of_a_budget_slides():
    sim = Simulation([a_child("a", budget=PARK)]).boot()
    for _ in range(5):
        sim.end("a")
        sim.advance(5.1)
    assert sim.statuses() == {"a": "running"}


def test_parked_is_a_state_with_the_last_reason_and_restart_brings_it_back_with_a_new_budget():
    sim = Simulation([a_child("a", budget=PARK), a_child("b")]).boot()
    sim.end("a")
    sim.end("a")
    assert sim.verdicts() == ["restart", "park"]
    assert sim.statuses() == {"a": "parked", "b": "running"}
    state = sim.core.child("a")
    assert state is not None
    assert isinstance(state.reason, Crashed)
    assert str(state.reason) == "crashed (Boom: boom)"
    assert isinstance(sim.add(a_child("a")).error, AlreadyPresent)
    assert sim.ask(RestartChild("a")).error is None
    sim.end("a")
    assert sim.statuses() == {"a": "running", "b": "running"}
    assert sim.last().used == 1
    sim.end("a")
    assert sim.statuses()["a"] == "parked"


def test_a_parked_child_that_does_not_come_up_on_request_stays_parked():
    sim = Simulation([a_child("a", budget=PARK)]).boot()
    sim.end("a")
    sim.end("a")
    sim.failing = {"a"}
    assert sim.ask(RestartChild("a")).error is not None
    assert sim.statuses() == {"a": "parked"}
    sim.failing, sim.ignoring = set(), {"a"}
    assert sim.ask(RestartChild("a")).error is None
    assert sim.statuses() == {"a": "stopped"}  # it said itself that it is not needed


def test_a_parked_child_can_be_deleted_and_terminating_it_makes_it_a_stopped_one():
    sim = Simulation([a_child("a", budget=PARK), a_child("b", budget=PARK)]).boot()
    for id_ in "aabb":
        sim.end(id_)
    assert sim.ask(TerminateChild("a")).error is None
    assert sim.ask(DeleteChild("b")).error is None
    assert sim.statuses() == {"a": "stopped"}


def test_dropped_is_forgotten():
    sim = Simulation([a_child("a", budget=DROP), a_child("b")]).boot()
    sim.end("a")
    sim.end("a")
    assert sim.last().verdict == "drop"
    assert sim.statuses() == {"b": "running"}
    assert isinstance(sim.ask(RestartChild("a")).error, ChildNotFound)
    assert sim.add(a_child("a")).error is None


@pytest.mark.parametrize(
    ("on_exceed", "left"), [("park", {"t:1": "parked", "t:2": "running"}), ("drop", {"t:2": "running"})]
)
def test_each_instance_has_a_budget_of_its_own(on_exceed: OnExceed, left: dict[str, str]):
    template = a_child("t", budget=RestartBudget(intensity=1, on_exceed=on_exceed))
    sim = Simulation([template], "simple_one_for_one", intensity=0).boot()
    sim.spawn()
    sim.spawn()
    for id_ in ("t:1", "t:2", "t:1"):
        sim.end(id_)
    assert sim.statuses() == left
    if on_exceed == "park":
        assert isinstance(sim.ask(RestartChild("t:2")).error, WrongStrategy)
        assert sim.ask(RestartChild("t:1")).error is None
        assert sim.statuses() == {"t:1": "running", "t:2": "running"}
        sim.end("t:1")
        sim.end("t:1")
        assert sim.ask(TerminateChild("t:1")).error is None  # forgotten, as instances are
        assert sim.statuses() == {"t:2": "running"}


# -- groups


@pytest.mark.parametrize("on_exceed", ["park", "drop"])
@pytest.mark.parametrize("backoff", [None, WAIT])
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_its_group_is_restarted_without_it(strategy: Strategy, backoff: Backoff | None, on_exceed: OnExceed):
    # They are restarted because it died; that it does not come back makes no difference to that.
    budget = RestartBudget(intensity=0, on_exceed=on_exceed)
    sim = Simulation([a_child("a"), a_child("b", backoff=backoff, budget=budget), a_child("c")], strategy).boot()
    sim.took()
    sim.end("b")
    sim.advance(2.0)
    b = {"b": "parked"} if on_exceed == "park" else {}
    assert sim.statuses() == {"a": "running", **b, "c": "running"}
    both = ["end b", "stop c", "stop a", "start a", "start c"]
    assert sim.took() == (both if strategy == "one_for_all" else ["end b", "stop c", "start c"])
    assert sim.core.restarts(sim.now) == 0  # b's death has been b's expense


def test_a_parked_member_stays_parked_when_its_group_is_restarted():
    sim = Simulation([a_child("a"), a_child("b", budget=RestartBudget(intensity=0, on_exceed="park"))], "one_for_all")
    sim.boot()
    sim.end("b")
    sim.end("a")
    assert sim.statuses() == {"a": "running", "b": "parked"}
    assert sim.ask(RestartChild("b")).error is None
    sim.end("a")
    assert sim.statuses() == {"a": "running", "b": "running"}  # a member as before


def test_a_parked_child_that_fails_to_come_up_is_in_no_restart_of_its_group():
    park = RestartBudget(intensity=0, on_exceed="park")
    sim = Simulation([a_child("a", budget=park), a_child("b", backoff=WAIT)], "one_for_all").boot()
    sim.end("a")
    sim.slow_start = {"a"}
    sim.send(RestartChild("a"))
    sim.end("b")  # the group waits, and a with it as soon as it is up
    sim.fail_to_start("a")
    assert sim.statuses() == {"a": "parked", "b": "restarting"}
    sim.advance(2.0)
    assert sim.statuses() == {"a": "parked", "b": "running"}
    sim.end("b")
    sim.advance(2.0)
    assert sim.statuses() == {"a": "parked", "b": "running"}


def test_a_group_is_charged_to_the_one_that_failed_first():
    specs = [a_child("a"), a_child("b", backoff=WAIT, budget=PARK), a_child("c")]
    sim = Simulation(specs, "one_for_all").boot()
    sim.slow_start = {"a"}
    sim.end("b")
    # While the group waits for b, a is started on request, and fails: that joins the wait.
    sim.send(RestartChild("a"))
    sim.come_up("a")
    sim.slow_start.clear()
    sim.end("a")
    assert sim.verdicts() == ["wait", "join"]
    sim.advance(2.0)
    assert (sim.last().verdict, sim.last().child, sim.last().used) == ("retry", "b", 1)
    assert sim.core.restarts(sim.now) == 0


def test_when_the_one_that_failed_was_terminated_its_siblings_return_at_the_supervisors_expense():
    sim = Simulation([a_child("a", budget=PARK), a_child("b", backoff=WAIT)], "one_for_all", intensity=1).boot()
    sim.end("b")
    sim.ask(TerminateChild("b"))
    sim.advance(2.0)
    assert sim.statuses() == {"a": "running", "b": "stopped"}
    assert (sim.last().used, sim.last().limit) == (1, 1)
    assert sim.core.restarts(sim.now) == 1


def test_failed_starts_use_up_the_budget_too():
    sim = Simulation([a_child("a", budget=RestartBudget(intensity=3, on_exceed="park")), a_child("b")]).boot()
    sim.failing = {"a"}
    sim.end("a")
    sim.settle()
    assert sim.verdicts() == ["restart", "wait", "retry", "wait", "retry", "wait", "park"]
    assert sim.statuses() == {"a": "parked", "b": "running"}


# -- auto shutdown


def test_who_is_parked_has_not_ended_for_good():
    specs = [a_child("a", "transient", budget=PARK, significant=True), a_child("b", "transient", significant=True)]
    sim = Simulation(specs, auto_shutdown="all_significant").boot()
    sim.end("a")
    sim.end("a")
    sim.end("b", Shutdown())
    assert sim.statuses() == {"a": "parked", "b": "stopped"}
    assert sim.outcome is None
    sim.ask(RestartChild("a"))
    sim.end("a", Shutdown())
    assert sim.outcome == Stopped(Shutdown("auto shutdown"))


def test_who_is_dropped_has_ended_for_good():
    sim = Simulation([a_child("a", "transient", budget=DROP, significant=True)], auto_shutdown="any_significant").boot()
    sim.end("a")
    sim.end("a")
    assert sim.outcome == Stopped(Shutdown("auto shutdown"))


# -- with real children


@pytest.mark.trio(virtual_time=True)
async def test_a_flapping_instance_is_parked_and_nobody_else_notices(caplog):
    caplog.set_level(logging.INFO)

    class Tenant(Echo):
        def __init__(self, healthy):
            self.healthy = healthy

        async def init(self):
            await trio.sleep(0.1)
            if not self.healthy:
                self.send_self(boom)

    budget = RestartBudget(intensity=2, period=60, on_exceed="park")
    app = Supervisor([child(Tenant, id="tenant", budget=budget)], strategy="simple_one_for_one", intensity=0)
    async with open_supervisor(app) as supervisor:
        good = up(await supervisor.start_instance(True, key="good"))
        await supervisor.start_instance(False, key="bad")
        await trio.sleep(1)
        first, second = supervisor.which_children()
        assert (first.ref, first.status, first.reason) == (good, "running", None)
        assert (second.id, second.ref, second.status) == ("tenant:bad", None, "parked")
        assert isinstance(second.reason, Crashed)
        assert isinstance(second.reason.exception, RecordedError)
        assert second.reason.exception.kind is Boom
        assert "raise Boom" in second.reason.exception.traceback
        assert supervisor.statistics().children[1].status == "parked"
        assert supervisor.statistics().children[1].reason is second.reason
    (line,) = [r for r in caplog.records if "park it" in r.getMessage()]
    assert line.levelname == "ERROR"
    assert line.getMessage() == (
        "app: tenant:bad crashed (Boom): park it, its budget is used up [3 of 2 restarts in 60 s]"
    )


@pytest.mark.trio(virtual_time=True)
async def test_restart_child_brings_back_what_is_parked():
    class Fragile(Echo):
        starts = 0

        async def init(self):
            Fragile.starts += 1
            if Fragile.starts == 3:
                raise Ignore

    park = RestartBudget(intensity=0, on_exceed="park")
    async with open_supervisor(Supervisor([child(Fragile, budget=park)])) as supervisor:
        supervisor.ref("Fragile").send(boom)
        await wait_all_tasks_blocked()
        assert supervisor.which_children()[0].status == "parked"
        back = await supervisor.restart_child("Fragile")
        assert back is supervisor.ref("Fragile")


@pytest.mark.trio(virtual_time=True)
async def test_a_child_that_waits_is_not_parked_yet():
    budget = RestartBudget(intensity=0, on_exceed="park")
    async with open_supervisor(Supervisor([child(Echo, budget=budget, backoff=WAIT)])) as supervisor:
        supervisor.ref("Echo").send(boom)
        await trio.sleep(1)
        with pytest.raises(ChildRestarting):
            await supervisor.restart_child("Echo")
        await trio.sleep(2)
        assert supervisor.which_children()[0].status == "parked"
