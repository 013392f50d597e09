"""Random trees in random trouble, in virtual time, under trio's own random scheduling: what must always hold."""

from random import Random
from typing import Any

import pytest
import trio

from otp import (
    Backoff,
    ChildExited,
    ChildStarted,
    FailedToStart,
    GaveUp,
    Ignore,
    OtpError,
    Runtime,
    Stop,
    Supervisor,
    child,
    open_supervisor,
)
from otp.testing import capture_events, no_task_left
from tests.otp.actors import Boom, Echo
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


class Storm:
    """Makes trees whose actors fail at random, and counts that every init that was done got its terminate."""

    nursery: trio.Nursery

    def __init__(self, seed):
        self.random = Random(seed)
        self.begun = False
        self.running: set[str] = set()

    def actor(self):
        storm, random = self, self.random

        class Shaky(Echo):
            async def init(self):
                if random.random() < 0.3:
                    await trio.sleep(random.random())
                if storm.begun and random.random() < 0.1:
                    raise random.choice([Boom, Ignore, Stop])
                if random.random() < 0.3:
                    self.nursery.start_soon(self.helper)
                path = self.context.path
                assert path not in storm.running, "two incarnations at once"
                storm.running.add(path)

            async def helper(self):
                await trio.sleep(random.random() * 50)
                raise Boom("helper")

            async def handle_message(self, message):
                await storm.trouble(self)

            async def handle_call(self, request):
                await storm.trouble(self)
                return request

            async def terminate(self, reason):
                storm.running.remove(self.context.path)
                if random.random() < 0.3:
                    await trio.sleep(random.random() * 10)
                if random.random() < 0.1:
                    raise Boom("terminate")

        return Shaky()

    async def trouble(self, actor):
        kind = self.random.random()
        if kind < 0.3:
            await trio.sleep(self.random.random())
        elif kind < 0.35:
            raise Boom
        elif kind < 0.4:
            actor.stop()
        elif kind < 0.45:
            raise Stop("enough")
        elif kind < 0.5:
            actor.send_self("again")

    async def task(self):
        await trio.sleep(self.random.random() * 20)
        if self.random.random() < 0.5:
            raise Boom("task")

    def tree(self, depth):
        random = self.random
        specs = []
        for i in range(random.randint(1, 5)):
            start: Any = self.actor if random.random() < 0.8 else self.task
            if depth and random.random() < 0.4:
                start = self.tree(depth - 1)
            shutdown: Any = random.choice(["brutal", "infinity", 0.5, 5.0, None])
            specs.append(
                child(
                    start,
                    id=f"c{i}",
                    restart=random.choice(["permanent", "transient", "temporary"]),
                    shutdown="infinity" if isinstance(start, Supervisor) else shutdown,
                    backoff=random.choice([None, None, Backoff(initial=0.5)]),
                    mailbox=random.choice([3, 100]),
                )
            )
        strategy: Any = random.choice(["one_for_one", "one_for_all", "rest_for_one"])
        return Supervisor(specs, strategy=strategy, intensity=random.choice([0, 3, 50]), period=5.0)

    async def pester(self, supervisor):
        random = self.random
        while True:
            await trio.sleep(random.random() * 0.3)
            for info in supervisor.which_children():
                try:
                    if info.ref is not None and random.random() < 0.5:
                        info.ref.send("x")
                    if info.ref is not None and random.random() < 0.2:
                        with trio.move_on_after(random.random()):
                            await info.ref.call("x", timeout=random.choice([5.0, 0.1]))
                    if random.random() < 0.02:
                        await supervisor.terminate_child(info.id)
                    if random.random() < 0.05:
                        await supervisor.restart_child(info.id)
                    if info.status == "running" and random.random() < 0.5 and info.spec.is_supervisor:
                        self.nursery.start_soon(self.pester_briefly, supervisor.supervisor(info.id))
                except OtpError:
                    pass

    async def pester_briefly(self, supervisor):
        with trio.move_on_after(2):
            await self.pester(supervisor)


@pytest.mark.parametrize("seed", range(60))
async def test_a_random_tree_in_random_trouble(seed):
    storm = Storm(seed)
    runtime = Runtime()
    with capture_events(runtime) as events:
        async with no_task_left():
            with trio.move_on_after(storm.random.random() * 60):
                try:
                    async with (
                        open_supervisor(storm.tree(2), runtime=runtime, log=False) as supervisor,
                        trio.open_nursery() as storm.nursery,
                    ):
                        storm.begun = True
                        await storm.pester(supervisor)
                except* (GaveUp, FailedToStart):
                    pass
    assert storm.running == set()  # every terminate ran
    assert runtime.registry.names() == {}
    assert runtime.statistics().waiting_calls == 0
    started = [(e.path, e.incarnation) for e in events.of(ChildStarted)]
    ended = [(e.path, e.incarnation) for e in events.of(ChildExited)]
    assert sorted(started) == sorted(ended)
