"""Actors: their life from init to terminate, what they send themselves, their helpers."""

import attrs
import pytest
import trio
from trio.testing import Sequencer, wait_all_tasks_blocked

from otp import (
    Actor,
    ChildExited,
    ChildStartFailed,
    Crashed,
    FailedToStart,
    GaveUp,
    Group,
    Ignore,
    InitTimeout,
    Killed,
    MailboxFull,
    MessagesDropped,
    Normal,
    NotAlive,
    Runtime,
    Shutdown,
    Stop,
    Supervisor,
    call,
    child,
    open_supervisor,
)
from otp.testing import capture_events
from tests.otp.actors import Boom, Echo, Journal, boom
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def test_messages_are_handled_in_the_order_sent():
    seen = []

    class Collector(Actor):
        async def handle_message(self, message):
            seen.append(message)
            if message % 7 == 0:
                await trio.sleep(0.01)

    async with open_supervisor(Supervisor([child(Collector)])) as supervisor:
        for i in range(500):
            supervisor.ref("Collector").send(i)
    assert seen == list(range(500))


async def test_what_init_sends_to_itself_comes_before_all_others_in_order():
    seen = []

    class Resuming(Actor):
        async def init(self):
            self.send_self("resume 1")
            await trio.sleep(1)
            self.send_self("resume 2")

        async def handle_message(self, message):
            seen.append(message)
            if message == "resume 2":
                self.send_self("later")

    async def early_bird():
        await trio.sleep(0.5)  # in the middle of the init
        root.supervisor("workers").ref("Resuming").send("other")

    workers = child(Supervisor([child(Resuming)]), id="workers")
    async with open_supervisor(Supervisor([])) as root, trio.open_nursery() as nursery:
        nursery.start_soon(early_bird)
        await root.start_child(workers)
    assert seen == ["resume 1", "resume 2", "other", "later"]


async def test_sent_during_init_goes_round_the_limit_of_the_mailbox():
    seen = []

    class Many(Actor):
        async def init(self):
            for i in range(10):
                self.send_self(i)

        async def handle_message(self, message):
            seen.append(message)

    async with open_supervisor(Supervisor([child(Many, mailbox=2)])):
        pass
    assert seen == list(range(10))


async def test_send_self_after_init_keeps_to_the_limit():
    async with open_supervisor(Supervisor([child(Echo, mailbox=2)])) as supervisor:

        def flood(actor):
            with pytest.raises(MailboxFull):  # noqa: PT012
                for _ in range(3):
                    actor.send_self(lambda _: None)
            return "refused"

        assert await supervisor.ref("Echo").call(flood) == "refused"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda a: a.stop(), Normal()),
        (lambda a: a.stop(Shutdown("done")), Shutdown("done")),
        (lambda a: a.stop(Killed()), Killed()),
    ],
)
async def test_stop_ends_the_actor_after_the_handler(end, reason):
    journal = Journal()
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(
            Supervisor([child(journal.actor("a"), id="a", restart="temporary")]), runtime=runtime
        ) as supervisor:
            ref = supervisor.ref("a")
            ref.send(end)
            ref.send(lambda _: journal("never"))
            await wait_all_tasks_blocked()
            assert journal.take() == ["+a", f"-a {reason}"]
            assert not ref.alive
    assert events.of(ChildExited)[0].reason == reason
    assert events.one(MessagesDropped).count == 1


async def test_stop_with_crashed_is_a_crash():
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo, restart="temporary")]), runtime=runtime) as supervisor:
            supervisor.ref("Echo").send(lambda a: a.stop(Crashed(Boom("why"))))
            await wait_all_tasks_blocked()
    reason = events.of(ChildExited)[0].reason
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, Boom)


async def test_stop_in_init_ends_after_init():
    journal = Journal()

    def init(actor):
        actor.send_self("never")
        actor.stop(Shutdown("not today"))

    spec = child(journal.actor("a", init=init), id="a", restart="temporary")
    async with open_supervisor(Supervisor([spec])):
        await wait_all_tasks_blocked()
        assert journal.take() == ["+a", "-a shutdown (not today)"]


@pytest.mark.parametrize(("error", "reason"), [(Stop(), Normal()), (Stop("x"), Shutdown("x")), (Boom("b"), None)])
async def test_what_a_handler_raises_is_the_exit_reason(error, reason):
    runtime = Runtime()

    def raises(_):
        raise error

    told = []
    journal = Journal()
    with capture_events(runtime) as events:
        async with open_supervisor(
            Supervisor([child(journal.actor("a"), id="a", restart="temporary")]), runtime=runtime
        ) as supervisor:
            supervisor.ref("a").send(raises)
            await wait_all_tasks_blocked()
            told = journal.take()
    seen = events.of(ChildExited)[0].reason
    if reason is None:
        assert isinstance(seen, Crashed)
        assert seen.exception is error
    else:
        assert seen == reason
    assert told == ["+a", f"-a {seen}"]


