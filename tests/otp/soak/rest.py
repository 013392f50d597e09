"""What must be so when the storm is over: nothing is under way, nothing is lost, nothing is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from otp.testing import living_tasks, outline, settle
from tests.otp.actors import shell_of
from tests.otp.soak import addresses, calls, messages, ties
from tests.otp.soak.client import supervisors

if TYPE_CHECKING:
    from otp import SupervisorRef
    from tests.otp.soak.world import Record, World

TO_REST: Final = 1000.0
"""Virtual seconds within which a tree comes to rest when the storm is over."""


async def come_to_rest(world: World, root: SupervisorRef) -> bool:
    """Wait until nothing is under way any more; False if the tree ends instead."""
    deadline = trio.current_time() + TO_REST
    while True:
        await settle()
        if not root.alive or world.violations:
            return False
        leaves_busy = any(is_busy_leaf(world, record) for record in world.alive.values())
        if not leaves_busy and not any(is_busy(each) for each in supervisors(root)):
            return True
        if not world.claim(trio.current_time() < deadline, f"the tree does not come to rest: {outline(root)}"):
            return False
        await trio.sleep(1)


def is_busy(supervisor: SupervisorRef) -> bool:
    statuses = {info.status for info in supervisor.which_children()}
    return not statuses <= {"running", "stopped", "parked"} or bool(shell_of(supervisor)._waiting)


def is_busy_leaf(world: World, record: Record) -> bool:
    box = record.life.box
    if record.kind == "host":
        guest = world.alive.get(f"{record.path}/guest")
        return record.ending or guest is None or not guest.up
    reads = record.kind == "actor"
    return bool(record.ending or record.helpers or (reads and (box.queue or box.running or box.parked is None)))


def check_rest(world: World, root: SupervisorRef) -> None:
    """Everything is as it should be, nothing is left over."""
    world.count("rest")
    runtime = world.runtime
    trees = list(supervisors(root))
    guests = world.guests()
    truth = {path for path in {*world.alive, *world.cores} if world.lives(path)} - {root.path}
    known = {f"{each.path}/{info.id}" for each in trees for info in each.which_children() if info.status == "running"}
    known |= {record.path for record in guests}  # their hosts look after them
    world.claim(truth == known, f"children that only live: {truth - known}, that are only known: {known - truth}")
    lives = [*(life for each in trees for life in shell_of(each)._lives.values()), *(record.life for record in guests)]
    world.claim({life.path for life in lives} == known, "a supervisor keeps what has ended")
    names = {record.name: path for path, record in world.alive.items() if record.name is not None}
    world.claim({name: ref.path for name, ref in runtime.registry.names().items()} == names, "names are left over")
    for each in trees:
        task = shell_of(each)
        world.claim(not (task._inbox or task._waiting or task._overdue.stuck), f"{each} has something left")
        world.claim(not task._unread, f"{each} keeps messages for nobody")
    check_what_was_under_way(world)
    for record in world.alive.values():
        world.claim(not record.continues, f"{record} has not gone on")
        overdue = record.idle_at is not None and record.idle_at < trio.current_time()
        world.claim(not overdue, f"{record} was not told that nothing came")
    ties.check_ties(world)
    helpers = sum(life.helpers is not None for life in lives)
    own = sum(record.tasks for record in world.alive.values())
    expected = 3 + len(lives) + helpers + own  # the root, and who watches calls and timers
    ours = [task for task in living_tasks() if belongs_to(task, shell_of(root)._life.parent.nursery.parent_task)]
    if len(ours) != expected:
        world.claim(False, f"{expected} tasks there should be, but there are {sorted(t.name for t in ours)}")


def check_what_was_under_way(world: World) -> None:
    calls.look_at_those_left_behind(world)
    world.claim(not world.runtime.calls.waiting and not world.asked, "calls are left over")
    world.claim(not world.runtime.stopping, "children that were asked to stop are left over")
    addresses.check_answers(world)
    messages.settle_account(world)


def belongs_to(task: trio.lowlevel.Task, ancestor: trio.lowlevel.Task) -> bool:
    while task is not ancestor:
        if task.parent_nursery is None:
            return False
        task = task.parent_nursery.parent_task
    return True


def check_end(world: World) -> None:
    runtime = world.runtime
    world.claim(not world.alive, f"children that were not stopped: {sorted(world.alive)}")
    world.claim(not runtime.registry.names(), f"names left over: {sorted(runtime.registry.names())}")
    check_what_was_under_way(world)
    world.claim(
        not (runtime.groups._members or runtime.groups._monitors or runtime.groups._linked), "groups are left over"
    )
    world.claim(not runtime.statistics().draining, "work left over that a drain waits for")
    world.claim(not runtime.conditions.failing(), f"conditions left over: {runtime.conditions.failing()}")
    for path, core in world.cores.items():
        world.claim(core.over, f"{path} has not come to its end")
