"""Aliases: more addresses of one actor, each of which can be revoked.

A ref is a pair of a life and the mailbox that it leads to. An alias is a ref with a pair of its own, and revoking it
leads it to a mailbox that is closed. So sending through an alias costs what sending costs, and a ref pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

from ._entries import Notice
from ._exit import Normal
from ._mailbox import Box
from ._ref import Ref

if TYPE_CHECKING:
    from ._call import Addressee
    from ._life import Life


@final
class Alias(Ref):
    """An address of an actor that it can take back. Made by :meth:`Actor.alias`; used like any other :class:`Ref`.

    OTP's process alias, and Ergo's; the end of the actor is the end of its aliases.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Alias of {self.path} #{self.incarnation}{'' if self.alive else ' (revoked)'}>"

    @property
    def alive(self) -> bool:
        """Whether it leads to the actor: not when it was revoked or the actor has ended."""
        return not self._box.ended and not self._life.box.ended

    def revoke(self) -> None:
        """From now on everybody who uses it gets :exc:`NotAlive`. What came through it before is handled."""
        self._box = _closed(self._life)


@final
class ReplyAlias:
    """An address for one answer: the first message that is sent to it revokes it. Made by :meth:`Actor.reply_alias`.

    The message arrives as :class:`Replied`, which says to which of the actor's questions it belongs. So an answer that
    comes twice, or after the actor has lost interest, is refused at its sender, and one to another question cannot be
    mistaken for it. (OTP: ``alias([reply])``.)
    """

    __slots__ = ("_box", "_life")

    def __init__(self, life: Life) -> None:
        self._life = life
        self._box: Box | None = life.box

    def __repr__(self) -> str:
        return f"<ReplyAlias of {self._life.path} #{self._life.incarnation}{'' if self.alive else ' (over)'}>"

    @property
    def alive(self) -> bool:
        """Whether an answer can still be sent to it."""
        return self._box is not None and not self._box.ended

    def send(self, message: object) -> None:
        """Send the answer.

        Raises:
            NotAlive: if there was one already, it was revoked, or the actor has ended or is being stopped.
            MailboxFull: if there is no room; it can be tried again.
        """
        if self._box is None:
            raise _closed(self._life).not_alive()
        self._box.put(Replied(alias=self, message=message))
        self._box = None

    def revoke(self) -> None:
        """Take no answer any more."""
        self._box = None


@attrs.frozen(kw_only=True)
class Replied(Notice):
    """An answer that came through a :class:`ReplyAlias`."""

    alias: ReplyAlias = attrs.field(eq=id)
    """Through which."""
    message: object
    """What was sent to it."""


def _closed(target: Addressee) -> Box:
    """A mailbox that leads nowhere."""
    box = Box(target)
    box.close(Normal())
    box.reason = None  # the actor has not ended; it is the address that is no more
    box.end()
    return box