async def test_terminate_does_not_run_when_init_failed():
    journal = Journal()
    with pytest.raises(FailedToStart) as failed:
        async with open_supervisor(Supervisor([child(journal.actor("a", init=boom), id="a")])):
            pass
    assert journal.take() == []
    assert isinstance(failed.value.__cause__, Boom)


async def test_an_error_in_terminate_is_the_crash_and_keeps_the_first_one_as_context():
    def terminate(_):
        raise RuntimeError("in terminate")

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(
            Supervisor([child(Journal().actor("a", terminate=terminate), id="a", restart="temporary")]),
            runtime=runtime,
        ) as supervisor:
            supervisor.ref("a").send(boom)
            await wait_all_tasks_blocked()
    reason = events.of(ChildExited)[0].reason
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, RuntimeError)
    assert isinstance(reason.exception.__context__, Boom)


async def test_a_message_nobody_handles_is_only_a_warning(caplog):
    class Plain(Actor):
        async def handle_call(self, request):
            return "alive"

    async with open_supervisor(Supervisor([child(Plain)])) as supervisor:
        supervisor.ref("Plain").send("what?")
        assert await supervisor.ref("Plain").call("x") == "alive"
    assert "app/Plain got a message that it does not handle: 'what?'" in caplog.text


async def test_a_call_nobody_handles_crashes_the_actor_with_a_clear_reason():
    class Plain(Actor):
        pass

    async with open_supervisor(Supervisor([child(Plain)])) as supervisor:
        with pytest.raises(NotAlive, match="Plain does not handle calls: it got 'what"):
            await supervisor.ref("Plain").call("what?")


@pytest.mark.parametrize(
    "start", [lambda a: a.every(1, "x"), lambda a: a.link_group(Group("g")), lambda a: a.monitor_group(Group("g"))]
)
async def test_who_has_ended_begins_nothing_that_nobody_would_end(start):
    """A library may call back an actor that has crashed meanwhile: its timer went on for as long as the tree."""
    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        actor = await supervisor.ref("Echo").call(lambda a: a)
        await supervisor.terminate_child("Echo")
        with pytest.raises(NotAlive, match="app/Echo"):
            start(actor)
        assert len(supervisor.runtime.timers) == 0


# -- helpers


async def test_helpers_run_beside_the_handlers_and_end_with_the_actor():
    journal = Journal()

    class Poller(Echo):
        async def init(self):
            self.nursery.start_soon(self.poll)

        async def poll(self):
            try:
                while True:
                    journal("poll")
                    await trio.sleep(1)
            finally:
                journal("poll ended")

        async def terminate(self, reason):
            journal("terminate")

    async with open_supervisor(Supervisor([child(Poller)])) as supervisor:
        await trio.sleep(2.5)
        assert await supervisor.ref("Poller").call("alive") == "alive"
    assert journal.take() == ["poll", "poll", "poll", "poll ended", "terminate"]


async def test_a_failing_helper_is_the_crash_of_the_actor_and_cancels_its_handler():
    journal = Journal()

    class Worker(Echo):
        async def handle_message(self, message):
            self.nursery.start_soon(self.fail)
            try:
                await trio.sleep_forever()
            finally:
                journal("handler cancelled")

        async def fail(self):
            await trio.sleep(1)
            raise Boom("helper")

        async def terminate(self, reason):
            journal(f"terminate {reason}")

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Worker, restart="temporary")]), runtime=runtime) as supervisor:
            supervisor.ref("Worker").send("go")
            await trio.sleep(2)
    assert journal.take() == ["handler cancelled", "terminate crashed (Boom: helper)"]
    reason = events.of(ChildExited)[0].reason
    assert isinstance(reason, Crashed)
    assert type(reason.exception) is Boom


async def test_what_a_handler_starts_after_a_helper_has_failed_is_not_begun():
    """Found by the soak: that the nursery was closed became the crash of the actor, and hid why it was closed."""
    journal = Journal()

    class Worker(Echo):
        async def handle_message(self, message):
            self.nursery.start_soon(self.fail)
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            self.nursery.start_soon(self.late)
            journal("handler goes on")
            await trio.sleep_forever()

        async def fail(self):
            await trio.sleep(1)
            raise Boom("helper")

        async def late(self):
            journal("late")

        async def terminate(self, reason):
            with pytest.raises(RuntimeError):
                self.nursery.start_soon(self.late)  # this is a mistake, as it always was
            journal(f"terminate {reason}")

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Worker, restart="temporary")]), runtime=runtime) as supervisor:
            supervisor.ref("Worker").send("go")
            await trio.sleep(5)
    assert journal.take() == ["handler goes on", "terminate crashed (Boom: helper)"]
    reason = events.of(ChildExited)[0].reason
    assert isinstance(reason, Crashed)
    assert type(reason.exception) is Boom


