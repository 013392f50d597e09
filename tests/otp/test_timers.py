"""Timers: when they fire, that they can be called back until the last moment, and what a lot of them costs."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import Actor, Supervisor, child, open_supervisor
from otp._life import life_at
from otp._timers import Timers
from otp.testing import living_tasks
from tests.otp.actors import Boom, boom, perform, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def clocked(**options):
    class Clocked(Actor):
        log: ClassVar[list[Any]] = []

        async def handle_message(self, message):
            if callable(message):
                await perform(self, message)
            else:
                self.log.append((trio.current_time(), message))

        async def handle_call(self, request):
            return await perform(self, request)

    return Clocked.log, open_supervisor(Supervisor([child(Clocked, id="c", **options)]))


async def test_after_at_and_every_fire_when_they_are_due():
    log, tree = clocked()
    async with tree as supervisor:
        ref = supervisor.ref("c")
        await ref.call(lambda a: (a.after(3, "after"), a.at(1, "at"), a.every(2, "every"), a.after(0, "now")))
        await trio.sleep(7)
        assert supervisor.ref("c").mailbox().unread == 0
    assert log == [(0, "now"), (1, "at"), (2, "every"), (3, "after"), (4, "every"), (6, "every")]


async def test_timers_that_are_due_together_fire_in_the_order_of_their_making():
    log, tree = clocked()
    async with tree as supervisor:
        await supervisor.ref("c").call(lambda a: [a.at(5, i) for i in range(20)])
        await trio.sleep(6)
    assert log == [(5, i) for i in range(20)]


async def test_an_earlier_timer_that_is_made_later_wakes_the_clock():
    log, tree = clocked()
    async with tree as supervisor:
        await supervisor.ref("c").call(lambda a: a.after(100, "late"))
        await trio.sleep(1)
        await supervisor.ref("c").call(lambda a: a.after(1, "early"))
        await trio.sleep(200)
    assert log == [(2, "early"), (100, "late")]


async def test_at_takes_a_datetime_and_what_is_past_comes_at_once():
    log, tree = clocked()
    async with tree as supervisor:
        now = datetime.now(UTC)
        await supervisor.ref("c").call(lambda a: a.at(now + timedelta(hours=1), "in an hour"))
        await supervisor.ref("c").call(lambda a: a.at(now - timedelta(hours=1), "past"))
        await supervisor.ref("c").call(lambda a: a.at(-5.0, "past, too"))
        await trio.sleep(4000)
    assert sorted(message for _, message in log[:2]) == ["past", "past, too"]
    assert log[1][0] == 0
    assert log[2] == (pytest.approx(3600, abs=5), "in an hour")


async def test_a_cancelled_timer_does_not_fire():
    log, tree = clocked()
    async with tree as supervisor:
        ref = supervisor.ref("c")
        once, often = await ref.call(lambda a: (a.after(3, "once"), a.every(2, "often")))
        await trio.sleep(2.5)
        assert (once.active, often.active) == (True, True)
        assert (once.cancel(), often.cancel()) == (True, True)
        assert (once.active, often.active) == (False, False)
        assert (once.cancel(), often.cancel()) == (False, False)
        await trio.sleep(10)
    assert log == [(2, "often")]


@pytest.mark.parametrize("make", [lambda a: a.after(1, "x"), lambda a: a.every(1, "x")])
async def test_a_timer_whose_message_is_in_the_mailbox_already_can_still_be_cancelled(make):
    log, tree = clocked()
    async with tree as supervisor:
        ref = supervisor.ref("c")
        timer = await ref.call(make)
        ref.send(sleeps(5))
        await trio.sleep(4)
        assert ref.mailbox().unread == 1
        assert timer.cancel() is True
        await trio.sleep(10)
        assert len(supervisor.runtime.timers) <= 1
    assert log == []


async def test_cancel_says_that_the_message_was_handled():
    log, tree = clocked()
    async with tree as supervisor:
        timer = await supervisor.ref("c").call(lambda a: a.after(1, "x"))
        await trio.sleep(2)
        assert timer.cancel() is False
    assert log == [(1, "x")]


async def test_every_does_not_drift_and_does_not_pile_up():
    log, tree = clocked()
    async with tree as supervisor:
        ref = supervisor.ref("c")
        await ref.call(lambda a: a.every(2, "beat"))
        await trio.sleep(1)
        ref.send(sleeps(8.5))  # until 9.5: the beats at 2, 4, 6 and 8 are one message
        await trio.sleep(8)
        assert ref.mailbox().unread == 1
        await trio.sleep(5.5)
    assert log == [(9.5, "beat"), (10, "beat"), (12, "beat"), (14, "beat")]


async def test_a_beat_too_short_for_the_clock_lets_others_run():
    log, tree = clocked()
    async with tree as supervisor:
        await trio.sleep(80_000)  # from here on the clock cannot show so small a step
        timer = await supervisor.ref("c").call(lambda a: a.every(1e-12, "beat"))
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        timer.cancel()
    assert len(log) > 1


async def test_beats_that_the_loop_missed_are_left_out(mock_clock):
    log, tree = clocked()
    async with tree as supervisor:
        await supervisor.ref("c").call(lambda a: a.every(2, "beat"))
        mock_clock.jump(7)
        mock_clock.autojump_threshold = 0
        await trio.sleep(2)
    assert log == [(7, "beat"), (8, "beat")]


async def test_timers_go_round_the_limit_of_the_mailbox():
    log, tree = clocked(mailbox=1)
    async with tree as supervisor:
        ref = supervisor.ref("c")
        await ref.call(lambda a: [a.after(1, i) for i in range(5)])
        ref.send(sleeps(3))
        await wait_all_tasks_blocked()
        ref.send(str)
        await trio.sleep(5)
    assert [message for _, message in log] == list(range(5))


@pytest.mark.parametrize("end", [boom, lambda a: a.stop()])
async def test_a_timer_of_an_earlier_incarnation_never_reaches_the_next(end):
    log, tree = clocked()
    async with tree as supervisor:
        ref = supervisor.ref("c")
        timers = await ref.call(lambda a: (a.after(1, "in the box"), a.after(5, "once"), a.every(3, "often")))
        ref.send(sleeps(2))
        ref.send(end)
        await trio.sleep(20)
        assert supervisor.ref("c").incarnation == 2
        assert not any(timer.active for timer in timers[1:])
        assert len(supervisor.runtime.timers) <= 3
    assert log == []


async def test_timers_made_in_terminate_or_in_a_failing_init_come_to_nothing():
    timers = []

    class Stubborn(Actor):
        async def init(self):
            timers.append(self.after(1, "x"))
            if self.context.incarnation == 2:
                raise Boom

        async def handle_message(self, message):
            raise Boom

        async def terminate(self, reason):
            timers.append(self.every(1, "y"))

    async with open_supervisor(Supervisor([child(Stubborn)])) as supervisor:
        await trio.sleep(0.5)
        supervisor.ref("Stubborn").send("crash")
        await trio.sleep(0.1)
        assert [timer.active for timer in timers] == [False, False, False, True]


async def test_a_crash_in_the_handler_of_a_repeated_message_ends_the_timer():
    _, tree = clocked()
    async with tree as supervisor:
        timer = await supervisor.ref("c").call(lambda a: a.every(1, boom))
        await trio.sleep(5)
        assert supervisor.ref("c").incarnation == 2
        assert not timer.active


async def test_a_hundred_thousand_timers_need_no_task_and_leave_when_cancelled():
    log, tree = clocked()
    async with tree as supervisor:
        ref = supervisor.ref("c")
        before = len(living_tasks())
        timers = await ref.call(lambda a: [a.after(1000 + i, i) for i in range(100_000)])
        assert len(living_tasks()) == before
        heap = supervisor.runtime.timers
        assert len(heap) == 100_000
        for timer in timers[:60_000]:
            timer.cancel()
        assert len(heap) < 50_000  # they are swept out when they are the larger part
        for timer in timers:
            timer.cancel()
        assert len(heap) <= 64
        assert life_at(ref).part(Timers).running == set()
    assert log == []


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", None])
async def test_senseless_times_are_refused(seconds):
    _, tree = clocked()
    async with tree as supervisor:

        def try_all(a):
            with pytest.raises(ValueError, match="seconds must be a finite number of seconds >= 0"):
                a.after(seconds, "x")
            with pytest.raises(ValueError, match="seconds must be a finite number of seconds > 0"):
                a.every(seconds, "x")
            with pytest.raises(ValueError, match="seconds must be a finite number of seconds > 0"):
                a.every(0, "x")
            for when in (math.nan, "1", datetime.now()):  # noqa: DTZ005
                with pytest.raises(ValueError, match="when must be a time on trio's clock, or a datetime with"):
                    a.at(when, "x")

        await supervisor.ref("c").call(try_all)
