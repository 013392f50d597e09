"""One round of the soak: a random tree, storms in which everything goes wrong, calms in which all must be in order."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from otp import FailedToStart, GaveUp, SupervisorRef, open_supervisor
from otp.testing import living_tasks, no_task_left, run_virtual
from tests.otp.soak import administration, operations  # noqa: F401  (that makes their operations known)
from tests.otp.soak.checked_core import CheckedCore
from tests.otp.soak.client import Client
from tests.otp.soak.events import watch
from tests.otp.soak.rest import TO_REST, check_end, check_rest, come_to_rest
from tests.otp.soak.trees import STRATEGIES, a_tree
from tests.otp.soak.world import Boom, World

if TYPE_CHECKING:
    from collections import Counter

LONGEST: Final = 10_000.0
"""Virtual seconds that a round may take; more is a deadlock."""


def run_round(seed: int) -> Counter[str]:
    """Raises if anything is wrong; what happened, and how often."""
    world = World(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otp._supervisor.SupervisorCore", partial(CheckedCore, world))
        run_virtual(whole_round, world, schedule=seed)
    return world.counts


async def whole_round(world: World) -> None:
    unsubscribe = world.runtime.events.subscribe(partial(watch, world))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_progress, world)
        async with no_task_left():
            await live_and_stop(world)
        nursery.cancel_scope.cancel()
    unsubscribe()
    check_end(world)
    if world.violations:
        raise AssertionError("\n".join(world.violations[:20]))


async def live_and_stop(world: World) -> None:
    random = world.random
    world.storm = random.random() < 0.1  # otherwise the tree comes up in peace
    tree = a_tree(world, 3, intensity=random.choice([0, 5, 100, 100, 100]), strategies=STRATEGIES[:3])
    ending = random.choice(["leave", "leave", "drain", "drain", "cancel", "raise", "budget"])
    try:
        with trio.CancelScope() as scope:
            async with open_supervisor(tree, runtime=world.runtime, log=False) as root:
                await storms(world, root)
                world.count(f"end: {ending}")
                if random.random() < 0.7:
                    world.begin_storm()
                match ending:
                    case "cancel":
                        scope.cancel()
                    case "raise":
                        raise Boom("body")  # noqa: TRY301  (out of the block is where it is to go)
                    case "drain":
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(Client(world, root).run, 30)
                            await drain(world)
                    case "budget":
                        world.runtime.stop_all_by(trio.current_time() + random.random() * 10)
                    case _:
                        pass
    except* GaveUp:
        world.count("the root gave up")
    except* FailedToStart:
        world.count("the root failed to start")
    except* Boom:
        pass
    world.end_storm()


async def storms(world: World, root: SupervisorRef) -> None:
    for _ in range(world.random.randint(1, 3)):
        world.begin_storm()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(Client(world, root).run, world.random.randint(20, 80))
        world.end_storm()
        if not await come_to_rest(world, root):
            return
        check_rest(world, root)


async def drain(world: World) -> None:
    """It comes back when nobody holds any more work, or when its time is over, and says who does."""
    began, seconds = trio.current_time(), world.random.choice([0.0, 5.0, 15.0, 100.0])
    left = await world.runtime.drain(began + seconds)
    now = trio.current_time()
    world.claim(left == sorted(world.holding.elements()), f"{left} are not done, but {world.holding} are")
    expected = began + seconds if left else max(began, world.released)
    world.claim(now == expected, f"the drain ended at {now}, not at {expected}")
    world.claim(not left or seconds < 100, f"{left} were told to drain, and are not done")
    world.count("drain: given back" if left else "drain: done")


# -- progress ----------------------------------------------------------------------------------------------


async def expect_progress(world: World) -> None:
    """In virtual time a deadlock is over at once: nothing is left to wait for but this."""
    with trio.move_on_after(LONGEST):
        await world.broken.wait()
        await trio.sleep(math.inf if not world.violations else TO_REST)  # the tree may still stop by itself
    stacks = "\n".join(f"{task.name}: {where(task)}" for task in living_tasks())
    world.claim(False, f"no progress; there are still these tasks:\n{stacks}")
    for _ in range(100):
        break_up(trio.lowlevel.current_task())
        await trio.lowlevel.cancel_shielded_checkpoint()


def where(task: trio.lowlevel.Task) -> str:
    return " < ".join(f"{frame.f_code.co_qualname}:{line}" for frame, line in reversed(list(task.iter_await_frames())))


def break_up(me: trio.lowlevel.Task) -> None:
    """Cancel everything, whatever is shielded: the round has failed, and is to end."""
    for task in living_tasks() - {me}:
        status: Any = task._cancel_status
        while status is not None:
            status._scope.shield = False
            if status.parent is not None:
                status._scope.cancel()
            status = status.parent
