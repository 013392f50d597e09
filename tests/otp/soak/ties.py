"""Who hears of whom: monitors, links and groups.

Each news comes once, and only to those who want it; and at rest none is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otp import Crashed, Down, Exited, Group, Joined, Left, LinkedExit, Normal, NotAlive

if TYPE_CHECKING:
    from otp import ExitReason, Ref
    from tests.otp.soak.worker import Worker
    from tests.otp.soak.world import Record, World

GROUPS = (Group("reds"), Group("blues"))

# -- monitors ----------------------------------------------------------------------------------------------


def monitor(worker: Worker, other: Ref) -> None:
    worker.record.monitors[worker.monitor(other)] = None


def demonitor(worker: Worker) -> None:
    """Of either kind."""
    record = worker.record
    placed = [*record.monitors, *record.views]
    if placed:
        gone = worker.world.random.choice(placed)
        record.monitors.pop(gone, None)
        record.views.pop(gone, None)
        worker.demonitor(gone)
        worker.world.count("demonitored")


def down(world: World, record: Record, message: Down) -> None:
    watched = record.monitors.pop(message.monitor, message)
    world.claim(watched is None, f"{record} got {message}, but watches it not")
    world.claim(message.ref is None or not message.ref.alive, f"{record} got {message} of a living")
    world.count("down")


# -- links -------------------------------------------------------------------------------------------------


def link(worker: Worker, other: Ref) -> None:
    world, me, they = worker.world, worker.record, worker.world.by_ref.get(other)
    if they is None or they is me:
        return
    one_way, me.trapping = world.random.random() < 0.5, world.random.random() < 0.5
    worker.trap_exits(on=me.trapping)
    try:
        worker.link(other, one_way=one_way)
    except NotAlive:
        world.claim(not they.alive and not me.trapping, f"{me} cannot be linked with {they}")
        return
    world.count("linked")
    they.heard_by[me] = 1 if they.alive else they.heard_by.get(me, 0) + 1  # of one who has ended one hears each time
    if not they.alive:
        world.exits_due.append((me, they))
    elif not one_way:
        me.heard_by[they] = 1


def unlink(worker: Worker) -> None:
    me = worker.record
    linked = [ref for ref, they in worker.world.by_ref.items() if me in they.heard_by or they in me.heard_by]
    if linked:
        other = worker.world.random.choice(linked)
        they = worker.world.by_ref[other]
        they.heard_by.pop(me, None)
        me.heard_by.pop(they, None)
        worker.unlink(other)
        worker.world.count("unlinked")


def exited(world: World, record: Record, message: Exited) -> None:
    they = world.by_ref[message.ref]
    linked = they.heard_by.get(record, 0)
    world.claim(linked, f"{record} got {message}, but is not linked, or has heard of it")
    world.claim(not they.alive, f"{record} got {message} of a living")
    if linked > 1:
        they.heard_by[record] = linked - 1
    else:
        they.heard_by.pop(record, None)
    world.count("exited")


def tell_exit(world: World, record: Record, reason: ExitReason) -> None:
    """Somebody has ended: whom that concerns is to hear of it, or to end as well."""
    for other in list(record.heard_by):
        if other.trapping:
            world.exits_due.append((other, record))
        elif isinstance(reason, Normal):
            del record.heard_by[other]
        else:
            other.ends_with.add(record.path)
            world.exits_due.append((other, record))
    if record.kind == "actor" and record.up and isinstance(reason, Normal):
        world.claim(record.stops, f"{record} has ended, and nobody wanted that")
    if isinstance(reason, Crashed) and isinstance(reason.exception, LinkedExit):
        world.count("ended by a link")
        path = reason.exception.source
        linked = path in record.ends_with or record.kind == "host"  # by itself, or by its guest
        world.claim(linked, f"{record} has ended with {path}, but is not linked with it")


# -- groups ------------------------------------------------------------------------------------------------


def members(world: World, group: Group) -> set[Ref]:
    """Those alive who have joined."""
    return {record.life.ref for record in world.alive.values() if group in record.groups}


def join(worker: Worker, group: Group) -> None:
    group.join(worker.me)
    worker.record.groups[group] = None


def leave(worker: Worker, group: Group) -> None:
    group.leave(worker.me)
    worker.record.groups.pop(group, None)


def watch(worker: Worker, group: Group) -> None:
    """What is seen at first, and what one is told from then on, are to be all there is."""
    view = worker.monitor_group(group), (group, set(group.members()))
    worker.record.views.update([view])


def news_of_group(world: World, record: Record, message: Joined | Left) -> None:
    group, view = record.views.get(message.monitor, (None, set[object]()))
    world.claim(group == message.group, f"{record} got {message}, but watches it not")
    if isinstance(message, Joined):
        world.claim(message.ref not in view, f"{record} got {message}, who is in it")
        view.add(message.ref)
    else:
        world.claim(message.ref in view, f"{record} got {message}, who is not in it")
        world.claim(message.reason is None or world.leads_nowhere(message.ref), f"{record} got {message} of a living")
        view.discard(message.ref)
    world.count(type(message).__name__.lower())


# -- at rest -----------------------------------------------------------------------------------------------


def check_ties(world: World) -> None:
    for who, of in world.exits_due:
        world.claim(not (who.alive and who in of.heard_by), f"{who} was linked with {of}, and has not heard of its end")
    world.exits_due.clear()
    for record in world.alive.values():
        for each in record.monitors:
            assert not isinstance(each.target, str)
            they = world.by_ref.get(each.target)
            ended = not (each.target.alive if they is None else they.alive)
            world.claim(not ended, f"{record} has never heard that {each.target} is down")
        for group, view in record.views.values():
            world.claim(view == members(world, group), f"{record} sees {view} in {group}, not {members(world, group)}")
