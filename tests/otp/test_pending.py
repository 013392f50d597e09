"""Calls that are not waited for at once. The rows are of gen_server_SUITE."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    DEFERRED,
    CallingSelf,
    CallTimeout,
    MailboxFull,
    NoMailbox,
    NotAlive,
    PendingCalls,
    Supervisor,
    child,
    open_supervisor,
    request,
)
from tests.otp.actors import Boom, Echo, boom, perform, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


def echo(**options):
    return open_supervisor(Supervisor([child(Echo, id="echo", name="echo", **options)]))


def naps(seconds, answer=None):
    async def nap(_):
        await trio.sleep(seconds)
        return answer

    return nap


async def test_gen_server_send_request_wait_receive_and_check():
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        first, second, third = ref.request("1"), ref.request("2"), request("echo", "3")
        assert not first.done
        with pytest.raises(trio.WouldBlock):
            first.result()
        assert await first.wait() == "1"
        assert await second.receive() == "2"
        await wait_all_tasks_blocked()
        assert third.done
        assert third.result() == third.result() == "3"
        assert await third.wait(timeout=0) == "3"


async def test_gen_server_send_request_wait_can_be_resumed_after_a_timeout():
    async with echo() as supervisor:
        pending = supervisor.ref("echo").request(naps(3, "slept"))
        for _ in range(2):
            with pytest.raises(CallTimeout, match="app/echo did not answer within 1 s"):
                await pending.wait(timeout=1)
        with trio.move_on_after(0.5):
            await pending.wait()
        assert await pending.wait() == "slept"
        assert supervisor.runtime.late_replies == 0


async def test_gen_server_send_request_receive_abandons_on_timeout_and_on_cancellation():
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        ref.send(sleeps(3))
        handled = []
        given_up, cancelled = ref.request(naps(3)), ref.request(lambda _: handled.append("x"))
        with pytest.raises(CallTimeout):
            await given_up.receive(timeout=1)
        with trio.move_on_after(1):
            await cancelled.receive()
        for pending in (given_up, cancelled):
            assert not pending.done
            with pytest.raises(trio.WouldBlock):
                await pending.wait()
        await trio.sleep(10)
        assert handled == []
        assert supervisor.runtime.skipped_calls == 2
        begun = ref.request(naps(3))
        with pytest.raises(CallTimeout):
            await begun.receive(timeout=1)
        await trio.sleep(10)
        assert supervisor.runtime.late_replies == 1


async def test_receive_tells_the_callee_until_when_somebody_waits():
    async with echo() as supervisor:
        seen = []
        pending = supervisor.ref("echo").request(lambda actor: seen.append(actor.context.call_deadline))
        await pending.receive(timeout=3)
        assert seen == [3]


async def test_gen_server_send_request_noproc_death_and_no_room_are_results():
    async with echo(mailbox=1, restart="temporary") as supervisor:
        ref = supervisor.ref("echo")
        dies = ref.request(boom)
        no_room = ref.request("x")
        nobody = request("nobody", "x")
        with pytest.raises(NotAlive) as error:
            await dies.wait()
        assert isinstance(error.value.__cause__, Boom)
        with pytest.raises(MailboxFull):
            no_room.result()
        with pytest.raises(NotAlive, match="nobody"):
            nobody.result()
        dead = ref.request("x")
        assert dead.done
        with pytest.raises(NotAlive, match="crashed"):
            await dead.receive()
    async with open_supervisor(Supervisor([child(trio.sleep_forever)])) as supervisor:
        with pytest.raises(NoMailbox):
            supervisor.ref("sleep_forever").request("x").result()


async def test_a_deferred_request_is_answered_or_fails_with_the_actor():
    class Later(Echo):
        async def handle_call(self, request):
            self.to = self.reply_to()
            return DEFERRED

    async with open_supervisor(Supervisor([child(Later)])) as supervisor:
        ref = supervisor.ref("Later")
        answered = ref.request("x")
        ref.send(lambda actor: actor.to.reply_error(ValueError("no")) and None)
        with pytest.raises(ValueError, match="no"):
            await answered.wait()
        lost = ref.request("y")
        await wait_all_tasks_blocked()
        ref.send(boom)
        with pytest.raises(NotAlive):
            await lost.wait(timeout=math.inf)
        assert trio.current_time() == 0


async def test_gen_server_send_request_receive_reqid_collection_in_arrival_order_with_labels():
    spec = Supervisor([child(Echo, id=str(i)) for i in range(5)])
    async with open_supervisor(spec) as supervisor:
        pending = PendingCalls()
        for i in range(5):
            pending.add(supervisor.ref(str(i)).request(naps(5 - i, i)), label=f"label {i}")
        assert len(pending) == 5
        seen = [(label, call.result()) async for label, call in pending]
        assert seen == [(f"label {i}", i) for i in (4, 3, 2, 1, 0)]
        assert len(pending) == 0
        with pytest.raises(LookupError):
            await pending.next()


async def test_gen_server_send_request_wait_reqid_collection_is_resumed_after_a_timeout():
    async with echo() as supervisor:
        pending = PendingCalls()
        pending.add(supervisor.ref("echo").request(naps(3, "slept")), label="a")
        pending.add(request("nobody", "x"), label="noproc")
        label, call = await pending.next()
        assert label == "noproc"
        with pytest.raises(NotAlive):
            call.result()
        with trio.move_on_after(1) as scope:
            await pending.next()
        assert scope.cancelled_caught
        assert len(pending) == 1
        label, call = await pending.next()
        assert (label, call.result()) == ("a", "slept")


async def test_gen_server_send_request_check_reqid_collection_does_not_block():
    async with echo() as supervisor:
        pending = PendingCalls()
        with pytest.raises(LookupError):
            pending.next_nowait()
        pending.add(supervisor.ref("echo").request("x"), label=1)
        with pytest.raises(trio.WouldBlock):
            pending.next_nowait()
        await wait_all_tasks_blocked()
        label, call = pending.next_nowait()
        assert (label, call.result()) == (1, "x")


async def test_leaving_a_collection_abandons_what_is_left():
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        handled = []
        with PendingCalls() as pending:
            pending.add(ref.request(naps(1)), label="slow")
            for _ in range(3):
                pending.add(ref.request(lambda _: handled.append("x")))
        assert len(pending) == 0
        await trio.sleep(5)
        assert handled == []
        assert supervisor.runtime.skipped_calls == 4


async def test_abandoning_the_last_one_ends_the_wait_for_it():
    async with echo() as supervisor, trio.open_nursery() as nursery:
        slow = supervisor.ref("echo").request(naps(100))
        pending = PendingCalls()
        pending.add(slow)
        ended = []

        async def iterate():
            async for _ in pending:
                pass
            ended.append("collection")

        async def wait():
            with pytest.raises(trio.WouldBlock):
                await slow.wait(timeout=math.inf)
            ended.append("handle")

        nursery.start_soon(iterate)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        slow.abandon()
        await wait_all_tasks_blocked()
        assert sorted(ended) == ["collection", "handle"]
        await supervisor.terminate_child("echo")


async def test_a_call_is_in_one_collection_at_most():
    async with echo() as supervisor:
        pending = supervisor.ref("echo").request("x")
        PendingCalls().add(pending)
        with pytest.raises(ValueError, match="in a collection already"):
            PendingCalls().add(pending)


async def test_an_abandoned_call_is_not_waited_for_in_a_collection_either():
    async with echo() as supervisor:
        pending, late = supervisor.ref("echo").request("x"), supervisor.ref("echo").request(sleeps(5))
        pending.abandon()
        with pytest.raises(CallTimeout):
            await late.receive(timeout=1)
        for abandoned in (pending, late):
            collection = PendingCalls()
            with pytest.raises(ValueError, match="must not have been abandoned"):
                collection.add(abandoned)
            assert len(collection) == 0


async def test_handles_that_are_dropped_leave_nothing_behind():
    async with echo() as supervisor:
        ref = supervisor.ref("echo")
        handles = [ref.request(i) for i in range(100)]
        requests = [handle._request for handle in handles]
        for handle in handles[:50]:
            handle.abandon()
        del handles
        await wait_all_tasks_blocked()
        assert all(asked._handle is None for asked in requests)
        assert ref.mailbox().unread == 0
        assert len(supervisor.runtime.calls) == 0


async def test_an_actor_that_waits_in_a_handler_for_itself_is_refused_and_a_later_look_is_fine():
    class Selfish(Echo):
        async def handle_call(self, request):
            if request == "ask":
                self.pending = self.me.request("me")
                with pytest.raises(CallingSelf):
                    await self.pending.wait()
                return "refused"
            if callable(request):
                return await perform(self, request)
            return request

    async with open_supervisor(Supervisor([child(Selfish)])) as supervisor:
        ref = supervisor.ref("Selfish")
        assert await ref.call("ask") == "refused"
        assert await ref.call(lambda actor: actor.pending.result()) == "me"


@pytest.mark.parametrize("timeout", [-1, math.nan])
async def test_a_senseless_timeout_is_refused(timeout):
    async with echo() as supervisor:
        with pytest.raises(ValueError, match="timeout must be a number of seconds >= 0"):
            await supervisor.ref("echo").request("x").wait(timeout=timeout)
