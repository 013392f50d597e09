"""OTP's own supervisor tests, as far as they belong to this width, at the level of the core.

The number in a name is the row of OTP's supervisor_SUITE in the project's inventory; the rest is its case.
"""

import sys
from collections.abc import Callable

import pytest

from otp._errors import FailedToStart, GaveUp
from otp._exit import Crashed, ExitReason, Killed, Normal, Shutdown
from otp._protocol import (
    ChildCount,
    DeleteChild,
    GiveUp,
    Reply,
    RestartChild,
    StartFailed,
    StartInstance,
    Stopped,
    TerminateChild,
)
from otp._refusals import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    SupervisorStopped,
    WrongStrategy,
)
from otp._spec import Restart, Strategy, Supervisor, child
from tests.otp.simulator import CRASH, Boom, Simulation, a_child


def refused(reply: Reply, error: type[Exception]) -> bool:
    return type(reply.error) is error


def gave_up(sim: Simulation) -> GaveUp:
    assert isinstance(sim.outcome, GiveUp)
    error = sim.outcome.reason.exception
    assert isinstance(error, GaveUp)
    return error


# -- sup_start


def test_row_001_sup_start_normal():
    sim = Simulation([]).boot()
    assert sim.started
    sim.stop()
    assert sim.outcome == Stopped(Shutdown())


def test_row_003_sup_start_ignore_child():
    sim = Simulation("a b")
    sim.ignoring = {"a"}
    sim.boot()
    assert sim.started
    assert sim.statuses() == {"a": "stopped", "b": "running"}
    assert sim.core.count() == ChildCount(specs=2, active=1, supervisors=0, workers=2)


def test_row_004_sup_start_ignore_temporary_child():
    sim = Simulation([a_child("a", "temporary"), a_child("b")])
    sim.ignoring = {"a"}
    sim.boot()
    assert sim.statuses() == {"b": "running"}


@pytest.mark.parametrize(("restart", "kept"), [("temporary", False), ("transient", True), ("permanent", True)])
def test_row_005_sup_start_ignore_temporary_child_start_child(restart: Restart, kept: bool):
    sim = Simulation([]).boot()
    sim.ignoring = {"a"}
    reply = sim.add(a_child("a", restart))
    assert reply.error is None
    assert reply.child is not None
    assert reply.child.incarnation is None
    assert sim.statuses() == ({"a": "stopped"} if kept else {})


@pytest.mark.parametrize("restart", ["temporary", "permanent"])
def test_rows_006_007_sup_start_ignore_child_start_child_simple(restart: Restart):
    sim = Simulation("w", "simple_one_for_one", restart=restart).boot()
    sim.ignoring = {"w:1"}
    assert sim.ask(StartInstance()).error is None
    assert sim.core.which() == []
    sim.stop()
    assert sim.outcome == Stopped(Shutdown())


def test_row_009_sup_start_fail():
    sim = Simulation("a b c d")
    sim.failing = {"c"}
    sim.boot()
    assert sim.took() == ["start a", "start b", "start c", "stop b", "stop a"]
    assert not sim.started
    assert isinstance(sim.outcome, StartFailed)
    error = sim.outcome.reason.exception
    assert isinstance(error, FailedToStart)
    assert (error.child, error.reason, error.chain) == ("c", CRASH, ("c",))
    assert isinstance(error.__cause__, Boom)
    assert str(error) == "app: child 'c' failed to start: crashed (Boom: boom)"
    assert sim.verdicts() == ["roll back"]


def test_row_010_sup_start_child_returns_error():
    sim = Simulation([]).boot()
    sim.failing = {"a"}
    reply = sim.add(a_child("a"))
    assert isinstance(reply.error, FailedToStart)
    assert reply.error.reason == CRASH
    assert sim.core.which() == []
    assert sim.core.restarts(sim.now) == 0


def test_row_011_sup_start_restart_child_returns_error():
    sim = Simulation("a").boot()
    sim.ask(TerminateChild("a"))
    sim.failing = {"a"}
    assert refused(sim.ask(RestartChild("a")), FailedToStart)
    assert sim.statuses() == {"a": "stopped"}
    assert sim.retries == []


