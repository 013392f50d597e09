"""What comes before the next message, and what comes when there is none. The rows are of gen_server_SUITE."""

import math
from typing import ClassVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import Actor, ChildExited, Crashed, Down, NotAlive, Runtime, Shutdown, Supervisor, child, open_supervisor
from otp.testing import capture_events
from tests.otp.actors import Echo, perform, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


class Server(Echo):
    """Logs what it handles; each test has a subclass with a log of its own."""

    log: ClassVar[list[str]]

    async def handle_message(self, message):
        if callable(message):
            await perform(self, message)
        else:
            self.log.append(message)

    async def handle_continue(self, what):
        if callable(what):
            await perform(self, what)
        else:
            self.log.append(f"continue {what}")

    async def handle_idle(self):
        self.log.append(f"idle at {trio.current_time():g}")


def server(init=None, **options):
    class Logged(Server):
        log: ClassVar[list[str]] = []

        async def init(self):
            if init is not None:
                await perform(self, init)

    return Logged.log, open_supervisor(Supervisor([child(Logged, id="s", restart="temporary", **options)]))


def chained(n):
    def go_on(actor):
        actor.log.append(f"chained {n}")
        if n:
            actor.continue_with(chained(n - 1))

    return go_on


async def test_gen_server_continue_from_init_comes_before_all_messages_also_its_own():
    def init(actor):
        actor.send_self("resume")
        actor.continue_with(chained(2))
        actor.continue_with("b")

    log, tree = server(init)
    async with tree as supervisor:
        supervisor.ref("s").send("other")
    assert log == ["chained 2", "continue b", "chained 1", "chained 0", "resume", "other"]


async def test_gen_server_continue_from_message_and_call_runs_before_what_is_waiting():
    log, tree = server()
    async with tree as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("s")
        ref.send(lambda actor: actor.continue_with(chained(1)))
        ref.send("1")
        nursery.start_soon(ref.call, lambda actor: actor.continue_with("c"))
        await wait_all_tasks_blocked()
        ref.send("2")
    assert log == ["chained 1", "chained 0", "1", "continue c", "2"]


@pytest.mark.parametrize("from_init", [False, True])
async def test_gen_server_continue_stop_from_it(from_init):
    def stop(actor):
        actor.continue_with("never")
        actor.stop(Shutdown("from continue"))
        actor.continue_with("never")

    def start(actor):
        actor.continue_with(stop)

    runtime = Runtime()

    class Logged(Server):
        log: ClassVar[list[str]] = []

        async def init(self):
            if from_init:
                start(self)

    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Logged, restart="temporary")]), runtime=runtime) as supervisor:
            if not from_init:
                supervisor.ref("Logged").send(start)
                supervisor.ref("Logged").send("never")
            await wait_all_tasks_blocked()
    assert Logged.log == []
    assert events.of(ChildExited)[0].reason == Shutdown("from continue")


async def test_stop_in_init_goes_before_continue_whatever_the_order():
    def init(actor):
        actor.continue_with("never")
        actor.stop()
        actor.continue_with("never")

    log, tree = server(init)
    async with tree:
        await wait_all_tasks_blocked()
    assert log == []


@pytest.mark.parametrize("waiting", [(), ("message",)])
async def test_what_is_left_to_do_of_the_last_message_is_done_before_the_actor_stops(waiting):
    """Its caller has been told already that it will be; and it was, but only if there was another message behind."""
    log = []

    class Accepts(Actor):
        async def handle_call(self, request):
            await trio.sleep(1)
            self.continue_with(f"{request}, first half")
            return "accepted"

        async def handle_continue(self, what):
            log.append(what)
            if "first" in what:
                self.continue_with("second half")

        async def handle_message(self, message):
            log.append(message)

    async with open_supervisor(Supervisor([child(Accepts, id="a")])) as supervisor:
        ref = supervisor.ref("a")
        pending = ref.request("order")
        await wait_all_tasks_blocked()
        for message in waiting:
            ref.send(message)
    assert pending.result() == "accepted"
    assert log == ["order, first half", "second half", *waiting]


async def test_what_a_helper_has_an_idle_actor_continue_with_gets_no_longer_than_there_is_to_stop():
    class Idles(Actor):
        async def init(self):
            self.nursery.start_soon(self.help)

        async def help(self):
            await self.context.stopping.wait()
            self.continue_with("for ever")

        async def handle_continue(self, what):
            await trio.sleep_forever()

    actors = [child(Idles, id=str(number), shutdown=4) for number in range(20)]
    async with open_supervisor(Supervisor(actors)) as supervisor:
        await wait_all_tasks_blocked()
        for info in supervisor.which_children():
            began = trio.current_time()
            await supervisor.terminate_child(info.id)
            assert trio.current_time() - began in (0, 3)  # as it is whose turn it is first, the helper's or the actor's


