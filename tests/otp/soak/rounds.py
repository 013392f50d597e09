"""One round of the soak: a random tree, storms in which everything goes wrong, calms in which all must be in order."""

from __future__ import annotations

import math
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from otp import (
    ChildExited,
    ChildIgnored,
    ChildStarted,
    ChildStartFailed,
    ChildStuck,
    Crashed,
    FailedToStart,
    GaveUp,
    InitTimeout,
    MailboxOverflowed,
    MessagesDropped,
    NameTaken,
    Normal,
    OtpError,
    PoisonMessage,
    SupervisorDecided,
    SupervisorRef,
    open_supervisor,
)
from otp.testing import living_tasks, no_task_left, outline, run_virtual, settle
from tests.otp.soak import addresses, administration, calls, messages, operations, ties  # noqa: F401  (their operations)
from tests.otp.soak.checked_core import CheckedCore
from tests.otp.soak.client import Client, supervisors
from tests.otp.soak.trees import STRATEGIES, a_tree
from tests.otp.soak.world import Boom, World

if TYPE_CHECKING:
    from collections import Counter

    from otp import ExitReason
    from tests.otp.soak.world import Record

LONGEST: Final = 10_000.0
"""Virtual seconds that a round may take; more is a deadlock."""
TO_REST: Final = 1000.0
"""Virtual seconds within which a tree comes to rest when the storm is over."""


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


# -- what is always so -------------------------------------------------------------------------------------

ALLOWED: Final = Boom, OtpError
"""What may go wrong: anything else that a child crashes with is an error of the runtime, or of the soak."""


def watch(world: World, event: object) -> None:
    """See each event when it happens. A subscriber that raises would be removed, and not be missed."""
    try:
        see(world, event)
    except Exception:  # noqa: BLE001  (it is a violation)
        world.claim(False, f"{event}: {traceback.format_exc()}")


def see(world: World, event: object) -> None:
    world.count(type(event).__name__)
    match event:
        case ChildStarted():
            record = world.alive.get(event.path)
            up = record.up if record is not None else event.path in world.cores
            world.claim(up, f"{event}, but its init is not done")
        case ChildExited():
            check_gone(world, event, event.reason)
            if event.asked and not event.guest:
                check_order(world, event)
        case ChildStartFailed():
            check_gone(world, event, event.reason)
        case ChildIgnored():
            check_gone(world, event, Normal())
        case ChildStuck():
            world.claim(world.lives(event.path), f"{event}, but it has ended")
        case MessagesDropped():
            messages.messages_dropped(world, event)
        case MailboxOverflowed():
            messages.mailbox_overflowed(world, event)
        case PoisonMessage():
            messages.poison_message(world, event)
        case SupervisorDecided():
            world.count(f"decided: {event.decision.verdict}")
        case _:
            pass


def check_gone(world: World, event: ChildExited | ChildStartFailed | ChildIgnored, reason: ExitReason) -> None:
    world.claim(not world.lives(event.path), f"{event}, but it runs")
    check_reason(world, event, reason)
    if event.guest:
        world.guest_ends[event.path] = reason
    record = world.latest.get(event.path)
    if record is None or record.life.incarnation != event.incarnation:
        return  # its factory has failed
    world.claim(not (record.helpers or record.tasks), f"{event}, but tasks of it run")
    if record.name is not None:
        holder = world.runtime.registry.get(record.name)
        world.claim(holder is not record.life.ref, f"{event}, but it holds {record.name!r}")
    ties.tell_exit(world, record, reason)
    calls.check_kept_calls(world, record)


def check_reason(world: World, event: object, reason: ExitReason) -> None:
    world.count(f"reason: {type(reason).__name__}")
    if not isinstance(reason, Crashed):
        return
    error = reason.exception
    if not isinstance(error, ALLOWED):
        world.claim(False, f"{event}: {''.join(traceback.format_exception(error))}")
    elif isinstance(error, NameTaken):
        world.count("name taken")
        world.claim(world.lives(error.holder), f"{error}, but that has ended")
    elif isinstance(error, InitTimeout):
        world.count("init timeout")


def check_order(world: World, event: ChildExited) -> None:
    """When a supervisor stops, nobody who started after this child is alive."""
    above, _, id_ = event.path.rpartition("/")
    core = world.cores.get(above)
    if core is None or core.spec.strategy == "simple_one_for_one":
        return
    ending = core.stopped.get((id_, event.incarnation))
    world.claim(ending is not None, f"{event}, but nobody had asked for it")
    if ending:
        ids = [state.id for state in core.which()]
        after = [later for later in ids[ids.index(id_) + 1 :] if world.lives(f"{above}/{later}")]
        world.claim(not after, f"{event}, but {after} started after it and live")


# -- what is so at rest ------------------------------------------------------------------------------------


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
    return not statuses <= {"running", "stopped", "parked"} or bool(supervisor._task._waiting)


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
    lives = [*(life for each in trees for life in each._task._lives.values()), *(record.life for record in guests)]
    world.claim({life.path for life in lives} == known, "a supervisor keeps what has ended")
    names = {record.name: path for path, record in world.alive.items() if record.name is not None}
    world.claim({name: ref.path for name, ref in runtime.registry.names().items()} == names, "names are left over")
    for each in trees:
        task = each._task
        world.claim(not (task._inbox or task._waiting or task._overdue.stuck), f"{each} has something left")
        world.claim(not task._unread, f"{each} keeps messages for nobody")
    check_what_was_under_way(world)
    for record in world.alive.values():
        world.claim(not record.continues, f"{record} has not gone on")
        overdue = record.idle_at is not None and record.idle_at < trio.current_time()
        lost = overdue and record.skipped == runtime.skipped_calls
        world.claim(not lost, f"{record} was not told that nothing came")
    ties.check_ties(world)
    helpers = sum(life.helpers is not None for life in lives)
    own = sum(record.tasks for record in world.alive.values())
    expected = 3 + len(lives) + helpers + own  # the root, and who watches calls and timers
    ours = [task for task in living_tasks() if belongs_to(task, root._task._life.parent.nursery.parent_task)]
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


# -- the end -----------------------------------------------------------------------------------------------


def check_end(world: World) -> None:
    runtime = world.runtime
    world.claim(not world.alive, f"children that were not stopped: {sorted(world.alive)}")
    world.claim(not runtime.registry.names(), f"names left over: {sorted(runtime.registry.names())}")
    check_what_was_under_way(world)
    world.claim(not runtime.groups._members and not runtime.groups._monitors, "groups are left over")
    world.claim(not runtime.statistics().draining, "work left over that a drain waits for")
    world.claim(not runtime.conditions.failing(), f"conditions left over: {runtime.conditions.failing()}")
    for path, core in world.cores.items():
        world.claim(core.over, f"{path} has not come to its end")


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
