"""The mailbox: its limit, backpressure, and that nobody hogs the loop, which is counted and not timed."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Actor,
    MailboxFull,
    MailboxStatistics,
    MessagesDropped,
    NotAlive,
    Runtime,
    Supervisor,
    child,
    open_supervisor,
)
from otp._mailbox import BATCH
from otp.testing import capture_events
from tests.otp.actors import Echo, boom, sleeps
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


class Counter(Actor):
    def __init__(self):
        self.count = 0

    async def handle_message(self, message):
        self.count += 1

    async def handle_call(self, request):
        return self.count


async def test_a_full_mailbox_refuses_and_says_what_to_do():
    async with open_supervisor(Supervisor([child(Echo, mailbox=3)])) as supervisor:
        ref = supervisor.ref("Echo")
        for _ in range(3):
            ref.send(str)
        with pytest.raises(MailboxFull) as full:
            ref.send(str)
        assert (full.value.target, full.value.size) == ("app/Echo", 3)
        assert "send_wait" in str(full.value)
        assert "mailbox=" in str(full.value)
        await wait_all_tasks_blocked()
        ref.send(str)  # there is room again


async def test_send_wait_waits_for_room_and_lets_senders_in_one_after_another():
    seen = []

    class Slow(Actor):
        async def handle_message(self, message):
            await trio.sleep(1)
            seen.append(message)

    async with open_supervisor(Supervisor([child(Slow, mailbox=2, shutdown="infinity")])) as supervisor:
        ref = supervisor.ref("Slow")
        async with trio.open_nursery() as nursery:
            for i in range(10):
                nursery.start_soon(ref.send_wait, i)
                await wait_all_tasks_blocked()
            assert ref.mailbox() == MailboxStatistics(unread=2, limit=2, senders_waiting=7, overflowed=0)
        assert trio.current_time() > 0
    assert seen == list(range(10))


async def test_send_wait_is_a_checkpoint_and_sends_nothing_when_cancelled():
    async with open_supervisor(Supervisor([child(Counter, mailbox=2)])) as supervisor:
        ref = supervisor.ref("Counter")
        with trio.testing.assert_checkpoints():
            await ref.send_wait("x")
        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.send_wait("never")
        assert await ref.call("count") == 1


async def test_an_actor_does_not_wait_for_room_in_its_own_mailbox():
    seen = []

    class Sender(Actor):
        async def handle_message(self, message):
            seen.append(message)
            if message == "go":
                await trio.sleep(1)  # meanwhile others fill it, and wait
                await self.me.send_wait("own")
                with pytest.raises(MailboxFull):
                    await self.me.send_wait("too much")

    async with open_supervisor(Supervisor([child(Sender, mailbox=3)])) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("Sender")
        for message in ("first", "go", 1):
            ref.send(message)
        nursery.start_soon(ref.send_wait, 2)
        await trio.sleep(5)
        assert seen == ["first", "go", 1, 2, "own"]


async def test_senders_that_wait_are_told_when_the_receiver_dies():
    async with (
        open_supervisor(Supervisor([child(Echo, mailbox=1, restart="temporary")])) as supervisor,
        trio.open_nursery() as nursery,
    ):
        ref = supervisor.ref("Echo")
        refused = []

        async def sender():
            with pytest.raises(NotAlive):
                await ref.send_wait(str)
            refused.append(True)

        async def wait_and_crash(actor):
            await trio.sleep(1)
            boom(actor)

        ref.send(wait_and_crash)
        await wait_all_tasks_blocked()
        ref.send(str)
        for _ in range(3):
            nursery.start_soon(sender)
    assert refused == [True] * 3


async def test_senders_that_wait_are_told_when_the_receiver_is_stopped():
    async with (
        open_supervisor(Supervisor([child(Echo, mailbox=1)])) as supervisor,
        trio.open_nursery() as nursery,
    ):
        ref = supervisor.ref("Echo")
        ref.send(sleeps(1))
        await wait_all_tasks_blocked()
        ref.send(str)

        @nursery.start_soon
        async def sender():
            with pytest.raises(NotAlive):
                await ref.send_wait(str)

        await wait_all_tasks_blocked()
        await supervisor.terminate_child("Echo")


async def test_an_actor_with_a_backlog_lets_others_run_after_each_batch():
    turns_of_others = 0
    busy = True

    async def other():
        nonlocal turns_of_others
        while busy:
            turns_of_others += 1
            await trio.lowlevel.checkpoint()

    async with open_supervisor(Supervisor([child(Counter)])) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("Counter")
        for _ in range(100 * BATCH):
            ref.send("x")
        nursery.start_soon(other)
        assert await ref.call("count", timeout=1000) == 100 * BATCH
        busy = False
    # One turn of the others for each batch of the actor; the loop runs the two in either order.
    assert 99 <= turns_of_others <= 103


async def test_two_actors_that_send_to_each_other_leave_room_for_a_third():
    class Player(Actor):
        hits = 0

        async def handle_message(self, other):
            Player.hits += 1
            other.send(self.me)

    async with open_supervisor(Supervisor([child(Player, id=i, shutdown="brutal") for i in "ab"])) as supervisor:
        a, b = supervisor.ref("a"), supervisor.ref("b")
        for _ in range(500):
            a.send(b)
            b.send(a)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        # 100 turns for us; a batch at most for each of them per turn
        assert 100 <= Player.hits <= 2 * 102 * BATCH


async def test_slow_handlers_let_others_run_long_before_a_batch_is_full(mock_clock):
    # Time only moves when a handler moves it: each takes a millisecond, without ever waiting.
    handled = []
    largest_gap = 0

    class Slow(Actor):
        async def handle_message(self, message):
            mock_clock.jump(0.001)
            handled.append(message)

    async with open_supervisor(Supervisor([child(Slow, shutdown="infinity")])) as supervisor:
        ref = supervisor.ref("Slow")
        for i in range(200):
            ref.send(i)
        before = 0
        while len(handled) < 200:
            await trio.lowlevel.checkpoint()
            largest_gap = max(largest_gap, len(handled) - before)
            before = len(handled)
    assert largest_gap <= 4


async def test_a_crash_drops_what_is_unread_and_says_how_much():
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with open_supervisor(Supervisor([child(Echo)]), runtime=runtime) as supervisor:
            ref = supervisor.ref("Echo")
            ref.send(str)
            ref.send(boom)
            for _ in range(5):
                ref.send(str)
            await wait_all_tasks_blocked()
            assert supervisor.ref("Echo") is not ref
    dropped = events.one(MessagesDropped)
    assert (dropped.path, dropped.count) == ("app/Echo", 5)


async def test_control_messages_overtake_a_backlog():
    async with open_supervisor(Supervisor([child(Counter, restart="temporary")])) as supervisor:
        ref = supervisor.ref("Counter")
        made = []

        class Halting(Counter):
            async def handle_message(self, message):
                await super().handle_message(message)
                made.append(self)
                self.stop()

        halting = await supervisor.start_child(child(Halting, restart="temporary"))
        assert halting is not None
        for _ in range(100):
            halting.send("x")
            ref.send("x")
        await wait_all_tasks_blocked()
        assert len(made) == 1
        assert not halting.alive
        assert await ref.call("count") == 100
