"""What a full mailbox does with one message more, if its spec says anything else than to refuse it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs
import trio
from trio.lowlevel import current_task

from ._call import Request, Turn
from ._entries import ENTRIES, Notice
from ._errors import MailboxFull, OtpError
from ._events import MailboxOverflowed, OverflowOutcome
from ._mailbox_spec import Divert
from ._names import box_of

if TYPE_CHECKING:
    from ._life import Life


@attrs.frozen
class Overflow:
    """What an actor is handed for another one that has no room: see :class:`Divert`."""

    path: str
    """Whose mailbox was full."""
    message: object = attrs.field(repr=False)
    """What was sent to it, or asked."""


@final
class Overflowing:
    """What the mailbox of a life does when it overflows, and how often it did."""

    __slots__ = ("_life", "_telling", "count")

    def __init__(self, life: Life) -> None:
        self._life = life
        self.count = 0
        self._telling = False

    def take(self, message: object) -> None:
        """Do with `message` what the spec says.

        Raises:
            MailboxFull: if it is a call and would be dropped; and if who it would be diverted to has no room either, or
                is not there.
        """
        if self._telling:
            self._leave_out(message)
            return
        box, when_full = self._life.box, self._life.spec.mailbox.when_full
        if isinstance(when_full, Divert):
            self._divert(message, when_full.to)
        elif when_full == "drop_oldest":
            oldest = next((place for place, each in enumerate(box.queue) if _may_be_dropped(each)), None)
            if oldest is None:
                raise self._full()
            dropped = box.queue[oldest]
            del box.queue[oldest]
            box.queue.append(message)
            self._tell(dropped, "dropped")
            if isinstance(dropped, Request):
                dropped.fail(self._full())
        elif when_full == "drop_newest" and not isinstance(message, Request):
            self._tell(message, "dropped")
        else:
            raise self._full()

    def _divert(self, message: object, to: str) -> None:
        ref = self._life.runtime.registry.get(to)
        content = message.message if isinstance(message, Request) else message
        # One step only: two that divert to each other would go on for ever. And a turn is this actor's own.
        if ref is None or ref is self._life.ref or isinstance(content, Overflow | Turn):
            raise self._full()
        other = box_of(ref)
        if type(message) is Request and message.task is other.owner:
            raise self._full()  # it would wait for itself
        overflow = Overflow(self._life.path, content)
        try:
            if isinstance(message, Request):
                message.message, message.target = overflow, other.target
            other.put(message if isinstance(message, Request) else overflow)
        except OtpError as error:
            if isinstance(message, Request):
                message.message, message.target = content, self._life
            raise self._full() from error
        self._tell(content, "diverted")

    def _leave_out(self, message: object) -> None:
        """Who is told of an overflow sends here in turn: to tell of that as well would go on for ever.

        Nor must it push out what is just being put in, such as a call whose caller does not wait yet.
        """
        if isinstance(message, Request):
            raise self._full()
        self.count += 1

    def _full(self) -> MailboxFull:
        return MailboxFull(self._life.path, self._life.spec.mailbox.limit)

    def _tell(self, message: object, what: OverflowOutcome) -> None:
        self.count += 1
        life = self._life
        if life.runtime.events.wants(MailboxOverflowed):
            event = MailboxOverflowed(
                path=life.path,
                incarnation=life.incarnation,
                at=trio.current_time(),
                guest=life.guest,
                message=message.message if isinstance(message, Request) else message,
                what=what,
                count=self.count,
            )
            self._telling = True
            try:
                life.runtime.events.emit(event)
            finally:
                self._telling = False


def overflow_policy(life: Life) -> Overflowing | None:
    """What its spec says; None if that is to refuse, for which the mailbox needs nobody."""
    return None if life.spec.mailbox.when_full == "refuse" else Overflowing(life)


def _may_be_dropped(entry: object) -> bool:
    if type(entry) is Request and entry.task is current_task():
        return False  # (a subscriber sends while a call is put in: its caller does not wait yet, and cannot be told)
    if isinstance(entry, Request):
        # A call, but neither a question of a tool nor what a helper of the actor wants in turn.
        return not entry.jumps_queue and type(entry.message) is not Turn
    return not (type(entry) in ENTRIES or isinstance(entry, Notice))
