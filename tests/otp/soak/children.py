"""Children that are no actors get into the same trouble; and those who have a guest."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from otp import Behaviour, ChildContext, ChildSpec, Crashed, OtpError, Stop, child, host
from tests.otp.soak.messages import a_mailbox
from tests.otp.soak.trouble import get_into_trouble_at_start, get_into_trouble_at_the_end
from tests.otp.soak.worker import Worker
from tests.otp.soak.world import Boom, Record, World

if TYPE_CHECKING:
    from collections.abc import Awaitable


def task(world: World, *_: object) -> Awaitable[None]:
    if world.chance(0.05):
        raise Boom("factory")
    record = world.enter("task")
    record.up = True
    return _task(world, record)


async def _task(world: World, record: Record) -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            record.tasks = 1
            while True:
                await trio.sleep(world.random.random() * 20)
                if world.chance(0.3):
                    raise world.random.choice([Boom("task"), Stop(), Stop("task")])
                if world.chance(0.2):
                    nursery.cancel_scope.cancel()
    finally:
        record.tasks = 0
        try:
            await get_into_trouble_at_the_end(world, record)
        finally:
            world.leave(record)


def brief(world: World) -> Awaitable[None]:
    """A task that ends soon, whatever the weather."""
    record = world.enter("brief")
    record.up = True
    return _brief(world, record)


async def _brief(world: World, record: Record) -> None:
    try:
        await trio.sleep(world.random.random() * 3)
    finally:
        world.leave(record)


class Plain(Behaviour):
    def __init__(self, world: World, *_: object) -> None:
        self.world = world
        self.record = world.enter("plain")

    async def serve(self, context: ChildContext) -> None:
        try:
            await get_into_trouble_at_start(self.world)
            context.condition("works", ok=not self.world.chance(0.5))
            self.record.up = True
            context.started()
            try:
                with trio.move_on_after(self.world.random.random() * 60 if self.world.storm else math.inf):
                    await context.stopping.wait()
                if self.world.chance(0.5):
                    raise Boom("plain")
                if not context.stop_asked and not self.world.storm:
                    await context.stopping.wait()
            finally:
                with context.cleanup():
                    await get_into_trouble_at_the_end(self.world, self.record)
        finally:
            self.world.leave(self.record)


class Context(AbstractAsyncContextManager[None]):
    def __init__(self, world: World, *_: object) -> None:
        self.world = world
        self.record = world.enter("context")

    async def __aenter__(self) -> None:
        try:
            await get_into_trouble_at_start(self.world)
        except BaseException:
            self.world.leave(self.record)
            raise
        self.record.up = True

    async def __aexit__(self, *_: object) -> None:
        try:
            await get_into_trouble_at_the_end(self.world, self.record)
        finally:
            self.world.leave(self.record)


class Host(Behaviour):
    """Has one guest after another, and perhaps lends them its mailbox."""

    def __init__(self, world: World, *_: object) -> None:
        self.world = world
        self.record = world.enter("host")

    async def serve(self, context: ChildContext) -> None:
        try:
            await get_into_trouble_at_start(self.world)
            self.record.up = True
            context.started()
            while not context.stop_asked:
                await self.have_a_guest(context)
        finally:
            self.world.leave(self.record)

    async def have_a_guest(self, context: ChildContext) -> None:
        world, path = self.world, f"{context.path}/guest"
        self.record.tasks += 1  # which asks the guest to stop
        self.record.lends = world.random.random() < 0.7
        try:
            reason = await host(context, self.guest(), stop=context.stopping, lend_mailbox=self.record.lends)
        except (Boom, OtpError) as error:
            ended = world.guest_ends.pop(path)
            world.claim(isinstance(ended, Crashed) and ended.exception is error, f"{path} ended with {ended}")
            if world.random.random() < 0.5:
                raise
        else:
            ended = world.guest_ends.pop(path)
            world.claim(reason == ended, f"{path} ended with {ended}, its host was told {reason}")
            world.count("a guest has left")
        finally:
            self.record.tasks -= 1
            self.record.lends = False
            world.claim(not world.lives(path), f"{path} lives on without its host")
            world.claim(context.ref.mailbox().limit == 0, f"{self.record} has its guest's mailbox, and no guest")

    def guest(self) -> ChildSpec:
        random = self.world.random
        kind = random.choice([Worker, Worker, task, Plain, Context])
        shutdown: Any = random.choice(["brutal", "infinity", 0.5, 5.0])
        return child(partial(kind, self.world), id="guest", shutdown=shutdown, mailbox=a_mailbox(self.world))


KINDS = (*[Worker] * 6, task, Plain, Context, Host)