async def in_turn(actor):
    await actor.in_turn(actor.in_its_turn)


async def send_to_itself(actor):
    actor.me.send("more")


async def ask_itself_in_a_nursery(actor):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.me.call, "question")
        nursery.start_soon(trio.sleep_forever)


@pytest.mark.parametrize("what", [in_turn, send_to_itself, ask_itself_in_a_nursery])
@pytest.mark.parametrize("how", ["asked to", "of itself"])
async def test_a_helper_that_finds_its_actor_stopping_does_not_make_it_crash(what, how):
    """The stop in order became a crash, and with the messages that were left it was over."""
    log = []

    class Helped(Actor):
        async def init(self):
            self.nursery.start_soon(self.help)
            self.nursery.start_soon(self.live_on)

        async def help(self):
            await trio.sleep(0.5 if how == "of itself" and what is not send_to_itself else 1.5)
            await what(self)

        async def live_on(self):
            await trio.sleep(2.5)
            log.append("another helper")

        async def in_its_turn(self):
            pass

        async def handle_message(self, message):
            await trio.sleep(1)
            log.append(message)
            if how == "of itself" and message == 3:
                self.stop()

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Helped, restart="temporary")]), runtime=runtime) as supervisor:
            for message in (1, 2, 3):
                supervisor.ref("Helped").send(message)
            await trio.sleep(0.1 if how == "asked to" else 10)
    assert log == [1, 2, "another helper", 3]
    assert events.one(ChildExited).reason == (Shutdown() if how == "asked to" else Normal())


async def test_a_helper_that_finds_another_actor_gone_fails_as_ever_also_while_its_own_is_stopping():
    class Helped(Actor):
        async def init(self):
            gone = self.context.supervisor.ref("gone")
            self.nursery.start_soon(self.help, gone)

        async def help(self, gone):
            await self.context.stopping.wait()
            gone.send("x")

        async def handle_message(self, message):
            await trio.sleep_forever()

    runtime = Runtime()
    with capture_events(runtime) as events:
        specs = [child(Echo, id="gone", restart="temporary"), child(Helped)]
        async with open_supervisor(Supervisor(specs), runtime=runtime) as supervisor:
            await supervisor.terminate_child("gone")
            supervisor.ref("Helped").send("busy")
            await wait_all_tasks_blocked()
    assert isinstance(events.of(ChildExited)[-1].reason, Crashed)


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize("mistake", ["not async", "wrong arguments"])
async def test_a_helper_that_cannot_be_spawned_is_the_crash_of_the_actor(when, mistake):
    """And not a reason to wait for ever for a nursery that was never opened."""

    def go(actor):
        if when == "later":
            actor.nursery.start_soon(trio.sleep_forever)
        if mistake == "not async":
            actor.nursery.start_soon(lambda: None)
        else:
            actor.nursery.start_soon(trio.sleep, 1, 2, 3)

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo, restart="temporary")]), runtime=runtime) as supervisor:
            supervisor.ref("Echo").send(go)
            await wait_all_tasks_blocked()
            ended = events.of(ChildExited)
    assert isinstance(ended[0].reason, Crashed)
    assert isinstance(ended[0].reason.exception, TypeError)


async def test_what_a_handler_starts_after_a_helper_that_cannot_be_spawned_does_not_hide_the_mistake():
    async def go(actor):
        actor.nursery.start_soon(lambda: None)
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)
        actor.nursery.start_soon(trio.sleep_forever)

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo, restart="temporary")]), runtime=runtime) as supervisor:
            supervisor.ref("Echo").send(go)
            await trio.sleep(1)
    reason = events.of(ChildExited)[0].reason
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, TypeError)


async def test_helpers_of_an_actor_whose_init_fails_do_not_outlive_it():
    journal = Journal()

    class Worker(Actor):
        async def init(self):
            self.nursery.start_soon(self.run)
            await trio.sleep(1)
            raise Boom

        async def run(self):
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                journal("helper ended")

    runtime = Runtime()
    runtime.events.subscribe(lambda _: journal("start failed"), ChildStartFailed)
    with pytest.raises(FailedToStart):
        async with open_supervisor(Supervisor([child(Worker)]), runtime=runtime):
            pass
    assert journal.take()[:2] == ["helper ended", "start failed"]


