"""One actor in the hands of a test: what it is sent, what it sends, how it ends."""

import math
import traceback

import attrs
import pytest
import trio

from otp import (
    Actor,
    CallTimeout,
    Crashed,
    Ignore,
    InitTimeout,
    Killed,
    Mailbox,
    Normal,
    NotAlive,
    Shutdown,
    Stop,
    Supervisor,
    call,
    child,
    open_supervisor,
    send,
)
from otp.testing import Probe, advance, drive, no_task_left, settle
from tests.otp.actors import Boom, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


@attrs.frozen
class Posting:
    amount: int


class Till(Actor):
    def __init__(self, *refs):
        self.refs = refs

    async def init(self):
        self.total = 0
        self.cleaned = False

    async def handle_message(self, message):
        match message:
            case int():
                self.total += message
                for ref in self.refs:
                    ref.send(Posting(message))
            case float():
                await trio.sleep(message)
                self.total += 1
            case "limit":
                self.total = await call("limits", "limit")
            case "twice":
                self.send_self(1)
                self.send_self(1)
            case BaseException():
                raise message
            case _:
                await message(self)

    async def handle_call(self, request):
        if request == "total":
            return self.total
        if isinstance(request, float):
            return await trio.sleep(request)
        raise request

    async def terminate(self, reason):
        await trio.sleep(0.1)
        self.cleaned = True


async def test_a_message_has_been_handled_when_send_comes_back():
    async with no_task_left(), drive(Till) as till:
        assert till.actor.total == 0
        await till.send(3)
        await till.send(0.5)
        assert till.actor.total == 4
        assert await till.call("total") == 4
        assert till.ref.path == "test/Till"


async def test_the_same_object_twice_is_two_messages():
    async with drive(Till) as till, trio.open_nursery() as nursery:
        nursery.start_soon(till.send, 1.0)
        nursery.start_soon(till.send, 1.0)
        began = trio.current_time()
        await till.send(1.0)
        await settle()
        assert trio.current_time() - began in (1.0, 2.0, 3.0)
        await till.call("total")
        assert till.actor.total == 3


async def test_what_it_sends_itself_comes_after():
    async with drive(Till) as till:
        await till.send("twice")
        await settle()
        assert till.actor.total == 2


async def test_a_crash_is_raised_with_its_traceback():
    async with drive(Till) as till:
        with pytest.raises(Boom) as caught:
            await till.send(Boom("x"))
        assert "handle_message" in {frame.name for frame in traceback.extract_tb(caught.tb)}
        assert till.reason == till.terminated == Crashed(caught.value)
        assert till.actor.cleaned
        with pytest.raises(NotAlive):
            till.ref.send(1)
    assert till.events.lines()[-1] == "ended test/Till: crashed (Boom: x)"


async def test_so_is_one_in_a_call():
    async with drive(Till) as till:
        with pytest.raises(Boom):
            await till.call(Boom())
        assert till.actor.cleaned  # it has ended, not only answered


async def test_a_crash_that_nobody_waited_for_is_raised_at_the_end():
    with pytest.raises(Boom):  # noqa: PT012
        async with drive(Till) as till:
            till.ref.send(Boom())
            await settle()


async def test_so_is_one_in_its_cleanup():
    class Bad(Till):
        async def terminate(self, reason):
            raise Boom

    with pytest.raises(Boom):
        async with drive(Bad):
            pass


async def test_an_error_of_the_test_tells_of_a_crash_before_it():
    with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012
        async with drive(Till) as till:
            till.ref.send(Boom("x"))
            await advance(1)
            raise ZeroDivisionError
    assert caught.value.__notes__ == ["Before that, test/Till crashed (Boom: x)"]


@pytest.mark.parametrize("error", [Boom(), Ignore(), Stop("x")])
async def test_what_ends_the_init_is_raised(error):
    class Bad(Actor):
        async def init(self):
            raise error

    with pytest.raises(type(error)) as caught:
        async with drive(Bad):
            raise AssertionError
    assert caught.value.args == error.args


async def test_the_spec_counts():
    class Slow(Till):
        async def init(self):
            await trio.sleep(10)

    with pytest.raises(InitTimeout):
        async with drive(child(Slow, init_timeout=1.0)):
            raise AssertionError
    async with drive(child(Slow, name="slow", restart="permanent")) as slow:
        send("slow", Boom())
        with pytest.raises(Boom):
            await slow.wait()
        assert slow.events.lines() == ["started test/Slow", "ended test/Slow: crashed (Boom)"]