def test_row_012_sup_start_child_returns_error_simple():
    sim = Simulation("w", "simple_one_for_one").boot()
    sim.failing = {"w:1"}
    assert refused(sim.ask(StartInstance()), FailedToStart)
    assert sim.core.which() == []


def test_row_013_sup_start_map():
    worker, subtree = a_child("w"), child(Supervisor([]), id="s")
    assert (worker.restart, worker.shutdown, subtree.shutdown) == ("permanent", 5.0, "infinity")
    sim = Simulation([worker, subtree]).boot()
    state = sim.core.child("w")
    assert state is not None
    assert state.spec == worker
    assert sim.core.child("x") is None


def test_row_014_sup_start_map_simple():
    sim = Simulation("w", "simple_one_for_one").boot()
    assert sim.core.child(sim.spawn().id) is not None
    assert sim.core.child("w:7") is None


# -- sup_stop


def test_row_016_sup_stop_infinity():
    sim = Simulation([child(Supervisor([]), id="s"), child(lambda: None, id="w", shutdown="infinity")]).boot()
    sim.slow_stop = {"w"}
    sim.took()
    sim.stop()
    sim.advance(3600.0)
    assert sim.took() == ["stop w"]
    sim.finish("w")
    assert sim.took() == ["stop s"]
    assert sim.outcome == Stopped(Shutdown())


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", [Normal(), Shutdown(), Shutdown("x"), CRASH])
def test_row_021_sup_stop_race(strategy: Strategy, restart: Restart, reason: ExitReason):
    sim = Simulation("a b c", strategy, restart=restart).boot()
    sim.slow_stop = {"c"}
    sim.stop()
    sim.end("a", reason)  # by itself, before its turn
    sim.end("c", reason)  # by itself, while it is being stopped
    assert sim.took()[3:] == ["stop c", "end a", "end c", "stop b"]
    assert sim.outcome == Stopped(Shutdown())
    assert sim.verdicts() == []


def test_row_022_sup_stop_non_shutdown_exit_dynamic():
    sim = Simulation("w", "simple_one_for_one").boot()
    for reason in (CRASH, Killed(), Normal()):
        sim.ends_with[sim.spawn().id] = reason
    sim.stop()
    assert sim.outcome == Stopped(Shutdown())


# -- administration


def test_row_023_child_adm():
    sim = Simulation([]).boot()
    assert sim.core.which() == []
    assert sim.core.count() == ChildCount(specs=0, active=0, supervisors=0, workers=0)
    for request in (TerminateChild("a"), RestartChild("a"), DeleteChild("a")):
        assert refused(sim.ask(request), ChildNotFound)

    assert sim.add(a_child("a")).error is None
    assert refused(sim.add(a_child("a")), AlreadyStarted)
    assert refused(sim.ask(RestartChild("a")), ChildRunning)
    assert refused(sim.ask(DeleteChild("a")), ChildRunning)
    assert refused(sim.ask(StartInstance()), WrongStrategy)

    assert sim.ask(TerminateChild("a")).error is None
    assert sim.ask(TerminateChild("a")).error is None
    assert sim.statuses() == {"a": "stopped"}
    assert sim.core.count() == ChildCount(specs=1, active=0, supervisors=0, workers=1)
    assert refused(sim.add(a_child("a")), AlreadyPresent)

    reply = sim.ask(RestartChild("a"))
    assert reply.error is None
    assert reply.child == sim.core.child("a")
    assert sim.statuses() == {"a": "running"}

    assert sim.ask(TerminateChild("a")).error is None
    assert sim.ask(DeleteChild("a")).error is None
    assert refused(sim.ask(DeleteChild("a")), ChildNotFound)
    assert sim.core.restarts(sim.now) == 0

    sim.stop()
    assert refused(sim.ask(TerminateChild("a")), SupervisorStopped)


def test_row_024_child_adm_simple():
    sim = Simulation("w", "simple_one_for_one").boot()
    first, second = sim.spawn(), sim.spawn("more")
    assert [first.id, second.id] == ["w:1", "w:2"]
    for request in (TerminateChild("w"), RestartChild("w"), DeleteChild("w"), RestartChild("w:1")):
        assert refused(sim.ask(request), WrongStrategy)
    assert refused(sim.add(a_child("x")), WrongStrategy)
    for foreign in ("w:3", "w:0", "w:x", "x:1", "x"):
        assert refused(sim.ask(TerminateChild(foreign)), ChildNotFound)
    assert sim.core.count() == ChildCount(specs=1, active=2, supervisors=0, workers=2)
    assert sim.ask(TerminateChild("w:1")).error is None
    assert sim.ask(TerminateChild("w:1")).error is None  # over already
    assert sim.statuses() == {"w:2": "running"}


