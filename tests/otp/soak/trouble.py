"""What goes wrong with a child of any kind when it starts and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from otp import Ignore, Stop
from tests.otp.soak.world import Boom

if TYPE_CHECKING:
    from tests.otp.soak.world import Record, World


async def get_into_trouble_at_start(world: World) -> None:
    if world.chance(0.3):
        await trio.sleep(world.random.random() * 3)
    if world.chance(0.02):
        world.count("an init hangs")
        await world.calm.wait()
    if world.chance(0.12):
        raise world.random.choice([Boom("init"), Boom("init"), Ignore(), Stop(), Stop("init")])


async def get_into_trouble_at_the_end(world: World, record: Record) -> None:
    record.ending = True
    if world.chance(0.3):
        await trio.sleep(world.random.random() * 10)
    if world.chance(0.05):
        world.count("a child refuses to stop")
        with trio.CancelScope(shield=True):
            await trio.sleep(world.random.random() * 15)
    if world.chance(0.08):
        raise Boom("end")