async def test_only_actors_can_be_driven():
    async def task(): ...

    with pytest.raises(TypeError, match="start must make an Actor, not <coroutine"):
        async with drive(task):  # type: ignore[type-var]
            raise AssertionError


# -- how it ends


async def test_stopped_as_by_its_supervisor_it_handles_what_it_has():
    async with drive(Till) as till:
        till.ref.send(1.0)
        assert await till.stop() == Shutdown()
        assert till.actor.total == 1
        assert till.terminated == Shutdown()
        assert await till.stop() == till.reason == Shutdown()  # twice is once


async def test_who_does_not_stop_in_time_is_killed():
    async with drive(child(Till, id="till", shutdown=2.0)) as till:
        till.ref.send(1000.0)
        assert await till.stop() == Killed()
        assert till.actor.cleaned


async def test_stopped_with_a_reason():
    async with drive(Till) as till:
        till.ref.send(1)
        till.ref.send(2)
        assert await till.stop(Shutdown("enough")) == Shutdown("enough")
        assert till.actor.total == 0  # what is unread is dropped
    reason = Crashed(Boom())
    async with drive(Till) as till:
        assert await till.stop(reason) == reason
        assert till.terminated == reason


async def test_a_crash_is_not_taken_for_the_end_that_was_asked_for():
    class Bad(Till):
        async def terminate(self, reason):
            raise Boom

    async with drive(Bad) as till:
        with pytest.raises(Boom):
            await till.stop(Normal())
        assert till.terminated == Normal()


async def test_a_normal_exit_is_no_error():
    async with drive(Till) as till:
        await till.send(Stop())
        assert await till.wait() == Normal()
        with pytest.raises(NotAlive):
            await till.call("total")
        with pytest.raises(NotAlive):
            await till.send(1)


async def test_a_message_that_it_does_not_come_to():
    async def stops(actor):
        await trio.sleep(1)
        actor.stop()

    async with drive(Till) as till, trio.open_nursery() as nursery:
        nursery.start_soon(till.send, stops)
        await settle()
        with pytest.raises(NotAlive):
            await till.send(1)


async def test_a_message_that_it_is_killed_in():
    async def ends(till):
        with pytest.raises(NotAlive, match="killed"):
            await till.send(100.0)

    async with drive(child(Till, id="till", shutdown=1.0)) as till, trio.open_nursery() as nursery:
        nursery.start_soon(ends, till)
        await settle()
        assert await till.stop() == Killed()


async def test_nothing_is_waited_for_without_end():
    async with drive(child(Till, id="till", shutdown=1.0)) as till:
        with pytest.raises(TimeoutError, match=r"test/till has not handled 100\.0 within 5 s"):
            await till.send(100.0)
        with pytest.raises(CallTimeout):
            await till.call(100.0, timeout=1)


# -- probes


async def test_what_it_sends_to_others_in_order():
    ledger, audit = Probe("ledger"), Probe("audit")
    async with no_task_left(), drive(lambda: Till(ledger.ref, audit.ref), probes=[ledger, audit]) as till:
        await till.send(3)
        await till.send(4)
        assert ledger.received == audit.received == [Posting(3), Posting(4)]
        assert till.sent == [(n, Posting(i)) for i in (3, 4) for n in ("ledger", "audit")]
        assert await ledger.expect(Posting(3)) == Posting(3)
        assert (await ledger.expect(Posting)).amount == 4
        await ledger.expect_nothing()


async def test_a_probe_may_serve_one_actor_after_another():
    ledger = Probe("ledger")
    async with drive(lambda: Till(ledger.ref), probes=[ledger]) as first:
        await first.send(3)
    async with drive(lambda: Till(ledger.ref), probes=[ledger]) as second:
        await second.send(4)
    assert first.sent == [("ledger", Posting(3))]
    assert second.sent == [("ledger", Posting(4))]
    assert ledger.received == [Posting(3), Posting(4)]


async def test_probes_answer_calls_as_they_were_told():
    limits = Probe("limits")
    limits.answer(str, 10)
    async with drive(Till, probes=[limits]) as till:
        await till.send("limit")
        assert till.actor.total == 10
        limits.answer("limit", 20)
        await till.send("limit")
        assert till.actor.total == 20
        limits.answer("limit", len)
        await till.send("limit")
        assert till.actor.total == 5
        assert limits.received == ["limit"] * 3