async def test_gen_server_undef_handle_continue_crashes_with_a_clear_reason():
    class Plain(Actor):
        async def handle_call(self, request):
            self.continue_with("the rest")
            return "fine"

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Plain, restart="temporary")]), runtime=runtime) as supervisor:
            assert await supervisor.ref("Plain").call("x") == "fine"
            await wait_all_tasks_blocked()
    reason = events.of(ChildExited)[0].reason
    assert isinstance(reason, Crashed)
    assert "Plain does not handle what it continues with: 'the rest'" in str(reason)


async def test_an_actor_that_goes_on_for_ever_lets_others_run_and_can_be_stopped():
    log, tree = server(shutdown="brutal")

    def for_ever(actor):
        actor.continue_with(for_ever)

    async with tree as supervisor:
        supervisor.ref("s").send(for_ever)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        supervisor.ref("s").send("waits for ever, as gen_server's would")
    assert log == []


# -- idle


async def test_gen_server_start_event_timeout():
    """Init may arm the idle timeout; a message cancels it."""
    log, tree = server(lambda actor: actor.idle_after(2))
    async with tree as supervisor:
        await trio.sleep(5)
        assert log == ["idle at 2"]
    log, tree = server(lambda actor: actor.idle_after(2))
    async with tree as supervisor:
        began = trio.current_time()
        await trio.sleep(1)
        supervisor.ref("s").send("message")
        await trio.sleep(5)
    assert log == ["message"]
    assert began == 5


async def test_gen_server_start_event_timeout_zero_comes_before_later_messages():
    """With a message that is already there it does not come: the message cancels it, as any other."""
    log, tree = server(lambda actor: actor.idle_after(0))
    async with tree as supervisor:
        supervisor.ref("s").send("later")
        await wait_all_tasks_blocked()
    assert log == ["idle at 0", "later"]


async def test_gen_server_handle_event_timeout_from_every_callback_and_messages_cancel_it():
    """From message, call, continue and idle handlers; each handler asks anew."""
    log, tree = server()
    async with tree as supervisor:
        ref = supervisor.ref("s")
        arm = lambda actor: actor.idle_after(2)  # noqa: E731
        ref.send(arm)
        await trio.sleep(3)
        await ref.call(arm)
        await trio.sleep(3)
        ref.send(lambda actor: actor.continue_with(arm))
        await trio.sleep(3)
        assert log == ["idle at 2", "idle at 5", "idle at 8"]
        for cancel in (ref.send, ref.call):
            ref.send(arm)
            await trio.sleep(1)
            result = cancel("x")
            if result is not None:
                await result
            await trio.sleep(5)
        assert log[3:] == ["x"]


async def test_gen_server_handle_event_timeout_plain():
    """An idle timeout that nobody handles is a mistake, and crashes the actor with a clear reason."""

    class Plain(Actor):
        async def init(self):
            self.idle_after(1)

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Plain, restart="temporary")]), runtime=runtime):
            await trio.sleep(2)
    assert "Plain does not handle its idle timeout" in str(events.of(ChildExited)[0].reason)


async def test_gen_server_handle_event_timeout_zero_a_waiting_message_cancels_it():
    log, tree = server()
    async with tree as supervisor:
        ref = supervisor.ref("s")
        ref.send(lambda actor: actor.idle_after(0))
        ref.send("waiting")
        await wait_all_tasks_blocked()
        ref.send(lambda actor: actor.idle_after(0))
        await wait_all_tasks_blocked()
    assert log == ["waiting", "idle at 0"]


async def test_a_message_at_the_very_moment_of_the_idle_timeout_goes_first():
    log, tree = server(lambda actor: actor.idle_after(2))
    async with tree as supervisor:
        await trio.sleep(2)  # whoever of the two wakes first, the message is there when the actor looks
        supervisor.ref("s").send("message")
        await wait_all_tasks_blocked()
    assert log in (["message"], ["idle at 2", "message"])


async def test_the_idle_time_begins_when_the_handler_is_done():
    log, tree = server()

    async def arm_and_work(actor):
        actor.idle_after(2)
        await trio.sleep(10)

    async with tree as supervisor:
        supervisor.ref("s").send(arm_and_work)
        await trio.sleep(20)
    assert log == ["idle at 12"]


async def test_the_last_idle_time_of_a_handler_counts():
    log, tree = server(lambda actor: [actor.idle_after(seconds) for seconds in (1, 3)])
    async with tree:
        await trio.sleep(5)
    assert log == ["idle at 3"]