def test_row_024_simple_calls_start_with_the_arguments():
    given: list[tuple[object, ...]] = []
    sim = Simulation([child(lambda a, b: given.append((a, b)), id="w")], "simple_one_for_one").boot()
    spec = sim.spawn(1, 2).spec
    assert callable(spec.start)
    spec.start()
    assert given == [(1, 2)]
    reply = sim.ask(StartInstance((1, 2, 3)))
    assert isinstance(reply.error, TypeError)
    assert sim.spawn(3, 4).id == "w:2"


def test_row_029_multiple_restarts():
    sim = Simulation("a", intensity=1, period=1.0).boot()
    for _ in range(20):
        sim.end("a")
        sim.advance(2.1)
    assert sim.outcome is None


def test_row_029_the_window_is_inclusive():
    sim = Simulation("a", intensity=1, period=1.0).boot()
    sim.end("a")
    sim.advance(1.0)
    sim.end("a")
    gave_up(sim)


# -- one_for_one


def test_row_030_one_for_one():
    sim = Simulation("a b", intensity=2).boot()
    sim.took()
    sim.end("a")
    assert sim.took() == ["end a", "start a"]
    sim.end("b")
    assert sim.took() == ["end b", "start b"]
    sim.end("a")
    assert sim.took() == ["end a", "stop b"]
    error = gave_up(sim)
    assert (error.supervisor, error.child, error.intensity, error.period) == ("app", "a", 2, 5.0)
    assert isinstance(error.__cause__, Boom)
    assert sim.verdicts() == ["restart", "restart", "give up"]
    assert [(d.used, d.limit) for d in sim.core.history] == [(1, 2), (2, 2), (3, 2)]


def test_row_030_intensity_0_tolerates_nothing():
    sim = Simulation("a b", intensity=0).boot()
    sim.end("b", Normal())
    assert gave_up(sim).__cause__ is None


def test_row_031_one_for_one_escalation():
    sim = Simulation("a b", intensity=4).boot()
    sim.failing = {"a"}
    sim.took()
    sim.end("a")
    sim.settle()
    assert sim.took() == ["end a", *["start a"] * 4, "stop b"]
    assert gave_up(sim).child == "a"


# -- one_for_all


def test_row_032_one_for_all():
    sim = Simulation("a b c", "one_for_all", intensity=2).boot()
    sim.took()
    before = dict(sim.alive)
    sim.end("b")
    assert sim.took() == ["end b", "stop c", "stop a", "start a", "start b", "start c"]
    assert not set(before.values()) & set(sim.alive.values())
    assert sim.core.restarts(sim.now) == 1
    sim.end("a")
    sim.took()
    sim.end("c")
    assert sim.took() == ["end c", "stop b", "stop a"]
    gave_up(sim)


def test_row_033_one_for_all_escalation():
    sim = Simulation("a b", "one_for_all", intensity=4).boot()
    sim.failing = {"b"}
    sim.took()
    sim.end("a")
    sim.settle()
    assert sim.took() == ["end a", "stop b", *["start a", "start b", "stop a"] * 4]
    assert gave_up(sim).child == "b"


def test_row_034_one_for_all_other_child_fails_restart():
    sim = Simulation("a b", "one_for_all").boot()
    sim.slow_start = {"b"}
    sim.took()
    sim.end("a")
    sim.fail_to_start("b")
    sim.settle()
    sim.come_up("b")
    assert sim.took() == ["end a", "stop b", "start a", "start b", "stop a", "start a", "start b"]
    assert sim.statuses() == {"a": "running", "b": "running"}
    assert sim.core.restarts(sim.now) == 2


# -- simple_one_for_one


