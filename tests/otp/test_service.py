"""A service in the test's own process, in virtual time: phases, exit codes, what the probes would say."""

import logging
import math
import signal

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    Behaviour,
    ChildStarted,
    ChildStuck,
    Killed,
    RestartBudget,
    Runtime,
    Supervisor,
    child,
    run,
    send,
    serve,
)
from otp._probes import Answer
from otp._service import DRAINED, FAILED, ServicePhase, _Service
from otp._settings import RunSettings
from otp._stop_request import GIVEN_BACK
from otp.testing import capture_events


class Consumer(Behaviour):
    """Has `work` seconds of work when the drain begins."""

    def __init__(self, work=0.0, stop=0.0, init=0.0):
        self.work = work
        self.stop = stop
        self.init = init

    async def serve(self, context):
        await trio.sleep(self.init)
        with context.drains():
            context.started()
            await self.work_until_stopped(context)
        await context.stopping.wait()
        await trio.sleep(self.stop)

    async def work_until_stopped(self, context):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def work():
                await context.draining.wait()
                await trio.sleep(self.work)
                nursery.cancel_scope.cancel()

            await context.stopping.wait()
            nursery.cancel_scope.cancel()


class Service(_Service):
    """With a log of its phases and times, and the end of the process replaced."""

    def __init__(self, children, **settings):
        super().__init__(Supervisor(children, strategy="one_for_one"), RunSettings(**settings))
        self.phases: list[tuple[str, float]] = []
        self.runtime.events.subscribe(self._note, ServicePhase)

    def _note(self, event):
        self.phases.append((event.phase, round(event.at - self.began, 1)))

    async def run_and_ask(self, *times):
        """Run, and ask to stop at these times."""
        self.began = trio.current_time()

        async def ask():
            for time in times:
                await trio.sleep_until(self.began + time)
                self.stop_request.ask("the test")

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                code = await self.run()
                nursery.cancel_scope.cancel()
        finally:
            self.dismiss()
        return code

    async def at(self, time):
        await trio.sleep_until(self.began + time)


async def test_drains_and_then_stops(autojump_clock):
    service = Service([child(lambda: Consumer(work=3, stop=1), id="jobs")])
    assert await service.run_and_ask(10) == DRAINED
    assert service.phases == [("serving", 0), ("draining", 10), ("stopping", 13), ("stopped", 14)]


