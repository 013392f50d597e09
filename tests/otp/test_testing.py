"""The test kit, which users rely on as we do."""

import pytest
import trio

from otp import (
    ChildExited,
    ChildStarted,
    ChildStartFailed,
    ChildStuck,
    Ignore,
    Normal,
    Runtime,
    Supervisor,
    SupervisorDecided,
    child,
    open_supervisor,
)
from otp.testing import capture_events, living_tasks, no_task_left, run_virtual, settle
from tests.otp.actors import Echo, boom
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def test_no_task_left_names_what_is_left():
    async with trio.open_nursery() as nursery:
        with pytest.raises(AssertionError, match="1 tasks are left: the leak"):
            async with no_task_left():
                nursery.start_soon(trio.sleep_forever, name="the leak")
        nursery.cancel_scope.cancel()


async def test_no_task_left_does_not_mind_what_was_there_before():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        async with no_task_left(), open_supervisor(Supervisor([child(Echo)])):
            assert "Echo" in {task.name for task in living_tasks()}
        nursery.cancel_scope.cancel()


async def test_an_error_in_the_block_is_not_covered_by_what_is_left():
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="mine"):  # noqa: PT012
            async with no_task_left():
                nursery.start_soon(trio.sleep_forever)
                raise ValueError("mine")
        nursery.cancel_scope.cancel()


async def test_captured_events_can_be_asked_for_by_kind():
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo, id=i) for i in "ab"]), runtime=runtime):
            assert [event.path for event in events.of(ChildStarted)] == ["app/a", "app/b"]
            assert len(events) == len(list(events)) == 2
            events.clear()
    assert [event.path for event in events.of(ChildExited)] == ["app/b", "app/a"]
    with pytest.raises(AssertionError, match="expected one ChildStarted, got"):
        events.one(ChildStarted)


async def test_the_order_of_events_in_one_assert():
    specs = [child(Echo, id="a"), child(Echo, id="b", restart="transient"), child(ignores, id="c")]
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor(specs), runtime=runtime) as supervisor:
            assert events.take_lines() == ["started app/a", "started app/b", "ignored app/c"]
            supervisor.ref("b").send(boom)
            supervisor.ref("b").send("unread")
            await settle()
            supervisor.ref("b").send(lambda actor: actor.stop())
            await settle()
            assert events.lines(SupervisorDecided) == ["decided app: restart b", "decided app: leave b"]
    assert events.lines() == [
        "unread app/b: 1",
        "ended app/b: crashed (Boom)",
        "started app/b",
        "ended app/b: normal",
        "stopped app/a: shutdown",
    ]


def ignores():
    raise Ignore


async def test_other_events_have_lines_too():
    runtime = Runtime()
    with capture_events(runtime) as events:
        runtime.conditions.set("app/a", "database", ok=False)
        runtime.events.emit("something of the user's")
        runtime.events.emit(ChildStuck(path="app/a", incarnation=1, at=0.0, waited=5.0))
        runtime.events.emit(ChildStartFailed(path="app/a", incarnation=1, at=0.0, reason=Normal()))
    assert events.lines(object) == [
        "condition app/a: database not ok",
        "something of the user's",
        "stuck app/a",
        "failed app/a: normal",
    ]


async def test_run_virtual_takes_no_time():
    async def long(hours):
        began = trio.current_time()
        await trio.sleep(hours * 3600)
        return trio.current_time() - began

    assert await trio.to_thread.run_sync(run_virtual, long, 5) == pytest.approx(5 * 3600)