def test_row_035_simple_one_for_one():
    sim = Simulation("w", "simple_one_for_one", intensity=2).boot()
    sim.spawn()
    sim.spawn()
    sim.took()
    sim.end("w:1")
    assert sim.took() == ["end w:1", "start w:1"]
    sim.end("w:2")
    assert sim.took() == ["end w:2", "start w:2"]
    sim.end("w:1")
    assert gave_up(sim).child == "w:1"  # the count is shared


def test_row_036_simple_one_for_one_shutdown():
    sim = Simulation("w", "simple_one_for_one").boot()
    sim.slow_stop = {sim.spawn().id, sim.spawn().id, sim.spawn().id}
    sim.took()
    sim.stop()
    assert sorted(sim.took()) == ["stop w:1", "stop w:2", "stop w:3"]
    for id_ in ("w:2", "w:1", "w:3"):
        assert sim.outcome is None
        sim.finish(id_)
    assert sim.outcome == Stopped(Shutdown())


def test_row_038_simple_one_for_one_escalation():
    sim = Simulation("w", "simple_one_for_one", intensity=4).boot()
    sim.spawn()
    sim.spawn()
    sim.failing = {"w:1"}
    sim.took()
    sim.end("w:1")
    sim.settle()
    assert sim.took() == ["end w:1", *["start w:1"] * 4, "stop w:2"]
    gave_up(sim)


@pytest.mark.parametrize("restart", ["transient", "permanent"])
def test_row_040_simple_one_for_one_restart_ignore(restart: Restart):
    sim = Simulation("w", "simple_one_for_one", restart=restart).boot()
    sim.spawn()
    sim.ignoring = {"w:1"}
    sim.end("w:1")
    assert sim.core.which() == []
    assert sim.retries == []


# -- rest_for_one


def test_row_041_rest_for_one():
    sim = Simulation("a b c d", "rest_for_one", intensity=2).boot()
    sim.took()
    sim.end("b")
    assert sim.took() == ["end b", "stop d", "stop c", "start b", "start c", "start d"]
    sim.end("d")
    assert sim.took() == ["end d", "start d"]
    sim.end("c")
    assert sim.took() == ["end c", "stop d", "stop b", "stop a"]
    gave_up(sim)


def test_row_042_rest_for_one_escalation():
    sim = Simulation("a b", "rest_for_one", intensity=4).boot()
    sim.failing = {"b"}
    sim.took()
    sim.end("a")
    sim.settle()
    assert sim.took() == ["end a", "stop b", "start a", *["start b"] * 4, "stop a"]
    gave_up(sim)


def test_row_043_rest_for_one_other_child_fails_restart():
    sim = Simulation("a b c", "rest_for_one").boot()
    sim.slow_start = {"b"}
    sim.took()
    sim.end("a")
    sim.fail_to_start("b")
    sim.settle()
    sim.come_up("b")
    assert sim.took() == ["end a", "stop c", "stop b", "start a", "start b", "start b", "start c"]
    assert sim.statuses() == dict.fromkeys("abc", "running")


# -- termination classes


def after_end(restart: Restart, reason: ExitReason) -> dict[str, str]:
    sim = Simulation([a_child("a", restart), a_child("b")]).boot()
    incarnation = sim.alive["a"]
    sim.end("a", reason)
    statuses = sim.statuses()
    assert statuses.pop("b") == "running"
    if "a" in sim.alive:
        assert sim.alive["a"] > incarnation
    assert sim.core.restarts(sim.now) == len(sim.alive) - 1
    return statuses


@pytest.mark.parametrize("reason", [Normal(), Shutdown(), Shutdown("done")])
def test_rows_045_to_050_normal_and_shutdown(reason: ExitReason):
    assert after_end("permanent", reason) == {"a": "running"}
    assert after_end("transient", reason) == {"a": "stopped"}
    assert after_end("temporary", reason) == {}


@pytest.mark.parametrize("reason", [CRASH, Killed()])
def test_rows_052_to_054_abnormal(reason: ExitReason):
    assert after_end("permanent", reason) == {"a": "running"}
    assert after_end("transient", reason) == {"a": "running"}
    assert after_end("temporary", reason) == {}


def test_row_051_faulty_application_shutdown():
    inner = FailedToStart("app/tree", "leaf", CRASH)
    error = FailedToStart("app", "tree", Crashed(inner))
    assert error.chain == ("tree", "leaf")
    assert error.root == CRASH
    assert error.__cause__ is inner
    assert str(error) == "app: child 'tree' > 'leaf' failed to start: crashed (Boom: boom)"


