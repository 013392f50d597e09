"""The last decisions are remembered, and nothing of the actors that they are about."""

import gc
import traceback
import weakref
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Backoff,
    Crashed,
    ExitReason,
    FailedToStart,
    GaveUp,
    RecordedError,
    RestartBudget,
    Runtime,
    Supervisor,
    SupervisorDecided,
    child,
    open_supervisor,
)
from otp._exit import in_writing
from tests.otp.actors import Boom, Echo, boom
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def chain():
    try:
        int("first")
    except ValueError as error:
        raise Boom("then\nmore") from error


class Heavy(Echo):
    """Knows of all actors of its kind that are still in memory."""

    alive: weakref.WeakSet["Heavy"]
    failing = 0

    def __init__(self):
        self.alive.add(self)

    async def init(self):
        if type(self).failing:
            type(self).failing -= 1
            raise Boom("init")

    async def handle_message(self, message):
        if message == "chain":
            chain()
        if message == "nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fail)
        await super().handle_message(message)

    async def fail(self):
        raise Boom("in a nursery")


@pytest.fixture
def heavy():
    class Fresh(Heavy):
        alive: weakref.WeakSet[Heavy] = weakref.WeakSet()  # noqa: RUF012

    return Fresh


def exception(reason: ExitReason) -> BaseException:
    assert isinstance(reason, Crashed)
    return reason.exception


def left(heavy):
    gc.collect()
    return len(heavy.alive)


@pytest.mark.parametrize("message", [boom, "chain", "nursery"])
@pytest.mark.parametrize("backoff", [None, Backoff(initial=0.1)])
async def test_crashed_actors_are_not_kept(heavy, message, backoff):
    async with open_supervisor(Supervisor([child(heavy, backoff=backoff)], intensity=100), log=False) as supervisor:
        for _ in range(60):
            supervisor.ref("Fresh").send(message)
            await trio.sleep(40)
        assert left(heavy) == 1  # the one that lives
        decisions = supervisor.statistics().decisions
        assert len(decisions) == 50
        assert {type(exception(decision.reason)) for decision in decisions} == {RecordedError}


@pytest.mark.parametrize(
    "budget", [RestartBudget(intensity=0, on_exceed="park"), RestartBudget(intensity=0, on_exceed="drop")]
)
async def test_neither_is_one_that_is_parked_or_dropped(heavy, budget):
    async with open_supervisor(Supervisor([child(heavy, budget=budget)]), log=False) as supervisor:
        supervisor.ref("Fresh").send(boom)
        await wait_all_tasks_blocked()
        assert supervisor.count_children().active == 0
        assert left(heavy) == 0


async def test_neither_is_one_that_failed_to_come_up_on_request(heavy):
    async with open_supervisor(Supervisor([child(heavy)]), log=False) as supervisor:
        await supervisor.terminate_child("Fresh")
        heavy.failing = 1
        with pytest.raises(FailedToStart):
            await supervisor.restart_child("Fresh")
        assert left(heavy) == 0
        info = supervisor.which_children()[0]
        assert (info.status, str(info.reason)) == ("stopped", "crashed (Boom: init)")


async def test_neither_is_one_whose_restart_failed_and_then_did_not(heavy):
    async with open_supervisor(Supervisor([child(heavy)]), log=False) as supervisor:
        heavy.failing = 2
        supervisor.ref("Fresh").send(boom)
        await trio.sleep(1)
        assert [decision.verdict for decision in supervisor.statistics().decisions] == [
            "restart",
            "wait",
            "retry",
            "wait",
            "retry",
        ]
        assert left(heavy) == 1


async def test_nothing_is_left_of_a_temporary_child(heavy):
    async with open_supervisor(Supervisor([child(heavy, restart="temporary")]), log=False) as supervisor:
        supervisor.ref("Fresh").send(boom)
        await wait_all_tasks_blocked()
        assert left(heavy) == 0


async def test_who_is_told_gets_the_exception_itself():
    runtime = Runtime()
    told: list[Any] = []
    runtime.events.subscribe(told.append, SupervisorDecided)
    with pytest.raises(GaveUp) as gave_up:  # noqa: PT012
        async with open_supervisor(Supervisor([child(Echo)], intensity=1), runtime=runtime) as supervisor:
            supervisor.ref("Echo").send(boom)
            await wait_all_tasks_blocked()
            supervisor.ref("Echo").send(boom)
            await trio.sleep_forever()
    assert [type(event.decision.reason.exception) for event in told] == [Boom, Boom]
    assert gave_up.value.__cause__ is told[-1].decision.reason.exception
    assert any(frame.name == "boom" for frame in traceback.extract_tb(gave_up.value.__cause__.__traceback__))


# -- what is written down


async def test_what_is_written_down_is_what_the_interpreter_would_have_printed():
    with pytest.raises(Boom) as caught:
        chain()
    written = in_writing(Crashed(caught.value))
    assert isinstance(written, Crashed)
    recorded = written.exception
    assert isinstance(recorded, RecordedError)
    assert recorded.kind is Boom
    assert str(recorded) == "then\nmore"
    assert recorded.traceback == "".join(traceback.format_exception(caught.value))
    assert str(written) == str(Crashed(caught.value)) == "crashed (Boom: then ...)"
    assert repr(recorded) == "<RecordedError Boom: then ...>"
    assert in_writing(written) is written


async def test_it_is_bounded_and_a_broken_exception_does_no_harm():
    def deep(n):
        deep(n + 1)

    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    with pytest.raises(RecursionError) as caught:
        deep(0)
    recorded = exception(in_writing(Crashed(caught.value)))
    assert isinstance(recorded, RecordedError)
    assert recorded.traceback.count("\n") < 200
    assert "Broken" in str(in_writing(Crashed(Broken())))
