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
    one_way = trap_exits_by_lot(worker)
    try:
        worker.link(other, one_way=one_way)
    except NotAlive:
        world.claim(not they.alive and not me.trapping, f"{me} cannot be linked with {they}")
        return
    world.count("linked")
    if they.alive:
        they.heard_by[me, None] = 1
        if not one_way:
            me.heard_by[they, None] = 1
    else:  # of that one hears each time
        they.heard_by[me, None] = they.heard_by.get((me, None), 0) + 1
        world.exits_due.append((me, they, None))


def unlink(worker: Worker) -> None:
    world, me = worker.world, worker.record
    refs = [ref for ref, they in world.by_ref.items() if (me, None) in they.heard_by or (they, None) in me.heard_by]
    if refs:
        other = world.random.choice(refs)
        they = world.by_ref[other]
        they.heard_by.pop((me, None), None)
        me.heard_by.pop((they, None), None)
        worker.unlink(other)
        world.count("unlinked")


def link_group(worker: Worker, group: Group) -> None:
    one_way = trap_exits_by_lot(worker)
    worker.link_group(group, one_way=one_way)
    worker.record.linked[group] = not one_way or worker.record.linked.get(group, False)


def unlink_group(worker: Worker, group: Group) -> None:
    worker.unlink_group(group)
    worker.record.linked.pop(group, None)
    for they in worker.world.by_ref.values():
        they.heard_by.pop((worker.record, group), None)


def trap_exits_by_lot(worker: Worker) -> bool:
    """Also whether the link is to be one-way."""
    random = worker.world.random
    worker.record.trapping = random.random() < 0.5
    worker.trap_exits(on=worker.record.trapping)
    return random.random() < 0.5


def exited(world: World, record: Record, message: Exited) -> None:
    they, link = world.by_ref[message.ref], (record, message.group)
    often = they.heard_by.get(link, 0)
    world.claim(often, f"{record} got {message}, but is not linked, or has heard of it")
    world.claim(not they.alive, f"{record} got {message} of a living")
    they.heard_by[link] = often - 1
    if often <= 1:
        del they.heard_by[link]
    world.count("exited" if message.group is None else "exited: one of a group")


def tell_exit(world: World, record: Record, reason: ExitReason) -> None:
    """Somebody has ended: whom that concerns is to hear of it, or to end as well."""
    for group in {**record.groups, **record.linked}:
        for other in world.alive.values():
            by_mine, by_theirs = record.linked.get(group) and group in other.groups, group in other.linked
            if by_mine or (by_theirs and group in record.groups):
                record.heard_by[other, group] = 1
    for other, by in list(record.heard_by):
        if not other.trapping:
            if isinstance(reason, Normal):
                del record.heard_by[other, by]
                continue
            other.ends_with.add(record.path)
        world.exits_due.append((other, record, by))
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
    for who, of, group in world.exits_due:
        missing = who.alive and (who, group) in of.heard_by
        world.claim(not missing, f"{who} was linked with {of} by {group}, and has not heard of its end")
    world.exits_due.clear()
    for record in world.alive.values():
        for each in record.monitors:
            assert not isinstance(each.target, str)
            they = world.by_ref.get(each.target)
            ended = not (each.target.alive if they is None else they.alive)
            world.claim(not ended, f"{record} has never heard that {each.target} is down")
        for group, view in record.views.values():
            world.claim(view == members(world, group), f"{record} sees {view} in {group}, not {members(world, group)}")
