"""What an incarnation leaves unread, and how it comes to the next one, if the mailbox is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from ._call import Request
from ._events import MessagesDropped
from ._life import Life, Part

if TYPE_CHECKING:
    from ._exit import ExitReason


@final
class Unread(Part):
    """The messages, and the calls nobody has begun to answer, that are for the next incarnation."""

    __slots__ = ("messages",)

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.messages: list[object] = []

    def drop(self) -> None:
        """There is no next incarnation."""
        lost = 0
        for message in self.messages:
            if isinstance(message, Request):
                message.fail(self.life.box.refusal())
            else:
                lost += 1
        self.messages = []
        tell_dropped(self.life, lost)


def drop_inherited(life: Life) -> None:
    """It is no actor, unlike the one that has left it something: nobody will ever read that."""
    left = Unread(life)
    left.messages = life.box.disinherit()
    left.drop()


def close_mailbox(life: Life, reason: ExitReason) -> None:
    """Take no more messages. What is unread is dropped, and callers told, unless it is for the next incarnation."""
    kept = life.spec.mailbox.kept and not life.guest
    unread = life.box.close(reason, kept=kept)
    if life.parts is not None:
        for part in list(life.parts.values()):
            part.mailbox_closed()
    if kept and unread:
        life.part(Unread).messages = unread
    else:
        tell_dropped(life, len(unread))


def tell_dropped(life: Life, count: int) -> None:
    """So many messages are lost."""
    if count and life.runtime.events.wants(MessagesDropped):
        life.runtime.events.emit(
            MessagesDropped(
                path=life.path, incarnation=life.incarnation, at=trio.current_time(), guest=life.guest, count=count
            )
        )