async def test_nursery_start_returns_what_the_helper_started_with():
    async def serve(task_status):
        task_status.started("port 80")
        await trio.sleep_forever()

    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        assert await supervisor.ref("Echo").call(lambda a: a.nursery.start(serve)) == "port 80"


async def test_in_turn_runs_between_two_messages():
    seq = Sequencer()
    log = []

    class Careful(Echo):
        async def helper(self):
            async def touch():
                log.append("helper in turn")
                return 42

            async with seq(1):
                pass
            log.append(await self.in_turn(touch))

        async def handle_message(self, message):
            self.nursery.start_soon(self.helper)
            log.append("handler begins")
            async with seq(0):
                pass
            async with seq(2):
                await trio.sleep(1)
            log.append("handler ends")

    async with open_supervisor(Supervisor([child(Careful)])) as supervisor:
        supervisor.ref("Careful").send("go")
        await trio.sleep(5)
    assert log == ["handler begins", "handler ends", "helper in turn", 42]


async def test_a_helper_that_fails_during_init_makes_it_a_failed_start():
    class Hasty(Actor):
        async def init(self):
            self.nursery.start_soon(self.fail)
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

        async def fail(self):
            raise Boom

    with pytest.raises(FailedToStart) as caught:
        async with open_supervisor(Supervisor([child(Hasty)])):
            pass
    assert isinstance(caught.value.__cause__, Boom)


async def test_init_timeout_counts_although_init_shields_itself():
    class Shielded(Actor):
        async def init(self):
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    with pytest.raises(FailedToStart) as caught:
        async with open_supervisor(Supervisor([child(Shielded, init_timeout=1.0)])):
            pass
    assert isinstance(caught.value.__cause__, InitTimeout)


async def test_a_helper_may_stop_the_actor():
    told = []

    class Helped(Actor):
        async def init(self):
            self.nursery.start_soon(self.help)

        async def help(self):
            raise Stop("enough")

        async def terminate(self, reason):
            told.append(reason)

    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Helped, restart="transient")]), runtime=runtime):
            await wait_all_tasks_blocked()
    assert [event.reason for event in events.of(ChildExited)] == [Shutdown("enough")] == told


async def test_stop_and_ignore_count_when_they_come_out_of_a_nursery():
    async def raises(error):
        async with trio.open_nursery():
            raise error

    def nested(error):
        return Journal().actor("nested", init=lambda _: raises(error))

    async with open_supervisor(Supervisor([])) as supervisor:
        assert await supervisor.start_child(child(nested(Ignore()), id="ignored")) is None
        with pytest.raises(FailedToStart) as caught:
            await supervisor.start_child(child(nested(Stop("enough")), id="stopped"))
    assert caught.value.reason == Shutdown("enough")


async def test_terminate_does_not_inherit_the_patience_of_the_last_caller():
    answers = []

    class Slow(Echo):
        async def handle_call(self, request):
            await trio.sleep(2)
            return request

    class Leaves(Actor):
        async def handle_call(self, request):
            raise Stop

        async def terminate(self, reason):
            answers.append(await call("slow", "bye"))

    tree = Supervisor([child(Slow, name="slow"), child(Leaves, restart="transient")])
    async with open_supervisor(tree) as supervisor:
        with pytest.raises(NotAlive):
            await supervisor.ref("Leaves").call("go", timeout=1)
        await trio.sleep(3)
    assert answers == ["bye"]


async def test_ignore_leaves_the_actor_out():
    class Unneeded(Actor):
        async def init(self):
            raise Ignore

    async with open_supervisor(Supervisor([child(Unneeded), child(Echo)])) as supervisor:
        assert [(info.id, info.status) for info in supervisor.which_children()] == [
            ("Unneeded", "stopped"),
            ("Echo", "running"),
        ]


async def test_ignore_after_init_is_a_crash_like_any_other():
    def ignore(_):
        raise Ignore

    with pytest.raises(GaveUp):  # noqa: PT012
        async with open_supervisor(Supervisor([child(Echo)], intensity=0)) as supervisor:
            supervisor.ref("Echo").send(ignore)
            await trio.sleep_forever()


@attrs.frozen
class Ping:
    n: int


async def test_the_deque_is_made_on_the_first_message_only():
    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        ref = supervisor.ref("Echo")
        assert ref.mailbox().unread == 0
        assert await ref.call(Ping(1)) == Ping(1)
        assert ref.mailbox().limit == 10_000
