"""Groups: several children under one name, as OTP's ``pg``.

A registered name is one child's alone; a group has any number of members, and a child may be in any number of groups.
Members leave when they end, before anybody hears of that.

A link with a group is kept with the group and not as links with its members: so it is with those who are members when
somebody ends, and nothing has to be done about it when they join and leave.
"""

from __future__ import annotations

from typing import final

import attrs

from . import _checks as checks
from ._errors import MailboxFull, NotAlive
from ._exit import ExitReason
from ._life import Life, Part, current_life, life_at
from ._links import Exited, Links
from ._monitors import MonitorNotice
from ._ref import Ref


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
        life = life_at(ref)
        if life.box.ended:
            raise NotAlive(ref.path)
        life.part(Ties).join(self)

    def leave(self, ref: Ref) -> None:
        """Take the child out; nothing happens if it is not a member."""
        life_at(ref).part(Ties).leave(self)

    def members(self) -> tuple[Ref, ...]:
        """The members at this moment, in the order in which they joined (or were last sent to by :meth:`send_one`)."""
        return current_life().runtime.groups.members(self.name)

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
            groups.put_last(self.name, ref)
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
class Ties(Part):
    """The groups that a life is in, and those that it is linked with."""

    __slots__ = ("joined", "linked")

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.joined: dict[Group, None] = {}
        self.linked: dict[Group, None] = {}

    def join(self, group: Group) -> None:
        """Become a member."""
        if group not in self.joined:
            self.joined[group] = None
            groups, ref = self.life.runtime.groups, self.life.ref
            groups.add(group.name, ref)
            for monitor in groups.watching(group.name):
                monitor.tell(Joined(monitor=monitor, group=group, ref=ref))

    def leave(self, group: Group, reason: ExitReason | None = None) -> None:
        """Be a member no more."""
        if group in self.joined:
            del self.joined[group]
            groups, ref = self.life.runtime.groups, self.life.ref
            groups.remove(group.name, ref)
            for monitor in groups.watching(group.name):
                monitor.tell(Left(monitor=monitor, group=group, ref=ref, reason=reason))

    def link(self, group: Group, *, one_way: bool) -> None:
        """End with any member, and unless `one_way` the members with this life."""
        if self.life.box.ended:
            raise self.life.box.not_alive()  # nobody would ever end the link
        self.linked[group] = None
        self.life.runtime.groups.link(group.name, self.life.ref, both_ways=not one_way)

    def unlink(self, group: Group) -> None:
        """Remove the link, and notices of it that were not handled."""
        self._cut(group)
        self.life.box.take_back(lambda entry: isinstance(entry, Exited) and entry.group == group)

    def ended(self, reason: ExitReason) -> None:
        """Leave all."""
        for group in {**self.joined, **self.linked}:
            self._end(group, reason)

    def _end(self, group: Group, reason: ExitReason) -> None:
        """Leave the group, or end the link with it, or both; then send the exit to those it is due to."""
        groups = self.life.runtime.groups
        was_member = group in self.joined
        self.leave(group, reason)
        takes_members_along = self._cut(group)
        told: dict[Ref, None] = {}  # each once, also those who are linked with the group and in it
        if was_member:
            told.update(dict.fromkeys(groups.linked(group.name)))
        if takes_members_along:
            told.update(dict.fromkeys(groups.members(group.name)))
        for ref in told:
            life_at(ref).part(Links).hear(self.life, reason, group)

    def _cut(self, group: Group) -> bool:
        """Returns whether there was a link in both directions."""
        self.linked.pop(group, None)
        return self.life.runtime.groups.unlink(group.name, self.life.ref)
