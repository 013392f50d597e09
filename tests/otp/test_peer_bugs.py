"""The bugs that other Python supervision libraries have in common. Each was reproduced there; none may be here."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    Backoff,
    CallTimeout,
    FailedToStart,
    GaveUp,
    NotAlive,
    Supervisor,
    call,
    child,
    open_supervisor,
)
from otp.testing import no_task_left
from tests.otp.actors import Boom, Echo, Journal, boom, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def test_a_call_to_a_server_that_dies_does_not_wait():
    # triotp: for ever; fauxtp: for the whole timeout.
    async with open_supervisor(Supervisor([child(Echo)])) as supervisor:
        with trio.fail_after(0.001), pytest.raises(NotAlive):
            await supervisor.ref("Echo").call(boom, timeout=float("inf"))


@pytest.mark.parametrize("count", [1, 5, 50])
async def test_a_group_restart_is_one_restart_however_many_children_it_has(count):
    # otpylib charges each sibling, so one crash of five takes the supervisor down.
    spec = Supervisor([child(Echo, id=f"{i}") for i in range(count)], strategy="one_for_all", intensity=1)
    async with open_supervisor(spec) as supervisor:
        supervisor.ref("0").send(boom)
        await wait_all_tasks_blocked()
        assert supervisor.statistics().restarts == 1
        assert supervisor.count_children().active == count


async def test_the_window_is_of_the_supervisor_and_slides():
    # triotp counts per child; runsmith and frequenz per lifetime; fauxtp not at all.
    with pytest.raises(GaveUp):  # noqa: PT012
        async with open_supervisor(
            Supervisor([child(Echo, id=i) for i in "abcd"], intensity=3, period=5.0)
        ) as supervisor:
            for _ in range(20):
                supervisor.ref("a").send(boom)
                await trio.sleep(3)
            await trio.sleep(10)
            for id_ in "abcd":
                supervisor.ref(id_).send(boom)
            await trio.sleep_forever()


async def test_a_temporary_child_is_not_restarted():
    # otpylib's static supervisor never looks at the restart type.
    async with open_supervisor(Supervisor([child(Echo, restart="temporary")])) as supervisor:
        supervisor.ref("Echo").send(boom)
        await wait_all_tasks_blocked()
        assert supervisor.which_children() == []


async def test_a_supervisor_that_gives_up_says_so():
    # triotp and otpylib return silently.
    with pytest.raises(GaveUp):  # noqa: PT012
        async with open_supervisor(Supervisor([child(Echo)], intensity=0)) as supervisor:
            supervisor.ref("Echo").send(lambda actor: actor.stop())  # a normal exit of a permanent child, too
            await trio.sleep_forever()


async def test_stopping_is_ordered_awaited_and_has_grace():
    # mode: unordered; otpylib: in start order and not awaited; triotp: one cancel for all.
    journal = Journal()

    async def farewell(_):
        await trio.sleep(2)
        journal("done")

    specs = [child(journal.actor(i, terminate=farewell), id=i) for i in "ab"]
    async with no_task_left(), open_supervisor(Supervisor(specs)):
        journal.take()
    assert journal.take() == ["-b shutdown", "done", "-a shutdown", "done"]


async def test_a_caller_that_times_out_does_no_harm_to_the_server():
    # triotp: the reply goes to a closed channel, which kills the server.
    async with open_supervisor(Supervisor([child(Echo)], intensity=0)) as supervisor:
        ref = supervisor.ref("Echo")
        with pytest.raises(CallTimeout):
            await ref.call(sleeps(2), timeout=1)
        await trio.sleep(5)
        assert await ref.call("alive") == "alive"


async def test_a_message_that_comes_during_a_call_is_not_lost():
    # otpylib: an actor that waits for an answer drops whatever else comes.
    seen = []

    class Client(Actor):
        async def handle_message(self, message):
            seen.append(message)
            if message == "ask":
                seen.append(await call("server", "answer"))

    class Server(Echo):
        async def handle_call(self, request):
            await trio.sleep(1)
            return request

    specs = [child(Server, name="server"), child(Client)]
    async with open_supervisor(Supervisor(specs)) as supervisor:
        ref = supervisor.ref("Client")
        ref.send("ask")
        await wait_all_tasks_blocked()
        ref.send("meanwhile")
        await trio.sleep(2)
    assert seen == ["ask", "answer", "meanwhile"]


async def test_an_error_in_init_is_the_one_that_is_shown():
    # triotp: an UnboundLocalError covers it.
    class Faulty(Actor):
        async def init(self):
            raise Boom("the real one")

    with pytest.raises(FailedToStart, match="the real one") as failed:
        async with open_supervisor(Supervisor([child(Faulty)])):
            raise AssertionError("not reached")
    assert isinstance(failed.value.__cause__, Boom)


async def test_sending_does_not_wait_for_the_receiver():
    # triotp: a rendezvous; two servers that send to each other deadlock.
    class Player(Actor):
        async def handle_message(self, hits):
            if hits < 100:
                other = "b" if self.context.id == "a" else "a"
                self.context.supervisor.ref(other).send(hits + 1)
            else:
                done.set()

    done = trio.Event()
    async with open_supervisor(Supervisor([child(Player, id=i) for i in "ab"])) as supervisor:
        supervisor.ref("a").send(0)
        with trio.fail_after(1):
            await done.wait()


async def test_a_child_that_fails_in_init_is_not_restarted_thousands_of_times():
    # fauxtp: 2425 restarts in half a second.
    starts = []

    class Faulty(Actor):
        async def init(self):
            starts.append(trio.current_time())
            if len(starts) > 1:
                raise Boom

        async def handle_message(self, message):
            raise Boom

    backoff = Backoff(initial=0.1, jitter=0.0)
    with pytest.raises(GaveUp):  # noqa: PT012
        spec = Supervisor([child(Faulty)], intensity=5, period=60, backoff=backoff)
        async with open_supervisor(spec, log=False) as supervisor:
            supervisor.ref("Faulty").send("x")
            await trio.sleep(0.5)
            assert len(starts) <= 4
            await trio.sleep_forever()
    assert len(starts) == 6


async def test_wake_ups_do_not_starve_the_stop():
    # thespian: an actor that wakes itself up never sees its exit message.
    class Busy(Actor):
        async def init(self):
            self.send_self("tick")

        async def handle_message(self, message):
            self.send_self("tick")

    with trio.fail_after(1):
        async with open_supervisor(Supervisor([child(Busy)])):
            for _ in range(10):
                await trio.lowlevel.checkpoint()
