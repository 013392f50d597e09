"""The supervision core where OTP's own tests say nothing: slow children, backoff, history, requests meanwhile."""

from random import Random

import pytest

from otp._core_state import HISTORY
from otp._errors import FailedToStart, GaveUp
from otp._exit import Normal, Shutdown
from otp._protocol import (
    AddChild,
    Change,
    ChildDown,
    ChildIgnored,
    ChildUp,
    DeleteChild,
    GiveUp,
    RestartChild,
    RetryDue,
    Start,
    StartFailed,
    StartInstance,
    Stopped,
    TerminateChild,
)
from otp._refusals import AlreadyPresent, AlreadyStarted, ChildRestarting, ChildRunning, SupervisorStopped
from otp._spec import Backoff, Strategy, Supervisor
from tests.otp.simulator import CRASH, Simulation, a_child

STEADY = Backoff(initial=1.0, factor=2.0, cap=8.0, jitter=0.0, reset_after=60.0)


# -- slow children: the core answers meanwhile


def test_the_boot_waits_for_a_slow_child_and_can_be_stopped():
    sim = Simulation("a b c")
    sim.slow_start = {"b"}
    sim.boot()
    assert sim.statuses() == {"a": "running", "b": "starting", "c": "starting"}
    sim.took()
    sim.stop()
    assert sim.took() == ["stop b", "stop a"]
    assert sim.outcome == Stopped(Shutdown())
    assert not sim.started


def test_what_fails_during_the_boot_is_restarted_after_it():
    sim = Simulation("a b c", "one_for_all")
    sim.slow_start = {"c"}
    sim.boot()
    sim.took()
    sim.end("a")
    sim.end("b")
    assert sim.statuses() == {"a": "restarting", "b": "restarting", "c": "starting"}
    assert sim.took() == ["end a", "end b"]
    sim.slow_start.clear()
    sim.come_up("c")
    assert sim.started
    assert sim.took() == ["stop c", "start a", "start b", "start c"]
    assert sim.core.restarts(sim.now) == 1


def test_the_boot_goes_on_in_order_before_what_failed_meanwhile_is_restarted():
    sim = Simulation("a b c", intensity=1)
    sim.slow_start = {"b", "c"}
    sim.boot()
    sim.end("a")
    sim.took()
    sim.come_up("b")
    assert sim.took() == ["start c"]
    sim.come_up("c")
    assert sim.started
    assert sim.took() == ["start a"]


def test_a_failed_start_during_the_boot_rolls_back_whatever_ended_before():
    sim = Simulation("a b c")
    sim.slow_start = {"c"}
    sim.boot()
    sim.end("a")
    sim.took()
    sim.fail_to_start("c")
    assert sim.took() == ["stop b"]
    assert isinstance(sim.outcome, StartFailed)


