"""What others get to see of an actor: inspection, crash reports, and how both are redacted.

The rows are those of gen_server_SUITE about `format_status`, with the meaning that an actor's own two hooks,
`describe_state` and `describe_message`, give to it.
"""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    ActorCrashed,
    CallingSelf,
    CallTimeout,
    Inspection,
    MailboxStatistics,
    NoMailbox,
    NotAlive,
    Runtime,
    Shutdown,
    Stop,
    Supervisor,
    child,
    open_supervisor,
)
from otp.testing import capture_events
from tests.otp.actors import Boom, perform
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


class Account(Actor):
    """Its messages are pairs of what to do and a secret."""

    def __init__(self):
        self.owner = "Ada"
        self.password = "1234"

    def describe_state(self):
        return {"owner": self.owner, "password": "***"}

    def describe_message(self, message):
        return (message[0].__name__, "***")

    async def handle_message(self, message):
        await perform(self, message[0])

    async def handle_call(self, request):
        return await perform(self, request[0])


def fail(_):
    raise Boom("no money")


async def busy(_):
    await trio.sleep(10)


async def crash(how, actor=Account):
    """The report of the crash that `how(supervisor)` causes."""
    runtime = Runtime()
    with capture_events(runtime) as events:
        spec = Supervisor([child(actor, id="a", name="a", restart="temporary")])
        async with open_supervisor(spec, runtime=runtime) as supervisor:
            await how(supervisor)
            await wait_all_tasks_blocked()
    return events.of(ActorCrashed)


async def test_gen_server_call_format_status():
    """Inspection shows the state as the actor's own hook makes it; by default that is its attributes."""

    class Plain(Actor):
        async def init(self):
            self.total = 3

    async with open_supervisor(Supervisor([child(Account), child(Plain, mailbox=7)])) as supervisor:
        seen = await supervisor.ref("Account").inspect()
        assert seen.state == {"owner": "Ada", "password": "***"}
        ref = supervisor.ref("Plain")
        assert await ref.inspect() == Inspection(
            path="app/Plain",
            incarnation=ref.incarnation,
            state={"total": 3},
            mailbox=MailboxStatistics(unread=0, limit=7, senders_waiting=0, overflowed=0),
        )


async def test_gen_server_error_format_status_shapes_state_and_message_of_a_crash():
    async def send(supervisor):
        supervisor.ref("a").send((fail, "secret"))

    (report,) = await crash(send)
    assert report.state == {"owner": "Ada", "password": "***"}
    assert report.message == ("fail", "***")
    assert report.caller is None
    assert isinstance(report.reason.exception, Boom)


async def test_gen_server_error_format_status_names_the_caller_of_a_call():
    async def call(supervisor):
        with pytest.raises(NotAlive):
            await supervisor.ref("a").call((fail, "secret"))

    (report,) = await crash(call)
    assert report.message == ("fail", "***")
    assert report.caller == "app"


async def test_gen_server_terminate_crash_format_a_stop_makes_no_report():
    def stop(_):
        raise Stop("fine")

    async def end(supervisor):
        supervisor.ref("a").send((stop, ""))

    assert await crash(end) == []

    async def halt(supervisor):
        supervisor.ref("a").send((lambda actor: actor.stop(Shutdown("x")), ""))

    assert await crash(halt) == []


@pytest.mark.parametrize("error", [ValueError("cannot say"), Stop("cannot say")])
async def test_gen_server_crash_in_format_status_is_replaced_by_a_note(error):
    class Broken(Account):
        def describe_state(self):
            raise error

        def describe_message(self, message):
            raise KeyError(message)

    async def send(supervisor):
        seen = await supervisor.ref("a").inspect()
        assert seen.state == f"<describe_state failed: {type(error).__name__}: cannot say>"
        supervisor.ref("a").send((fail, "secret"))

    (report,) = await crash(send, Broken)
    assert report.state == f"<describe_state failed: {type(error).__name__}: cannot say>"
    assert str(report.message).startswith("<describe_message failed: KeyError")
    assert isinstance(report.reason.exception, Boom)


async def test_gen_server_throw_in_format_status_is_replaced_by_a_note():
    """Python has one way to raise where Erlang has three; what is thrown to end the actor is no exception to that."""
    await test_gen_server_crash_in_format_status_is_replaced_by_a_note(Stop("cannot say"))


async def test_gen_server_format_all_status_the_log_has_the_redacted_report_only_where_details_are_wanted(caplog):
    async def send(supervisor):
        supervisor.ref("a").send((fail, "secret"))

    with caplog.at_level(logging.DEBUG, logger="otp"):
        await crash(send)
    lines = [record.getMessage() for record in caplog.records]
    assert any("crashed while handling ('fail', '***'); its state: {'owner': 'Ada'" in line for line in lines)
    assert not any("1234" in line or "secret" in line for line in lines)


async def test_a_report_of_a_crash_between_two_messages_and_of_a_timer():
    async def helper_fails(supervisor):
        async def helper():
            await trio.sleep(1)
            raise Boom

        await supervisor.ref("a").call((lambda actor: actor.nursery.start_soon(helper), ""))
        await trio.sleep(2)

    (report,) = await crash(helper_fails)
    assert report.message is None

    async def timer_fails(supervisor):
        await supervisor.ref("a").call((lambda actor: actor.after(1, (fail, "secret")) and None, ""))
        await trio.sleep(2)

    (report,) = await crash(timer_fails)
    assert report.message == ("fail", "***")


async def test_inspection_overtakes_the_mailbox_but_not_the_handler():
    async with open_supervisor(Supervisor([child(Account)])) as supervisor:
        ref = supervisor.ref("Account")
        for _ in range(3):
            ref.send((busy, ""))
        await wait_all_tasks_blocked()
        with pytest.raises(CallTimeout):
            await ref.inspect(timeout=3)
        seen = await ref.inspect(timeout=30)
        assert trio.current_time() == 10
        assert seen.mailbox.unread == 2


async def test_inspection_goes_round_the_limit_and_fails_with_the_actor():
    async with open_supervisor(Supervisor([child(Account, mailbox=1)])) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("Account")
        ref.send((busy, ""))
        await wait_all_tasks_blocked()
        ref.send((fail, ""))
        failed = []

        async def look():
            with pytest.raises(NotAlive):
                await ref.inspect()
            failed.append(True)

        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        await supervisor.terminate_child("Account")
        await wait_all_tasks_blocked()
        assert failed == [True]
        with pytest.raises(NotAlive):
            await ref.inspect()


async def test_only_an_actor_can_be_inspected_and_not_by_its_own_handler():
    async with open_supervisor(Supervisor([child(trio.sleep_forever), child(Account)])) as supervisor:
        with pytest.raises(NoMailbox):
            await supervisor.ref("sleep_forever").inspect()
        with pytest.raises(ValueError, match="timeout must be a number"):
            await supervisor.ref("Account").inspect(timeout=-1)

        async def look(actor):
            with pytest.raises(CallingSelf):
                await actor.me.inspect()

        await supervisor.ref("Account").call((look, ""))


async def test_an_idle_timeout_goes_on_when_a_tool_looks():
    idle = []

    class Idles(Actor):
        async def init(self):
            self.idle_after(3)

        async def handle_idle(self):
            idle.append(trio.current_time())

    async with open_supervisor(Supervisor([child(Idles)])) as supervisor:
        for _ in range(4):
            await trio.sleep(0.7)
            await supervisor.ref("Idles").inspect()
        await trio.sleep(5)
    assert idle == [3]