@pytest.mark.parametrize("error", [Boom, Boom("x")])
async def test_a_probe_that_crashes(error):
    limits = Probe("limits")
    limits.answer("limit", error)
    async with drive(Till, probes=[limits]) as till:
        with pytest.raises(NotAlive) as caught:
            await till.send("limit")
        assert isinstance(caught.value.__cause__, Boom)
        await advance(1)
        assert limits.ref.alive  # it is there again


async def test_a_probe_that_hangs():
    limits = Probe("limits")
    limits.answer("limit", sleeps(math.inf))
    async with drive(Till, probes=[limits]) as till:
        with pytest.raises(CallTimeout):
            await till.send("limit", timeout=10)


async def test_a_call_without_an_answer_shows_what_it_was():
    limits = Probe("limits")
    limits.answer("another", 1)
    async with drive(Till, probes=[limits]) as till:
        with pytest.raises(NotAlive) as caught:
            await till.send("limit")
        assert "limits was called with 'limit', and no rule says" in str(caught.value.__cause__)


async def test_what_is_expected_and_does_not_come():
    ledger = Probe("ledger")
    async with drive(lambda: Till(ledger.ref), probes=[ledger]) as till:
        began = trio.current_time()
        with pytest.raises(AssertionError, match="ledger was to get a Posting, but got nothing within 3 s"):
            await ledger.expect(Posting, within=3)
        assert trio.current_time() - began == 3
        await till.send(3)
        with pytest.raises(AssertionError, match=r"to get nothing, but got \[Posting\(amount=3\)\]"):
            await ledger.expect_nothing()
        with pytest.raises(AssertionError, match=r"to get Posting\(amount=4\), but got Posting\(amount=3\)"):
            await ledger.expect(Posting(4))


async def test_expect_waits():
    ledger = Probe("ledger")
    async with drive(lambda: Till(ledger.ref), probes=[ledger]) as till, trio.open_nursery() as nursery:
        nursery.start_soon(ledger.expect, Posting(1))
        nursery.start_soon(advance, 0.5)
        await advance(0.5)
        till.ref.send(1)


async def test_two_who_expect_get_one_each():
    ledger = Probe("ledger")
    async with drive(lambda: Till(ledger.ref), probes=[ledger]) as till, trio.open_nursery() as nursery:
        nursery.start_soon(ledger.expect, Posting(1))
        nursery.start_soon(ledger.expect, Posting(1))
        for _ in range(2):
            await advance(0.4)
            till.ref.send(1)


async def test_a_probe_in_a_tree():
    ledger = Probe()
    app = Supervisor([child(ledger, id="ledger", name="ledger"), child(lambda: Till(ledger.ref), id="till")])
    with pytest.raises(NotAlive):
        ledger.ref.send(1)
    async with open_supervisor(app) as supervisor:
        supervisor.ref("till").send(5)
        await ledger.expect(Posting(5))
        send("ledger", "by name")
        assert ledger.received == [Posting(5), "by name"]
        await supervisor.terminate_child("ledger")
        with pytest.raises(NotAlive):
            ledger.ref  # noqa: B018  (it raises)
        await supervisor.restart_child("ledger")
        ledger.ref.send("after a restart")
        assert ledger.received[2:] == ["after a restart"]


async def test_it_keeps_its_mailbox_as_any_actor():
    async def fails(_):
        await trio.sleep(1)
        raise Boom

    limits = Probe()
    limits.answer("fails", fails)
    limits.answer("limit", 10)
    app = Supervisor([child(limits, id="limits", mailbox=Mailbox(kept=True))])
    async with open_supervisor(app), trio.open_nursery() as nursery:
        before = limits.ref

        async def calls():
            with pytest.raises(NotAlive):
                await before.call("fails")

        nursery.start_soon(calls)
        await settle()
        assert await before.call("limit") == 10
        assert limits.received == ["fails", "limit"]
        assert limits.ref is not before


async def test_it_takes_part_in_a_stop_as_any_actor():
    ledger = Probe()
    async with open_supervisor(Supervisor([child(ledger, id="ledger")])) as supervisor:
        for i in range(3):
            supervisor.ref("ledger").send(i)
    assert ledger.received == [0, 1, 2]