def test_row_056_tree_counts_supervisors():
    sim = Simulation([a_child("a"), child(Supervisor([]), id="s"), child(Supervisor([]), id="t")]).boot()
    sim.ask(TerminateChild("t"))
    assert sim.core.count() == ChildCount(specs=3, active=2, supervisors=2, workers=1)


# -- misc


@pytest.mark.parametrize("how", ["terminate", "end"])
@pytest.mark.parametrize("supervisors", [False, True], ids=["workers", "supervisors"])
def test_rows_071_072_count_children(supervisors: bool, how: str):
    def count(instances: int) -> ChildCount:
        of_kind = (instances, 0) if supervisors else (0, instances)
        return ChildCount(specs=1, active=instances, supervisors=of_kind[0], workers=of_kind[1])

    template = child(Supervisor([]) if supervisors else lambda: None, id="w", restart="temporary")
    sim = Simulation([template], "simple_one_for_one").boot()
    for _ in range(1000):
        sim.spawn()
    assert sim.core.count() == count(1000)
    for number in range(1, 1001):
        if how == "terminate":
            sim.ask(TerminateChild(f"w:{number}"))
        else:
            sim.end(f"w:{number}", Killed())
        assert sim.core.count() == count(1000 - number)


def test_row_073_count_restarting_children():
    sim = Simulation("w", "simple_one_for_one", intensity=10).boot()
    ids = [sim.spawn().id for _ in range(3)]
    sim.failing = set(ids)
    for id_ in ids:
        sim.end(id_)
    assert sim.statuses() == dict.fromkeys(ids, "restarting")
    assert sim.core.count() == ChildCount(specs=1, active=0, supervisors=0, workers=3)
    sim.failing.remove(ids[0])
    sim.settle_once()
    assert sim.core.count().active == 1
    for id_ in ids:
        assert sim.ask(TerminateChild(id_)).error is None
    assert sim.core.which() == []


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("how", [Killed(), Normal(), CRASH, None])
def test_row_076_do_not_save_child_specs_for_temporary_children(
    strategy: Strategy, restart: Restart, how: ExitReason | None
):
    sim = Simulation([], strategy).boot()
    sim.add(a_child("a", restart))
    assert refused(sim.add(a_child("a", restart)), AlreadyStarted)
    if how is None:
        sim.ask(TerminateChild("a"))
    else:
        sim.end("a", how)
    again = sim.add(a_child("a", restart))
    if restart == "temporary":
        assert again.error is None
    elif how is None or (restart == "transient" and how == Normal()):
        assert refused(again, AlreadyPresent)
    else:
        assert refused(again, AlreadyStarted)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_row_078_temporary_bystander(strategy: Strategy):
    sim = Simulation([a_child("a"), a_child("t", "temporary")], strategy, intensity=1).boot()
    sim.took()
    sim.end("a")
    assert sim.took() == ["end a", "stop t", "start a"]
    assert sim.statuses() == {"a": "running"}
    assert sim.core.restarts(sim.now) == 1


def test_row_080_hanging_restart_loop():
    sim = Simulation("a b", intensity=1000).boot()
    sim.failing = {"a"}
    sim.end("a")
    for _ in range(5):
        sim.settle_once()
        assert refused(sim.add(a_child("a")), AlreadyPresent)
        assert refused(sim.ask(RestartChild("a")), ChildRestarting)
        assert refused(sim.ask(DeleteChild("a")), ChildRestarting)
        assert sim.statuses() == {"a": "restarting", "b": "running"}
        assert sim.core.count() == ChildCount(specs=2, active=1, supervisors=0, workers=2)
    assert sim.ask(TerminateChild("a")).error is None
    sim.took()
    sim.settle()
    assert sim.took() == []
    assert sim.statuses() == {"a": "stopped", "b": "running"}
    sim.failing.clear()
    assert sim.ask(RestartChild("a")).error is None
    sim.failing = {"a"}
    sim.end("a")
    sim.stop()
    assert sim.outcome == Stopped(Shutdown())


