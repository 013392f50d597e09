"""Groups: several children under one name, as OTP's ``pg``.

A registered name is one child's alone; a group has any number of members, and a child may be in any number of groups.
Members leave when they end, before anybody hears of that.
"""

from __future__ import annotations

from typing import final

import attrs

from . import _checks as checks
from ._errors import MailboxFull, NotAlive
from ._exit import ExitReason
from ._life import Life, Part, current_life, life_at
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
    :func:`open_supervisor`. :meth:`Actor.monitor_group` tells of joins and leaves. This is OTP's ``pg``, within one
    tree.
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
        life.part(Memberships).join(self)

    def leave(self, ref: Ref) -> None:
        """Take the child out; nothing happens if it is not a member."""
        life_at(ref).part(Memberships).leave(self)

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
class Memberships(Part):
    """The groups that a life is in."""

    __slots__ = ("groups",)

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.groups: dict[Group, None] = {}

    def join(self, group: Group) -> None:
        """Become a member."""
        if group not in self.groups:
            self.groups[group] = None
            table, ref = self.life.runtime.groups, self.life.ref
            table.add(group.name, ref)
            for monitor in table.watching(group.name):
                monitor.tell(Joined(monitor=monitor, group=group, ref=ref))

    def leave(self, group: Group, reason: ExitReason | None = None) -> None:
        """Be a member no more."""
        if group in self.groups:
            del self.groups[group]
            table, ref = self.life.runtime.groups, self.life.ref
            table.remove(group.name, ref)
            for monitor in table.watching(group.name):
                monitor.tell(Left(monitor=monitor, group=group, ref=ref, reason=reason))

    def ended(self, reason: ExitReason) -> None:
        """Leave all."""
        for group in list(self.groups):
            self.leave(group, reason)
