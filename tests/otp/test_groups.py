"""Groups: who is in, who gets what, and who is told of it."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Crashed,
    Exited,
    Group,
    Joined,
    Left,
    MailboxFull,
    Normal,
    NotAlive,
    Supervisor,
    child,
    current_context,
    open_supervisor,
    whereis,
)
from tests.otp.actors import boom, sleeps, up
from tests.otp.test_links_and_monitors import Watcher, seen
from tests.otp.virtual import virtual_time

pytestmark = virtual_time

workers = Group("workers")


class Worker(Watcher):
    async def init(self):
        await super().init()
        workers.join(self.me)

    async def terminate(self, reason):
        await trio.sleep(1)


def tree(n=3, **options):
    children = [child(Watcher, id="w"), *(child(Worker, id=str(i), restart="temporary", **options) for i in range(n))]
    return open_supervisor(Supervisor(children))


async def test_members_join_leave_and_are_dropped_when_they_end():
    async with tree() as supervisor:
        refs = [supervisor.ref(str(i)) for i in range(3)]
        assert workers.members() == tuple(refs)
        workers.join(refs[0])
        assert workers.members() == tuple(refs)
        workers.leave(refs[1])
        workers.leave(refs[1])
        assert workers.members() == (refs[0], refs[2])
        refs[0].send(boom)
        await trio.sleep(2)
        assert workers.members() == (refs[2],)
        with pytest.raises(NotAlive):
            workers.join(refs[0])
        assert Group("nobody").members() == ()


async def test_send_all_reaches_those_who_can_take_it():
    async with tree(mailbox=1) as supervisor:
        refs = [supervisor.ref(str(i)) for i in range(3)]
        assert workers.send_all("a") == 3
        await wait_all_tasks_blocked()
        refs[0].send(sleeps(1))
        await wait_all_tasks_blocked()
        refs[0].send("full now")
        refs[1].send(boom)
        await wait_all_tasks_blocked()  # it is cleaning up: still a member, but takes no messages
        assert len(workers.members()) == 3
        assert workers.send_all("b") == 1
        await trio.sleep(2)
        assert await seen(refs[2]) == ["a", "b"]


async def test_send_one_takes_turns_and_passes_over_those_who_cannot():
    async with tree() as supervisor:
        refs = [supervisor.ref(str(i)) for i in range(3)]
        got = [workers.send_one(i) for i in range(6)]
        assert got == refs * 2
        refs[1].send(boom)
        await wait_all_tasks_blocked()
        assert [workers.send_one(i) for i in range(4)] == [refs[0], refs[2]] * 2


async def test_send_one_says_why_nobody_can_take_it():
    with pytest.raises(RuntimeError, match="not in a supervised task"):
        workers.members()
    async with tree(n=2, mailbox=1):
        with pytest.raises(NotAlive, match="group nobody is not alive"):
            Group("nobody").send_one("x")
        workers.send_all(sleeps(1))
        await wait_all_tasks_blocked()
        assert workers.send_all("x") == 2
        with pytest.raises(MailboxFull):
            workers.send_one("y")


async def test_a_monitor_tells_of_joins_and_leaves_and_can_be_ended():
    async with tree() as supervisor:
        w, refs = supervisor.ref("w"), [supervisor.ref(str(i)) for i in range(3)]
        monitor, members = await w.call(lambda a: (a.monitor_group(workers), workers.members()))
        assert members == tuple(refs)
        workers.leave(refs[0])
        workers.join(refs[0])
        refs[1].send(boom)
        await trio.sleep(2)
        left, joined, ended = await seen(w)
        assert left == Left(monitor=monitor, group=workers, ref=refs[0], reason=None)
        assert joined == Joined(monitor=monitor, group=workers, ref=refs[0])
        assert ended.ref is refs[1]
        assert isinstance(ended.reason, Crashed)
        await w.call(lambda a: a.demonitor(monitor))
        workers.leave(refs[0])
        workers.join(refs[0])
        assert len(await seen(w)) == 3


async def test_groups_of_those_who_are_gone_leave_nothing():
    async with tree() as supervisor:
        groups = supervisor.runtime.groups
        w = supervisor.ref("w")
        await w.call(lambda a: a.monitor_group(workers))
        w.send(boom)
        for i in range(3):
            supervisor.ref(str(i)).send(boom)
        await trio.sleep(2)
        assert groups._members == {}
        assert not groups._monitors


async def test_a_group_that_is_watched_no_more_leaves_nothing():
    """Found by the soak: its name stayed, until somebody joined or left it again."""
    async with tree(n=0) as supervisor:
        w, groups = supervisor.ref("w"), supervisor.runtime.groups
        rooms = [Group(f"room {i}") for i in range(3)]
        first, *_ = await w.call(lambda a: [a.monitor_group(room) for room in rooms])
        assert len(groups._monitors) == 3
        await w.call(lambda a: a.demonitor(first))
        assert set(groups._monitors) == {room.name for room in rooms[1:]}
        w.send(boom)
        await trio.sleep(2)
        assert not groups._monitors


@pytest.mark.parametrize("name", ["", 3, None])
async def test_a_group_has_a_name(name):
    with pytest.raises(ValueError, match="name must be a string that is not empty"):
        Group(name)


# -- links with groups


class Linked(Watcher):
    """Linked with the workers."""

    one_way = False
    trapping = False

    async def init(self):
        await super().init()
        self.trap_exits(self.trapping)
        self.link_group(workers, one_way=self.one_way)


class LinkedOneWay(Linked):
    one_way = True


class Traps(Linked):
    trapping = True


class Mutual(Traps):
    """A member that is linked with the others."""

    async def init(self):
        await super().init()
        workers.join(self.me)


def linked(kind=Linked, member=Worker):
    members = [child(member, id=str(i), restart="temporary") for i in range(2)]
    return open_supervisor(Supervisor([child(kind, id="w", restart="temporary"), *members]))


async def end(supervisor, id_, how=boom):
    supervisor.ref(id_).send(how)
    await trio.sleep(5)


def stop(actor):
    actor.stop()


def alive(supervisor):
    """Who is; and of the others nothing must be left."""
    assert all(ref.alive for ref in supervisor.runtime.groups.linked(workers.name))
    return "".join(info.id for info in supervisor.which_children())


async def test_a_member_that_crashes_ends_who_is_linked_and_so_the_others():
    async with linked() as supervisor:
        w = supervisor.ref("w")
        await end(supervisor, "0")
        assert alive(supervisor) == ""
        with pytest.raises(NotAlive, match="app/0, to which it is linked"):
            w.send("x")
        assert supervisor.runtime.groups._linked == {}


async def test_one_that_joins_later_is_linked_as_well():
    async with linked() as supervisor:
        await supervisor.start_child(child(Worker, id="late", restart="temporary"))
        await end(supervisor, "late")
        assert alive(supervisor) == ""


@pytest.mark.parametrize(("kind", "left"), [(Linked, ""), (LinkedOneWay, "01")])
async def test_who_is_linked_takes_the_members_with_it_unless_the_link_is_one_way(kind, left):
    async with linked(kind) as supervisor:
        await end(supervisor, "w")
        assert alive(supervisor) == left
    async with linked(kind) as supervisor:
        await end(supervisor, "0")
        assert alive(supervisor) == left.replace("0", "")


async def test_asked_for_both_ways_a_link_with_a_group_is_that():
    async with linked(LinkedOneWay) as supervisor:
        await supervisor.ref("w").call(lambda a: a.link_group(workers))
        await supervisor.ref("w").call(lambda a: a.link_group(workers, one_way=True))
        await end(supervisor, "w")
        assert alive(supervisor) == ""


@pytest.mark.parametrize("id_", ["w", "0"])
async def test_a_normal_end_ends_nobody_else(id_):
    async with linked() as supervisor:
        await end(supervisor, id_, stop)
        assert alive(supervisor) == "w01".replace(id_, "")


async def test_who_has_left_the_group_is_not_linked_any_more():
    async with linked() as supervisor:
        workers.leave(supervisor.ref("0"))
        await end(supervisor, "0")
        assert alive(supervisor) == "w1"
        workers.leave(supervisor.ref("1"))
        await end(supervisor, "w")
        assert alive(supervisor) == "1"


async def test_who_traps_exits_is_told_of_the_group():
    async with linked(Traps) as supervisor:
        w, first, second = (supervisor.ref(id_) for id_ in ("w", "0", "1"))
        await end(supervisor, "0", stop)
        assert await seen(w) == [Exited(ref=first, reason=Normal(), group=workers)]
        await w.call(lambda a: a.link(second))  # a link of its own
        await end(supervisor, "1", stop)
        told = (await seen(w))[1:]
        assert sorted(str(exited.group) for exited in told) == ["Group(name='workers')", "None"]
        assert {exited.ref for exited in told} == {second}


async def test_members_that_are_linked_with_each_other_are_told_once():
    async with linked(Watcher, Mutual) as supervisor:
        first, second = supervisor.ref("0"), supervisor.ref("1")
        await end(supervisor, "0", stop)
        assert await seen(second) == [Exited(ref=first, reason=Normal(), group=workers)]
        assert len(supervisor.runtime.groups.linked(workers.name)) == 1
        assert alive(supervisor) == "w1"


async def test_unlink_group_ends_it_both_ways_and_takes_back_what_was_told():
    async with linked(Traps) as supervisor:
        w, first, second = (supervisor.ref(id_) for id_ in ("w", "0", "1"))
        await w.call(lambda a: a.link(first))
        w.send(sleeps(5))
        w.send(lambda a: a.unlink_group(workers))
        first.send(stop)
        await trio.sleep(10)
        assert await seen(w) == [Exited(ref=first, reason=Normal())]  # that was the other link
        await w.call(lambda a: a.unlink_group(workers))
        second.send(boom)
        await trio.sleep(5)
        assert len(await seen(w)) == 1
        assert supervisor.runtime.groups._linked == {}
    async with linked() as supervisor:
        await supervisor.ref("w").call(lambda a: a.unlink_group(workers))
        await end(supervisor, "w")
        assert alive(supervisor) == "01"


async def test_unlinking_a_member_leaves_the_link_with_its_group():
    async with linked(Traps) as supervisor:
        w, first = supervisor.ref("w"), supervisor.ref("0")
        await w.call(lambda a: a.link(first))
        w.send(sleeps(5))
        w.send(lambda a: a.unlink(first))
        first.send(stop)
        await trio.sleep(10)
        assert await seen(w) == [Exited(ref=first, reason=Normal(), group=workers)]


async def test_any_child_can_be_a_member_of_a_group_that_is_linked():
    async def task():
        workers.join(current_context().ref)
        await trio.sleep_forever()

    class Within(Worker):
        """Makes its supervisor a member."""

        async def init(self):
            await super().init()
            workers.leave(self.me)
            workers.join(up(whereis("inner")))

    inner = Supervisor([child(Within)])
    others = [child(task, restart="temporary"), child(inner, id="inner", name="inner", restart="temporary")]
    async with open_supervisor(Supervisor([child(Linked, id="w", restart="temporary"), *others])) as supervisor:
        await wait_all_tasks_blocked()
        assert len(workers.members()) == 2
        await end(supervisor, "w")
        assert alive(supervisor) == "inner"  # links end no supervisor