async def test_settles_first_and_says_it_is_not_ready(autojump_clock):
    service = Service([child(lambda: Consumer(work=3, init=2), id="jobs")], settle=5.0)
    seen = []

    async def look():
        for time in (1, 5, 12, 16, 19):
            await service.at(time)
            ready = service.ready()
            seen.append((service.live().ok, service.started().ok, ready.ok, ready.reasons[:1]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        assert await service.run_and_ask(10) == DRAINED
    assert service.phases == [("serving", 2), ("settling", 10), ("draining", 15), ("stopping", 18), ("stopped", 18)]
    assert seen == [
        (True, False, False, ("not started, or stopping",)),
        (True, True, True, ()),
        (True, True, False, ("shutting down: settling",)),
        (True, True, False, ("shutting down: draining",)),
        (True, True, False, ("shutting down: stopped",)),
    ]


async def test_a_bad_condition_makes_it_not_ready_but_leaves_it_alive(autojump_clock):
    async def needs_a_store():
        from otp import current_context

        current_context().condition("store", False, "connection refused")
        await trio.sleep_forever()

    service = Service([child(needs_a_store)])

    async def look():
        await service.at(1)
        assert service.live().ok
        assert service.ready().reasons == ("app/needs_a_store: store (connection refused)",)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await service.run_and_ask(2)


async def test_a_parked_child_leaves_it_ready_and_is_named(autojump_clock):
    async def fails():
        raise ValueError

    service = Service([child(fails, budget=RestartBudget(intensity=0, on_exceed="park"))])

    async def look():
        await service.at(1)
        assert service.ready() == Answer(ok=True, details={"parked": ["app/fails"]})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await service.run_and_ask(2)


async def test_work_that_is_not_done_in_time_is_given_back(autojump_clock, caplog):
    service = Service([child(lambda: Consumer(work=math.inf), id="slow"), child(Consumer)])
    assert await service.run_and_ask(1) == GIVEN_BACK
    assert service.phases[-2:] == [("stopping", 20), ("stopped", 20)]
    assert "given back: app/slow" in caplog.text


async def test_a_second_request_cuts_the_drain_short(autojump_clock):
    service = Service([child(lambda: Consumer(work=math.inf), id="slow")], settle=4.0)
    assert await service.run_and_ask(1, 7) == GIVEN_BACK
    assert service.phases[1:] == [("settling", 1), ("draining", 5), ("stopping", 7.5), ("stopped", 7.5)]


async def test_a_second_request_while_it_stops_leaves_children_less_time_but_some_for_their_cleanup(autojump_clock):
    cleaned = []

    class Stubborn(Actor):
        async def handle_message(self, message):
            await trio.sleep_forever()

        async def terminate(self, reason):
            cleaned.append(reason)

    async def keep_busy():
        send("stubborn", "work")
        await trio.sleep_forever()

    service = Service([child(Stubborn, name="stubborn", shutdown=60.0), child(keep_busy)])
    assert await service.run_and_ask(1, 2) == DRAINED
    assert service.phases[-2:] == [("stopping", 1), ("stopped", 5)]
    assert cleaned == [Killed()]


async def test_a_second_request_cuts_settling_short_and_work_that_is_done_is_not_given_back(autojump_clock):
    service = Service([child(lambda: Consumer(work=0), id="idle")], settle=4.0)
    assert await service.run_and_ask(1, 2) == DRAINED
    assert service.phases[1:] == [("settling", 1), ("draining", 2), ("stopping", 2), ("stopped", 2)]


async def test_children_that_would_take_longer_together_than_there_is_time(autojump_clock):
    """Each has 5 s of its own. After the drain the whole has 5 s: the first gets 4, the others are stopped at once."""
    service = Service([child(lambda: Consumer(stop=math.inf), id=name) for name in "abc"])
    assert await service.run_and_ask(1) == DRAINED
    assert service.phases[-2:] == [("stopping", 1), ("stopped", 16)]
    service = Service([child(lambda: Consumer(work=math.inf, stop=math.inf), id=name) for name in "abc"])
    assert await service.run_and_ask(1) == GIVEN_BACK
    assert service.phases[-2:] == [("stopping", 20), ("stopped", 24)]


async def test_a_request_while_it_starts_stops_the_start(autojump_clock):
    service = Service([child(lambda: Consumer(work=2), id="jobs"), child(lambda: Consumer(init=20), id="late")])
    assert await service.run_and_ask(3) == DRAINED
    assert service.phases == [("draining", 3), ("stopping", 5), ("stopped", 5)], "what had started was drained"


async def test_a_request_before_it_starts_counts(autojump_clock):
    service = Service([child(Consumer)])
    service.stop_request.ask("an early signal")
    assert await service.run_and_ask() == DRAINED
    assert ("serving", 0) not in service.phases


async def test_reports_what_it_waits_for(autojump_clock, caplog):
    caplog.set_level(logging.INFO)
    service = Service([child(lambda: Consumer(work=12, stop=4), id="jobs"), child(Consumer)])
    await service.run_and_ask(1)
    lines = [line for line in caplog.messages if "waiting for" in line]
    assert lines == [
        "draining, 20.0 s left, waiting for app/jobs",
        "draining, 15.0 s left, waiting for app/jobs",
        "stopping, 10.0 s left, waiting for app/jobs",
    ]


async def deaf():
    """Goes on for 30 s after it was cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(30)


class DeafInInit(Actor):
    async def init(self):
        with trio.CancelScope(shield=True):
            await trio.sleep(30)


async def fail_at_3():
    await trio.sleep(3)
    raise ValueError


def jobs(work):
    return child(lambda: Consumer(work=work), id="jobs")


def group_that_waits():
    """One fails at 3, so the other is cancelled; that is found to be stuck at 9, and ends at 33."""
    return child(Supervisor([child(deaf, shutdown=1.0), child(fail_at_3)], strategy="one_for_all"), id="group")


async def test_what_is_stuck_is_reported_and_waited_for(autojump_clock):
    service = Service([group_that_waits()])
    said = []
    service.runtime.events.subscribe(lambda _: said.append(service.ready()), ChildStuck)
    assert await service.run_and_ask(34) == DRAINED
    assert said[0] == Answer(ok=True, details={"stuck": ["app/group/deaf"]})
    assert service.phases[:2] == [("serving", 0), ("draining", 34)], "it went on until it was asked"


async def test_what_is_stuck_makes_it_stop_if_the_settings_say_so(autojump_clock, caplog):
    """Otherwise its group would wait for it, in a process that seems well."""
    caplog.set_level(logging.INFO)
    service = Service([group_that_waits(), jobs(4)], settle=2.0, grace=40.0, on_stuck="stop")
    with capture_events(service.runtime) as events:
        assert await service.run_and_ask() == FAILED
    assert service.phases == [("serving", 0), ("settling", 9), ("draining", 11), ("stopping", 15), ("stopped", 33)]
    assert [event.by for event in events.of(ServicePhase)] == [None, *["on_stuck (app/group/deaf)"] * 4]
    assert "the service has failed: app/group/deaf is stuck, and on_stuck is 'stop'" in caplog.text
    assert "asked to stop by on_stuck (app/group/deaf): 40.0 s left" in caplog.text


async def test_work_given_back_does_not_hide_that_something_was_stuck(autojump_clock):
    service = Service([group_that_waits(), jobs(math.inf)], grace=40.0, on_stuck="stop")
    assert await service.run_and_ask() == FAILED
    assert service._not_done == ["app/jobs"]


async def test_what_is_stuck_in_its_init_makes_the_service_stop_too(autojump_clock):
    service = Service([jobs(4), child(DeafInInit, init_timeout=1.0)], grace=40.0, on_stuck="stop")
    assert await service.run_and_ask() == FAILED
    assert service.phases == [("draining", 6), ("stopping", 10), ("stopped", 30)]


@pytest.mark.parametrize("asked", [2, 6])
async def test_what_is_stuck_while_it_stops_changes_nothing(autojump_clock, caplog, asked):
    """It is found at 9: when asked at 2, the service stops by then; when asked at 6, it drains."""
    service = Service([group_that_waits(), jobs(4)], grace=40.0, on_stuck="stop")
    with capture_events(service.runtime) as events:
        assert await service.run_and_ask(asked) == DRAINED
    assert len(events.of(ChildStuck)) == 1
    assert service.phases[1:3] == [("draining", asked), ("stopping", asked + 4)]
    assert service.stop_request.count == 1
    assert "the service has failed" not in caplog.text


async def test_a_request_that_was_not_heard_yet_comes_before_what_is_stuck(autojump_clock):
    """It would count as the second request, and cut the drain short."""
    service = Service([group_that_waits(), jobs(4)], grace=40.0, on_stuck="stop")
    # It is told before our subscriber: that subscribes when the service runs.
    service.runtime.events.subscribe(lambda _: service.stop_request.ask("the test"), ChildStuck)
    assert await service.run_and_ask() == DRAINED
    assert service.stop_request.count == 1
    assert service.phases[1:3] == [("draining", 9), ("stopping", 13)]


async def test_what_is_stuck_while_it_gives_up_changes_nothing(autojump_clock):
    budget = RestartBudget(intensity=0, on_exceed="escalate")
    service = Service([child(deaf, shutdown=1.0), child(fail_at_3, budget=budget)], on_stuck="stop")
    with capture_events(service.runtime) as events:
        assert await service.run_and_ask() == FAILED
    assert len(events.of(ChildStuck)) == 1
    assert service.stop_request.count == 0
    assert service.phases == [("serving", 0), ("stopping", 3), ("stopped", 33)]


@pytest.mark.parametrize("cancelled_at", [0.5, 3])
async def test_what_is_stuck_in_a_serve_that_is_cancelled_changes_nothing(autojump_clock, cancelled_at):
    """It has no grace time then, neither while it starts nor while it serves: nothing may end it by force."""
    service = Service([child(deaf, shutdown=1.0), child(lambda: Consumer(init=1), id="late")], on_stuck="stop")
    with capture_events(service.runtime) as events, trio.move_on_after(cancelled_at):
        await service.run_and_ask()
    assert len(events.of(ChildStuck)) == 1
    assert service.stop_request.count == 0


async def test_serve_has_a_child_that_is_stuck_stop_it(autojump_clock):
    app = Supervisor([group_that_waits()])
    assert await serve(app, RunSettings(grace=40.0, on_stuck="stop")) == FAILED
    assert trio.current_time() == 33


async def test_giving_up_is_a_failure_with_its_cause_in_the_log(autojump_clock, caplog):
    async def faulty():
        await trio.sleep(1)
        raise ValueError("no such table: job")

    service = Service([child(faulty)])
    assert await service.run_and_ask() == FAILED
    assert "the service has failed" in caplog.text
    assert "ValueError: no such table: job" in caplog.text


async def test_giving_up_makes_it_not_ready_at_once_and_ends_within_the_grace_time(autojump_clock):
    seen = []

    class Slow(Actor):
        async def terminate(self, reason):
            seen.append(service.ready().ok)
            await trio.sleep_forever()

    async def faulty():
        await trio.sleep(1)
        raise ValueError

    service = Service([child(Slow, shutdown=60.0), child(faulty, restart="permanent")], grace=5.0)
    assert await service.run_and_ask() == FAILED
    assert seen == [False]
    assert service.phases[1][0] == "stopping"
    assert service.phases[-1][1] <= 1 + 4 + 5


async def test_a_failed_start_is_a_failure_with_its_cause_in_the_log(autojump_clock, caplog):
    class Faulty(Behaviour):
        async def serve(self, context):
            raise ValueError("no such file")

    service = Service([child(Faulty)])
    assert await service.run_and_ask() == FAILED
    assert "ValueError: no such file" in caplog.text


async def test_cancelling_it_stops_the_tree(autojump_clock):
    service = Service([child(lambda: Consumer(work=9, stop=2), id="jobs")])
    with trio.move_on_after(3) as scope:
        await service.run_and_ask()
    assert scope.cancelled_caught
    assert service.phases == [("serving", 0), ("stopped", 5)]
    assert service.runtime.statistics().root is None


@pytest.mark.parametrize("grace", [0.5, 25.0])
async def test_is_over_within_the_grace_time(autojump_clock, grace):
    service = Service([child(lambda: Consumer(work=math.inf, stop=math.inf), id="slow")], grace=grace)
    assert await service.run_and_ask(1) == GIVEN_BACK
    assert service.phases[-1][1] <= 1 + grace


async def test_a_serve_that_is_cancelled_takes_in_no_more_work_whatever_does_not_stop(autojump_clock):
    """There is no grace time to end it by force: it goes on waiting, but the others give their work back."""
    stuck = trio.CancelScope(shield=True)

    async def stubborn():
        with stuck:
            await trio.sleep_forever()

    service = Service([child(lambda: Consumer(work=math.inf), id="jobs"), child(stubborn)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()  # one pass is not enough: the order within it is random
            assert service.runtime.draining.is_set()
            assert service.runtime.drain_deadline == 1 + 19  # of 25 s of grace, without settling
            await trio.sleep(30)
        stuck.cancel()
    service.dismiss()


async def test_a_subscriber_of_the_runtime_that_was_passed_hears_everything_from_the_first_start_on(autojump_clock):
    async def stop_it():
        await trio.sleep(3)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep_forever()

    runtime = Runtime()
    app = Supervisor([child(Consumer, id="first"), child(stop_it, id="second")])
    with capture_events(runtime) as events:
        assert await serve(app, runtime=runtime) == DRAINED
    assert events.lines(ChildStarted) == ["started app/first", "started app/second"]
    assert [(event.phase, event.by) for event in events.of(ServicePhase)] == [
        ("serving", None),
        ("draining", "SIGTERM"),
        ("stopping", "SIGTERM"),
        ("stopped", "SIGTERM"),
    ]


async def test_the_runtime_must_be_one():
    with pytest.raises(TypeError, match="runtime must be a Runtime or None, not 'app'"):
        await serve(Supervisor([]), runtime="app")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="runtime must be a Runtime or None, not 'app'"):
        run(Supervisor([]), settings=RunSettings(), runtime="app")  # type: ignore[arg-type]