async def test_a_sender_that_waits_for_room_cancels_the_idle_timeout():
    log, tree = server(mailbox=1)
    async with tree as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("s")
        ref.send(sleeps(1))
        await wait_all_tasks_blocked()
        ref.send(lambda actor: actor.idle_after(0))
        nursery.start_soon(ref.send_wait, "waiting")
        await trio.sleep(5)
    assert log == ["waiting"]


async def test_an_idle_actor_can_be_stopped_and_crashes_like_any_other():
    log, tree = server(lambda actor: actor.idle_after(100))
    async with tree as supervisor:
        ref = supervisor.ref("s")
        await wait_all_tasks_blocked()
        await supervisor.terminate_child("s")
        assert trio.current_time() == 0
        with pytest.raises(NotAlive):
            ref.send("x")
    assert log == []


async def test_what_comes_to_nothing_does_not_cancel_the_idle_timeout():
    """A call that is skipped, a timer that was cancelled: the actor hears of neither, so it would not ask anew."""
    log, tree = server()

    async def work(actor):
        timer = actor.after(0.5, "tick")
        await trio.sleep(2)
        timer.cancel()
        actor.idle_after(3)

    async with tree as supervisor:
        ref = supervisor.ref("s")
        ref.send(work)
        for patience in (1.5, 0.3):
            with trio.move_on_after(patience):
                await ref.call("too late")
        await trio.sleep(1)
        with trio.CancelScope() as scope:  # while it idles: gone before the actor has looked
            scope.cancel()
            await ref.call("gone")
        ref.request("gone, too").abandon()
        await trio.sleep(10)
        assert supervisor.runtime.skipped_calls == 4
        assert log == ["idle at 5"]


async def test_to_continue_does_not_cancel_the_idle_timeout_whichever_is_asked_for_first():
    log, tree = server()
    async with tree as supervisor:
        for ask in (lambda actor: actor.idle_after(2), lambda actor: actor.continue_with("then")):
            supervisor.ref("s").send(lambda actor, ask=ask: [ask(actor), actor.continue_with("a"), actor.idle_after(2)])
            await trio.sleep(5)
        supervisor.ref("s").send(lambda actor: [actor.idle_after(2), actor.continue_with("b")])
        await trio.sleep(5)
        supervisor.ref("s").send(lambda actor: [actor.idle_after(2), actor.continue_with(lambda a: a.idle_after(3))])
        await trio.sleep(5)
    assert log == [
        *("continue a", "idle at 2", "continue then", "continue a", "idle at 7"),
        *("continue b", "idle at 12", "idle at 18"),
    ]


async def test_a_notice_that_is_taken_back_at_once_does_not_end_the_idle_time_early():
    log, tree = server()

    async def hears_and_forgets(actor, monitor):
        await trio.sleep(1)
        monitor.tell(Down(monitor=monitor, ref=None, name=None, reason=Shutdown()))  # wakes it
        actor.demonitor(monitor)

    def arm(actor):
        actor.nursery.start_soon(hears_and_forgets, actor, actor.monitor(actor.me))
        actor.idle_after(5)

    async with tree as supervisor:
        supervisor.ref("s").send(arm)
        await trio.sleep(10)
    assert log == ["idle at 5"]


async def test_idling_for_ever_lets_others_run():
    class Restless(Echo):
        turns = 0

        async def init(self):
            self.idle_after(0)

        async def handle_idle(self):
            Restless.turns += 1
            self.idle_after(0)

    async with open_supervisor(Supervisor([child(Restless)])) as supervisor:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert Restless.turns > 0
        assert await supervisor.ref("Restless").call("alive") == "alive"


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "2"])
async def test_a_senseless_idle_time_is_refused(seconds):
    log, tree = server()
    async with tree as supervisor:

        def arm(actor):
            with pytest.raises(ValueError, match="seconds must be a finite number of seconds >= 0"):
                actor.idle_after(seconds)
            actor.log.append("refused")

        supervisor.ref("s").send(arm)
        await wait_all_tasks_blocked()
    assert log == ["refused"]


async def test_a_helper_that_raises_a_foreign_cancelled_is_a_crash():
    kept = []

    async def catch_one():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep(1)
            except trio.Cancelled as cancelled:
                kept.append(cancelled)
                raise

    await catch_one()

    async def stray():
        raise kept[0]

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(
            Supervisor([child(Echo, restart="temporary"), child(Echo, id="other")]), runtime=runtime
        ) as supervisor:
            supervisor.ref("Echo").send(lambda actor: actor.nursery.start_soon(stray))
            await wait_all_tasks_blocked()
            assert await supervisor.ref("other").call("alive") == "alive"
            assert "although nobody had cancelled it" in str(events.one(ChildExited).reason)
