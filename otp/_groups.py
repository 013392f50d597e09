"""Groups: several children under one name, as OTP's ``pg``.

A registered name is one child's alone; a group has any number of members, and a child may be in any number of groups.
Members leave when they end, before anybody hears of that.

A link with a group is kept with the group and not as links with its members: so it is with those who are members when
somebody ends, and nothing has to be done about it when they join and leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final
from weakref import WeakValueDictionary

import attrs

from . import _checks as checks
from ._current import current_life
from ._errors import MailboxFull, NotAlive
from ._exit import ExitReason
from ._links import Exited, Links
from ._monitors import Monitor, MonitorNotice
from ._part import Part
from ._ref import Ref, life_behind

if TYPE_CHECKING:
    from ._life import Life


@attrs.frozen
class Group:
    """A group of children, by its name: a value, which stands for the group of that name in the tree where it is used.

    ::

        workers = Group("workers")
        workers.join(self.me)                # in a worker's init
        workers.send_one(Job(1))             # to the members in turn
        workers.send_all(Reload())

    A group is there as soon as somebody joins or watches it. All of this works within a supervised task or the body of
    :func:`open_supervisor`. :meth:`Actor.monitor_group` tells of joins and leaves, :meth:`Actor.link_group` makes an
    actor and the members end together. This is OTP's ``pg``, within one tree; only links it has none.
    """

    name: str
    """Not empty."""

    def __attrs_post_init__(self) -> None:
        checks.text("name", self.name)

    def join(self, ref: Ref) -> None:
        """Make the child a member; nothing happens if it is one.

        Raises:
            NotAlive: if it has ended.
        """
        life = life_behind(ref)
        if life is None or life.box.ended:
            raise NotAlive(ref.path)
        life.runtime.groups.join(self, life)

    def leave(self, ref: Ref) -> None:
        """Take the child out; nothing happens if it is not a member."""
        life = life_behind(ref)
        if life is not None:
            life.runtime.groups.leave(self, life)

    def members(self) -> tuple[Ref, ...]:
        """The members at this moment, in the order in which they joined (or were last sent to by :meth:`send_one`)."""
        return current_life().runtime.groups.members(self)

    def send_all(self, message: object) -> int:
        """Send a message to all members. Those that are stopping or have no room do not get it.

        Returns:
            How many got it.

        Raises:
            NoMailbox: if a member takes no messages; those after it do not get this one.
        """
        sent = 0
        for ref in self.members():
            try:
                ref.send(message)
            except (NotAlive, MailboxFull):
                continue
            sent += 1
        return sent

    def send_one(self, message: object) -> Ref:
        """Send a message to one member: to each in turn, passing over those that are stopping or have no room.

        Returns:
            The member that got it.

        Raises:
            NotAlive: if there is no member that is alive.
            MailboxFull: if none has room; of the last one that was tried.
            NoMailbox: if the one whose turn it is takes no messages.
        """
        failed: NotAlive | MailboxFull = NotAlive(f"group {self.name}")
        groups = current_life().runtime.groups
        for ref in self.members():
            groups.put_last(self, ref)
            try:
                ref.send(message)
            except MailboxFull as error:
                failed = error
            except NotAlive:
                pass
            else:
                return ref
        raise failed


@attrs.frozen(kw_only=True)
class Joined(MonitorNotice):
    """A child has joined a group."""

    group: Group
    """Which."""
    ref: Ref = attrs.field(eq=id)
    """Who has joined."""


@attrs.frozen(kw_only=True)
class Left(MonitorNotice):
    """A child has left a group, or has ended."""

    group: Group
    """Which."""
    ref: Ref = attrs.field(eq=id)
    """Who has left."""
    reason: ExitReason | None
    """What it ended with; None if it left."""


@final
class _Ties(Part):
    """The groups that a life is in, and those that it is linked with."""

    __slots__ = ("joined", "linked")

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.joined: dict[Group, None] = {}
        self.linked: dict[Group, None] = {}

    def ended(self, reason: ExitReason) -> None:
        """Leave all."""
        for group in {**self.joined, **self.linked}:
            self.life.runtime.groups.ended(group, self.life, reason)


@final
class _Watching(dict[Monitor, None]):
    """The monitors on one group; a dict itself cannot be referred to weakly."""

    __slots__ = ("__weakref__",)


@final
class Groups:
    """All groups of one tree."""

    __slots__ = ("_linked", "_members", "_monitors")

    def __init__(self) -> None:
        self._members: dict[Group, dict[Ref, None]] = {}
        self._linked: dict[Group, dict[Life, bool]] = {}  # who is linked with the group, and whether in both directions
        # Each monitor holds the dict that it is placed in: with the last of them it is gone, and the group with it.
        self._monitors: WeakValueDictionary[Group, _Watching] = WeakValueDictionary()

    def members(self, group: Group) -> tuple[Ref, ...]:
        """The members, in order."""
        return tuple(self._members.get(group, ()))

    def join(self, group: Group, life: Life) -> None:
        """Add a member."""
        members = self._members.setdefault(group, {})
        if life.ref not in members:
            members[life.ref] = None
            life.part(_Ties).joined[group] = None
            for monitor in self._watching(group):
                monitor.tell(Joined(monitor=monitor, group=group, ref=life.ref))

    def leave(self, group: Group, life: Life, reason: ExitReason | None = None) -> None:
        """Remove a member."""
        members = self._members.get(group, {})
        if life.ref in members:
            del members[life.ref]
            if not members:
                del self._members[group]
            life.part(_Ties).joined.pop(group, None)
            for monitor in self._watching(group):
                monitor.tell(Left(monitor=monitor, group=group, ref=life.ref, reason=reason))

    def link(self, group: Group, life: Life, *, one_way: bool) -> None:
        """Have `life` end with any member, and unless `one_way` the members with it."""
        linked = self._linked.setdefault(group, {})
        linked[life] = not one_way or linked.get(life, False)
        life.part(_Ties).linked[group] = None

    def unlink(self, group: Group, life: Life) -> None:
        """Remove the link, and notices of it that were not handled."""
        self._cut(group, life)
        life.box.take_back(lambda entry: isinstance(entry, Exited) and entry.group == group)

    def ended(self, group: Group, life: Life, reason: ExitReason) -> None:
        """Remove a member, or one that is linked with the group, or both; then send its exit to those it is due to."""
        was_member = life.ref in self._members.get(group, {})
        self.leave(group, life, reason)
        takes_members_along = self._cut(group, life)
        told: dict[Life | None, None] = {}  # each once, also those who are linked with the group and in it
        if was_member:
            told.update(dict.fromkeys(self._linked.get(group, {})))
        if takes_members_along:
            told.update(dict.fromkeys(life_behind(ref) for ref in self.members(group)))
        for other in told:
            if other is not None:
                other.part(Links).hear(life, reason, group)

    def _cut(self, group: Group, life: Life) -> bool:
        """Returns whether there was a link in both directions."""
        linked = self._linked.get(group, {})
        both_ways = linked.pop(life, False)
        if not linked:
            self._linked.pop(group, None)
        life.part(_Ties).linked.pop(group, None)
        return both_ways

    def put_last(self, group: Group, ref: Ref) -> None:
        """Make a member the last in the order."""
        members = self._members[group]
        members[ref] = members.pop(ref)

    def watch(self, group: Group, watcher: Life) -> Monitor:
        """Have `watcher` told of joins and leaves."""
        monitor = Monitor(watcher, group.name)
        monitor.place(self._monitors.setdefault(group, _Watching()))
        return monitor

    def _watching(self, group: Group) -> tuple[Monitor, ...]:
        return tuple(self._monitors.get(group, ()))
