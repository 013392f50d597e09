"""What `help(otp)` promises: an async function or method that returns has been a checkpoint."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints

from otp import Actor, PendingCalls, Supervisor, call, child, current_context, host, open_supervisor
from otp.testing import Probe, advance, drive


class Echo(Actor):
    async def handle_call(self, request):
        if request == "in turn":
            return self.helper_turns
        return request

    async def init(self):
        self.helper_turns = 0
        self.nursery.start_soon(self.help)

    async def help(self):
        async def turn():
            self.helper_turns += 1

        with assert_checkpoints():
            await self.in_turn(turn)
        with assert_checkpoints():
            await self.nursery.start(ready)


async def ready(task_status):
    task_status.started()


TREE = Supervisor([child(Echo, id="echo", name="echo"), child(Actor, id="other")], strategy="one_for_one")


async def started(supervisor):
    await supervisor.start_child(child(Actor, id="new"))


async def instance(_):
    template = Supervisor([child(Actor)], strategy="simple_one_for_one")
    async with open_supervisor(template, name="instances", log=False) as supervisor:
        with assert_checkpoints():
            await supervisor.start_instance()


async def restarted(supervisor):
    with assert_checkpoints():
        await supervisor.terminate_child("other")
    with assert_checkpoints():
        await supervisor.restart_child("other")
    await supervisor.terminate_child("other")
    with assert_checkpoints():
        await supervisor.delete_child("other")


async def waited(supervisor):
    pending = supervisor.ref("echo").request(1)
    with assert_checkpoints():
        assert await pending.wait() == 1
    assert await pending.wait() == 1  # also when it is there already
    with assert_checkpoints():
        assert await pending.receive() == 1


async def next_one(supervisor):
    pending = PendingCalls()
    for number in range(2):
        pending.add(supervisor.ref("echo").request(number))
    await trio.sleep(1)
    with assert_checkpoints():
        await pending.next()
    async for _, answer in pending:
        assert answer.result() == 1


async def opened(_):
    manager = open_supervisor(Supervisor([]), name="another", log=False)
    with assert_checkpoints():
        await manager.__aenter__()
    with assert_checkpoints():
        await manager.__aexit__(None, None, None)


async def guest():
    pass


@pytest.mark.parametrize(
    "use",
    [
        lambda supervisor: supervisor.ref("echo").send_wait("x"),
        lambda supervisor: supervisor.ref("echo").call(1),
        lambda supervisor: supervisor.ref("echo").call(1, timeout=1),
        lambda _: call("echo", 1),
        lambda supervisor: supervisor.ref("echo").inspect(),
        lambda supervisor: supervisor.change(TREE),
        lambda _: host(current_context(), child(guest)),
        started,
        instance,
        restarted,
        waited,
        next_one,
        opened,
    ],
)
async def test_it_is_a_checkpoint(autojump_clock, use):
    async with open_supervisor(TREE, log=False) as supervisor:
        with assert_checkpoints():
            await use(supervisor)
        await trio.sleep(1)
        assert await call("echo", "in turn") == 1


async def test_those_for_tests_are_checkpoints_too(autojump_clock):
    probe = Probe("probe")
    async with drive(Echo, probes=[probe]) as echo:
        with assert_checkpoints():
            await echo.call(1)
        with assert_checkpoints():
            await echo.stop()
        with assert_checkpoints():
            await echo.wait()
        with assert_checkpoints():
            await probe.expect_nothing()
        with assert_checkpoints():
            await advance(1)
