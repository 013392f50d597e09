"""Groups: who is in, who gets what, and who is told of it."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    Crashed,
    Group,
    Joined,
    Left,
    MailboxFull,
    NotAlive,
    Supervisor,
    child,
    open_supervisor,
)
from tests.otp.actors import boom, sleeps
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
        assert set(groups._monitors) == set(rooms[1:])
        w.send(boom)
        await trio.sleep(2)
        assert not groups._monitors


@pytest.mark.parametrize("name", ["", 3, None])
async def test_a_group_has_a_name(name):
    with pytest.raises(ValueError, match="name must be a string that is not empty"):
        Group(name)