def test_row_081_hanging_restart_loop_rest_for_one():
    sim = Simulation("a b c", "rest_for_one", intensity=1000).boot()
    sim.failing = {"b"}
    sim.end("b")
    for _ in range(5):
        sim.settle_once()
        assert refused(sim.add(a_child("b")), AlreadyPresent)
        assert refused(sim.ask(RestartChild("b")), ChildRestarting)
        assert refused(sim.ask(DeleteChild("b")), ChildRestarting)
        assert sim.statuses() == {"a": "running", "b": "restarting", "c": "stopped"}
    assert sim.ask(TerminateChild("b")).error is None
    assert sim.statuses() == {"a": "running", "b": "stopped", "c": "stopped"}
    sim.stop()
    assert sim.outcome == Stopped(Shutdown())


@pytest.mark.parametrize("then", ["terminate", "stop"])
def test_row_082_hanging_restart_loop_simple(then: str):
    sim = Simulation("w", "simple_one_for_one", intensity=1000).boot()
    sim.spawn()
    sim.spawn()
    sim.failing = {"w:1"}
    sim.end("w:1")
    for _ in range(5):
        sim.settle_once()
        assert sim.statuses() == {"w:1": "restarting", "w:2": "running"}
        for request in (RestartChild("w:1"), DeleteChild("w:1")):
            assert refused(sim.ask(request), WrongStrategy)
        assert sim.core.count() == ChildCount(specs=1, active=1, supervisors=0, workers=2)
    if then == "stop":
        sim.stop()
        assert sim.outcome == Stopped(Shutdown())
        return
    assert sim.ask(TerminateChild("w:1")).error is None
    sim.settle()
    assert sim.statuses() == {"w:2": "running"}


def test_row_087_order_of_children():
    sim = Simulation("a b c d e", "one_for_all").boot()
    assert sim.took() == [f"start {id_}" for id_ in "abcde"]
    sim.end("c")
    assert sim.took() == ["end c", *(f"stop {id_}" for id_ in "edba"), *(f"start {id_}" for id_ in "abcde")]
    sim.add(a_child("0"))  # at the end, whatever its name
    sim.took()
    sim.stop()
    assert sim.took() == [f"stop {id_}" for id_ in "0edcba"]


def calls_of(work: Callable[[], object]) -> int:
    """How many Python calls it takes: what an event costs must not grow with the number of children."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("how", ["terminate", "end"])
def test_row_077_simple_one_for_one_scale_many_temporary_children(how: str):
    def work(instances: int) -> int:
        sim = Simulation([a_child("w", "temporary")], "simple_one_for_one").boot()
        ids = [sim.spawn().id for _ in range(instances)]

        def all_go() -> None:
            for id_ in ids:
                if how == "terminate":
                    sim.send(TerminateChild(id_))
                else:
                    sim.end(id_)

        calls = calls_of(all_go)
        assert sim.core.which() == []
        return calls

    assert work(2000) < 10.5 * work(200)


def test_row_088_scale_start_stop_many_children():
    def work(children: int) -> int:
        sim = Simulation([a_child(f"c{n}") for n in range(children)])

        def live() -> None:
            sim.boot()
            sim.stop()

        calls = calls_of(live)
        assert sim.outcome == Stopped(Shutdown())
        return calls

    assert work(2000) < 4.4 * work(500)


def test_row_092_which_children():
    sim = Simulation([]).boot()
    spec = a_child("a")
    added = sim.add(spec).child
    assert added is not None
    assert sim.core.which() == [added]
    assert (added.id, added.status, added.spec) == ("a", "running", spec)
    assert added.incarnation == sim.alive["a"]
    sim.ask(TerminateChild("a"))
    assert [(s.status, s.incarnation) for s in sim.core.which()] == [("stopped", None)]
    sim.ask(RestartChild("a"))
    assert sim.statuses() == {"a": "running"}
    sim.ask(TerminateChild("a"))
    sim.ask(DeleteChild("a"))
    assert sim.core.which() == []


def test_row_093_which_children_simple_one_for_one():
    sim = Simulation("w", "simple_one_for_one").boot()
    assert sim.core.which() == []
    state = sim.spawn()
    assert sim.core.which() == [state]
    sim.ask(TerminateChild(state.id))
    assert sim.core.child(state.id) is None