def test_a_crash_while_a_sibling_is_slow_to_start_is_charged_at_once_and_waits_its_turn():
    sim = Simulation("a b c").boot()
    sim.slow_start = {"a"}
    sim.end("a")
    sim.end("b")
    assert sim.core.restarts(sim.now) == 2
    assert sim.statuses() == {"a": "starting", "b": "restarting", "c": "running"}
    sim.took()
    sim.come_up("a")
    assert sim.took() == ["start b"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_doomed_start_does_not_hold_up_who_is_terminated(strategy):
    """In OTP the request would lie in the supervisor's mailbox for as long as the start of `d` takes."""
    sim = Simulation("a b c", strategy).boot()
    sim.slow_start = {"d"}
    sim.slow_stop = {"c"}
    sim.send(AddChild(a_child("d")))
    sim.end("a")
    sim.took()
    first, second = TerminateChild("b"), TerminateChild("c")
    sim.send(first)
    assert sim.took() == ["stop b"]  # and not `c`: the group waits for the start that is under way
    assert sim.replies[first].error is None
    sim.send(second)
    assert sim.took() == ["stop c"]
    sim.come_up("d")
    assert sim.took() == []  # one of the group at a time
    sim.finish("c")
    assert sim.replies[second].error is None
    assert sim.took() == ["stop d", "start a", "start d"]
    assert sim.statuses()["b"] == sim.statuses()["c"] == "stopped"


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_a_slow_stop_does_not_hold_up_who_is_terminated(strategy: Strategy):
    """In OTP the supervisor waits for it. Here it might wait for ever: nobody can be killed."""
    sim = Simulation("a b c", strategy).boot()
    sim.slow_stop = {"b"}
    sim.took()
    stuck = TerminateChild("b")
    sim.send(stuck)
    for id_ in "ac":
        assert sim.ask(TerminateChild(id_)).error is None
        assert sim.ask(DeleteChild(id_)).error is None
    assert sim.took() == ["stop b", "stop a", "stop c"]
    assert stuck not in sim.replies
    sim.stop()
    assert sim.outcome is None
    sim.finish("b")
    assert sim.outcome == Stopped(Shutdown())


def test_the_end_of_the_supervisor_waits_for_all_that_were_terminated_and_then_keeps_its_order():
    sim = Simulation("a b c d").boot()
    sim.slow_stop = {"a", "b"}
    sim.took()
    for id_ in "ab":
        sim.send(TerminateChild(id_))
    sim.stop()
    sim.finish("b")
    assert sim.took() == ["stop a", "stop b"]
    sim.finish("a")
    assert sim.took() == ["stop d", "stop c"]
    assert sim.outcome == Stopped(Shutdown())


def test_a_slow_stop_does_not_hold_up_an_independent_restart():
    sim = Simulation("a b").boot()
    sim.slow_stop = {"a"}
    request = TerminateChild("a")
    sim.send(request)
    sim.took()
    sim.end("b")
    assert sim.took() == ["end b", "start b"]
    assert request not in sim.replies
    sim.finish("a")
    assert sim.replies[request].error is None


def test_a_slow_stop_holds_up_the_restart_of_its_group():
    sim = Simulation("a b c", "one_for_all").boot()
    sim.slow_stop = {"b"}
    sim.took()
    sim.end("a")
    assert sim.took() == ["end a", "stop c", "stop b"]
    assert sim.statuses() == {"a": "restarting", "b": "stopping", "c": "restarting"}
    sim.finish("b")
    assert sim.took() == ["start a", "start b", "start c"]


def test_a_second_crash_while_the_group_stops_is_absorbed():
    sim = Simulation("a b c", "one_for_all", intensity=1).boot()
    sim.slow_stop = {"c"}
    sim.end("a")
    sim.end("b")  # before its turn to be stopped
    sim.took()
    sim.end("c")  # while it is being stopped
    assert sim.took() == ["end c", "start a", "start b", "start c"]
    assert sim.core.restarts(sim.now) == 1


def test_a_crash_in_the_middle_of_a_group_restart_starts_it_over():
    sim = Simulation("a b c", "one_for_all").boot()
    sim.slow_start = {"b"}
    sim.end("a")
    sim.took()
    sim.end("a")
    assert sim.took() == ["end a"]  # the start of b is left to finish
    sim.slow_start.clear()
    sim.come_up("b")
    assert sim.took() == ["stop b", "start a", "start b", "start c"]
    assert sim.core.restarts(sim.now) == 2


def test_a_start_that_fails_although_its_group_goes_down_anyway_is_not_charged():
    sim = Simulation("a b c", "one_for_all").boot()
    sim.slow_start = {"b"}
    sim.end("a")
    sim.end("a")
    sim.took()
    sim.slow_start.clear()
    sim.fail_to_start("b")
    assert sim.took() == ["start a", "start b", "start c"]
    assert sim.core.restarts(sim.now) == 2


def test_an_added_child_that_is_slow_to_start_is_up_before_its_group_restarts():
    sim = Simulation("a", "one_for_all").boot()
    sim.slow_start = {"x"}
    request = AddChild(a_child("x"))
    sim.send(request)
    sim.took()
    sim.end("a")
    assert sim.took() == ["end a"]
    sim.slow_start.clear()
    sim.come_up("x")
    assert sim.replies[request].error is None
    assert sim.took() == ["stop x", "start a", "start x"]


def test_requests_are_refused_at_once_while_a_child_is_slow_to_start():
    sim = Simulation("a b").boot()
    sim.slow_start = {"a"}
    sim.end("a")
    assert isinstance(sim.add(a_child("a")).error, AlreadyStarted)
    assert isinstance(sim.ask(RestartChild("a")).error, ChildRunning)
    assert isinstance(sim.ask(DeleteChild("a")).error, ChildRunning)
    assert isinstance(sim.ask(RestartChild("b")).error, ChildRunning)
    assert sim.ask(TerminateChild("b")).error is None
    assert sim.ask(DeleteChild("b")).error is None


def test_starts_on_request_wait_for_their_turn_and_are_all_answered():
    sim = Simulation([]).boot()
    sim.slow_start = {"a"}
    first, second = AddChild(a_child("a")), AddChild(a_child("b"))
    sim.send(first)
    sim.send(second)
    assert sim.statuses() == {"a": "starting", "b": "starting"}
    assert isinstance(sim.add(a_child("b")).error, AlreadyStarted)
    sim.come_up("a")
    assert sim.replies[first].error is None
    assert sim.replies[second].error is None


def test_terminate_breaks_off_a_start_on_request():
    sim = Simulation([]).boot()
    sim.slow_start = {"a"}
    add = AddChild(a_child("a"))
    sim.send(add)
    assert sim.ask(TerminateChild("a")).error is None
    assert isinstance(sim.replies[add].error, FailedToStart)
    assert sim.core.which() == []


@pytest.mark.parametrize("how", ["fails", "is ignored"])
def test_terminate_is_answered_when_the_start_ends_by_itself(how: str):
    sim = Simulation("a b")
    sim.slow_stop = {"a", "b"}
    sim.slow_start = {"b"}
    sim.boot()
    sim.come_up("b")
    sim.send(TerminateChild("a"))
    sim.end("b")
    request = TerminateChild("b")
    sim.send(request)
    assert sim.statuses() == {"a": "stopping", "b": "stopping"}
    if how == "fails":
        sim.fail_to_start("b")
    else:
        sim.send(ChildIgnored("b", sim.alive.pop("b")))
    assert sim.replies[request].error is None
    assert sim.statuses() == {"a": "stopping", "b": "stopped"}


def test_terminate_takes_back_a_start_on_request_before_its_turn():
    sim = Simulation([]).boot()
    sim.slow_start = {"a"}
    sim.send(AddChild(a_child("a")))
    add = AddChild(a_child("b"))
    sim.send(add)
    assert sim.ask(TerminateChild("b")).error is None
    assert isinstance(sim.replies[add].error, FailedToStart)
    sim.took()
    sim.come_up("a")
    assert sim.took() == []
    assert sim.statuses() == {"a": "running"}


def test_terminate_while_the_group_stops_takes_the_child_out_of_the_restart():
    sim = Simulation("a b c", "one_for_all").boot()
    sim.slow_stop = {"c"}
    sim.end("a")
    sim.took()
    assert sim.ask(TerminateChild("b")).error is None
    assert sim.took() == ["stop b"]  # at once: who is slow to stop, or never does, holds up no request
    sim.finish("c")
    assert sim.took() == ["start a", "start c"]
    assert sim.statuses() == {"a": "running", "b": "stopped", "c": "running"}


def test_stop_answers_everybody_who_waits():
    sim = Simulation("a b").boot()
    sim.slow_start, sim.slow_stop = {"x"}, {"b"}
    add, terminate = AddChild(a_child("x")), TerminateChild("b")
    sim.send(add)
    sim.send(terminate)
    sim.stop()
    assert isinstance(sim.replies[add].error, SupervisorStopped)
    assert terminate not in sim.replies
    sim.finish("b")
    assert sim.replies[terminate].error is None
    assert sim.outcome == Stopped(Shutdown())


def test_a_start_that_succeeds_although_it_was_told_to_stop_is_stopped():
    sim = Simulation("a b").boot()
    sim.slow_start, sim.slow_stop = {"a"}, {"a"}
    sim.end("a")
    sim.stop()
    incarnation = sim.starting["a"].incarnation
    sim.send(ChildUp("a", incarnation, sim.now))
    assert sim.outcome is None
    sim.finish("a")
    assert sim.outcome == Stopped(Shutdown())


def test_the_first_outcome_stands():
    sim = Simulation("a b", intensity=0).boot()
    sim.slow_stop = {"b"}
    sim.end("a")
    sim.stop()
    sim.finish("b")
    assert isinstance(sim.outcome, GiveUp)
    assert sim.core.over


def test_stop_before_the_start():
    sim = Simulation("a b")
    assert isinstance(sim.ask(TerminateChild("a")).error, SupervisorStopped)
    sim.stop()
    assert sim.outcome == Stopped(Shutdown())
    sim.send(Start())
    assert sim.took() == []


def test_stale_events_change_nothing():
    sim = Simulation("a b").boot()
    old = sim.alive["a"]
    sim.end("a")
    sim.took()
    before = sim.core.which(), sim.core.history
    for event in (ChildDown("a", old, CRASH, 0.0), ChildUp("a", old, 0.0), ChildDown("z", 1, CRASH, 0.0)):
        assert sim.core.handle(event) == []
    assert sim.core.handle(RetryDue(7, 0.0)) == []
    assert (sim.core.which(), sim.core.history) == before


def test_who_becomes_temporary_while_it_starts_and_fails_within_the_restart_of_its_group_is_forgotten():
    """Found by the soak: its group does not restart it, so it stayed "restarting" for ever."""
    sim = Simulation("a b", "one_for_all")
    sim.boot()
    sim.slow_start = {"b"}
    sim.end("a")
    assert sim.statuses() == {"a": "running", "b": "starting"}
    sim.ask(Change(Supervisor([a_child("a"), a_child("b", "temporary")], strategy="one_for_all")))
    sim.end("a")
    sim.fail_to_start("b")
    assert sim.statuses() == {"a": "running"}


def test_a_start_by_request_that_fails_within_the_restart_of_its_group_leaves_the_child_stopped():
    """Found by the soak: it stayed "restarting" for ever, with nothing to bring it back, and could not be asked for."""
    sim = Simulation("a b c", "one_for_all")
    sim.boot()
    sim.ask(TerminateChild("b"))
    sim.ask(TerminateChild("c"))
    sim.slow_start = {"b"}
    sim.send(RestartChild("b"))
    sim.send(asked := RestartChild("c"))  # waits for its turn
    sim.slow_start.clear()
    sim.failing = {"c"}
    sim.end("a")
    sim.come_up("b")
    assert isinstance(sim.replies[asked].error, FailedToStart)
    assert sim.statuses() == {"a": "running", "b": "running", "c": "stopped"}
    assert not sim.retries
    sim.failing.clear()
    assert sim.ask(RestartChild("c")).error is None


# -- backoff


def test_backoff_grows_to_its_cap_and_starts_over_after_a_healthy_time():
    sim = Simulation("a", intensity=100, backoff=STEADY).boot()
    delays = []
    for _ in range(5):
        sim.end("a")
        assert sim.statuses() == {"a": "restarting"}
        delays.append(sim.last().delay)
        sim.advance(delays[-1])
        assert sim.statuses() == {"a": "running"}
    assert delays == [1.0, 2.0, 4.0, 8.0, 8.0]
    sim.advance(59.9)
    sim.end("a")
    assert sim.last().delay == 8.0
    sim.advance(8.0 + 60.0)
    sim.end("a")
    assert sim.last().delay == 1.0


def test_backoff_counts_failed_starts_too():
    sim = Simulation("a", intensity=100, backoff=STEADY).boot()
    sim.advance(100.0)
    sim.failing = {"a"}
    sim.end("a")
    sim.advance(1.0 + 2.0 + 4.0)
    assert [d.delay for d in sim.core.history if d.verdict == "wait"] == [1.0, 2.0, 4.0, 8.0]


def test_a_wait_is_charged_when_it_ends():
    sim = Simulation("a", intensity=1, backoff=STEADY).boot()
    sim.end("a")
    assert sim.core.restarts(sim.now) == 0
    sim.advance(1.0)
    assert sim.core.restarts(sim.now) == 1
    assert sim.verdicts() == ["wait", "retry"]


def test_the_child_has_its_own_backoff_before_the_supervisors():
    sim = Simulation([a_child("a", backoff=STEADY), a_child("b")], backoff=Backoff(initial=5.0, jitter=0.0)).boot()
    sim.end("a")
    assert sim.last().delay == 1.0
    sim.end("b")
    assert sim.last().delay == 5.0


@pytest.mark.parametrize("failures", [1, 2, 50, 10_000])
def test_jitter_takes_off_at_most_its_fraction(failures: int):
    backoff = Backoff(initial=1.0, factor=2.0, cap=30.0, jitter=0.25)
    full = min(30.0, 2.0 ** min(failures - 1, 100))
    delays = {backoff.delay(failures, Random(seed)) for seed in range(100)}
    assert all(0.75 * full <= delay <= full for delay in delays)
    assert len(delays) > 50


def test_terminate_during_backoff_does_not_resurrect():
    sim = Simulation("a b", backoff=STEADY).boot()
    sim.end("a")
    assert sim.ask(TerminateChild("a")).error is None
    sim.took()
    sim.advance(10.0)
    assert sim.took() == []
    assert sim.statuses() == {"a": "stopped", "b": "running"}
    assert sim.core.restarts(sim.now) == 0


def test_a_stale_retry_does_not_shorten_a_later_wait():
    sim = Simulation("a", backoff=STEADY).boot()
    sim.end("a")
    sim.ask(TerminateChild("a"))
    sim.advance(0.5)
    sim.ask(RestartChild("a"))
    sim.end("a")
    sim.took()
    sim.advance(0.5)  # when the first would have been due
    assert sim.took() == []
    assert sim.core.restarts(sim.now) == 0
    sim.advance(0.5)
    assert sim.took() == ["start a"]
    assert sim.verdicts() == ["wait", "wait", "retry"]


def test_a_group_waits_as_a_whole_and_once():
    sim = Simulation("a b c d", "rest_for_one", intensity=1, backoff=STEADY).boot()
    sim.took()
    sim.end("c")
    assert sim.took() == ["end c", "stop d"]
    assert sim.statuses() == {"a": "running", "b": "running", "c": "restarting", "d": "stopped"}
    sim.advance(0.5)
    sim.end("b")  # joins, with its own rest
    assert sim.took() == ["end b"]
    assert sim.statuses() == {"a": "running", "b": "restarting", "c": "restarting", "d": "stopped"}
    sim.advance(0.5)
    assert sim.took() == ["start b", "start c", "start d"]
    assert sim.verdicts() == ["wait", "join", "retry"]
    assert sim.core.restarts(sim.now) == 1


def test_a_child_terminated_while_its_group_waits_stays_down_and_its_siblings_come_back():
    sim = Simulation("a b c", "one_for_all", backoff=STEADY).boot()
    sim.end("b")
    sim.ask(TerminateChild("b"))
    sim.ask(TerminateChild("c"))
    sim.took()
    sim.advance(1.0)
    assert sim.took() == ["start a"]
    assert sim.statuses() == {"a": "running", "b": "stopped", "c": "stopped"}


def test_a_child_that_came_up_while_its_group_waits_restarts_with_it():
    sim = Simulation("a b", "one_for_all", backoff=STEADY).boot()
    sim.end("a")
    sim.add(a_child("x"))
    assert sim.ask(RestartChild("b")).error is None
    assert isinstance(sim.ask(RestartChild("a")).error, ChildRestarting)
    assert isinstance(sim.add(a_child("a")).error, AlreadyPresent)
    assert sim.statuses() == {"a": "restarting", "b": "running", "x": "running"}
    sim.took()
    sim.advance(1.0)
    assert sim.took() == ["stop x", "stop b", "start a", "start b", "start x"]


def test_stop_during_backoff():
    sim = Simulation("a b", backoff=STEADY).boot()
    sim.end("a")
    sim.stop()
    assert sim.outcome == Stopped(Shutdown())
    sim.advance(10.0)


# -- history


def test_the_history_remembers_the_last_decisions():
    sim = Simulation([a_child("a"), a_child("t", "transient"), a_child("x", "temporary")], intensity=1000).boot()
    sim.end("t", Normal())
    sim.end("x")
    assert sim.verdicts() == ["leave", "forget"]
    for _ in range(HISTORY):
        sim.advance(1.0)
        sim.end("a")
    assert sim.verdicts() == ["restart"] * HISTORY
    last = sim.last()
    assert (last.time, last.child, str(last.reason)) == (50.0, "a", str(CRASH))
    assert last.incarnation == sim.alive["a"] - 1
    assert (last.used, last.limit) == (6, 1000)


def test_giving_up_says_why():
    sim = Simulation("a", intensity=0).boot()
    sim.end("a")
    assert isinstance(sim.outcome, GiveUp)
    error = sim.outcome.reason.exception
    assert isinstance(error, GaveUp)
    assert error.__cause__ is CRASH.exception
    assert str(error) == ("app gave up: child 'a' needed more than 0 restarts in 5 s, last exit: crashed (Boom: boom)")


def test_instances_ask_for_nothing_of_a_plain_supervisor():
    sim = Simulation("a").boot()
    assert str(sim.ask(StartInstance()).error) == "app has a strategy that knows no such request"
