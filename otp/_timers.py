"""Timers: a message to oneself later, once or again and again.

A timer is an object in the :class:`TimerHeap` of the tree and not a task, so 100 000 of them are cheap. Cancelling only
marks it.

A timer that is due goes into the mailbox itself, as the entry for its message. So it can still be cancelled there, and
one that repeats can see that its last message has not been handled and not put another one behind it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, final

import trio

from . import _checks as checks
from ._entries import Entry, Handlers
from ._life import Life, Part

if TYPE_CHECKING:
    from ._exit import ExitReason


@final
class Timer(Entry):
    """A message that an actor has asked to get later. It ends with the incarnation of the actor that made it."""

    __slots__ = ("_interval", "_life", "_waits_in_box", "due", "message")

    def __init__(self, life: Life, message: object, due: float, interval: float | None) -> None:
        self._life: Life | None = life  # None when nothing will come of it any more
        self._interval = interval
        self._waits_in_box = False
        self.message = message
        """What the actor gets."""
        self.due = due
        """When the message comes (next), on trio's clock."""

    def __repr__(self) -> str:
        every = "" if self._interval is None else f" every {self._interval:g} s"
        return f"<Timer{every} of {self.message!r}{'' if self.active else ' (over)'}>"

    @property
    def active(self) -> bool:
        """Whether (another) message is still to come of it: not when it was cancelled, or its one was handled."""
        return self._life is not None

    def cancel(self) -> bool:
        """Have no message come of it any more, not even one that lies in the mailbox already.

        Returns:
            False if it was over already: its message has been handled, or it was cancelled.
        """
        life, self._life = self._life, None
        if life is None:
            return False
        life.part(Timers).running.discard(self)
        if not self._waits_in_box or self._interval is not None:
            life.runtime.timers.forget_one()
        return True

    def fire(self, now: float) -> float | None:
        """It is due: put it into the mailbox. Returns when it is due again, if it is."""
        if self._life is None:
            return None
        if not self._waits_in_box:  # the last one is not handled yet: two of the same would tell nothing more
            self._waits_in_box = True
            self._life.box.put_notice(self)
        if self._interval is None:
            return None
        # By the beat that it was started with, not from now: so it does not drift. Beats that were missed are left out.
        missed = max(0, math.floor((now - self.due) / self._interval))
        self.due += (missed + 1) * self._interval
        return self.due

    @property
    def heard(self) -> bool:
        """Whether its message was handled."""
        return not self._waits_in_box or self.active

    async def act(self, actor: Handlers) -> None:
        """Its turn in the mailbox: handle the message, if that is still wanted."""
        life = self._life
        if life is None:
            return
        self._waits_in_box = False
        if self._interval is None:
            self._life = None
            life.part(Timers).running.discard(self)
        await actor.handle_message(self.message)


@final
class Timers(Part):
    """The timers of one actor that are not over."""

    __slots__ = ("running",)

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.running: set[Timer] = set()

    def after(self, seconds: float, message: object) -> Timer:
        """Once, in so many seconds."""
        checks.seconds("seconds", seconds)
        return self._start(Timer(self.life, message, trio.current_time() + seconds, None))

    def every(self, seconds: float, message: object) -> Timer:
        """Again and again."""
        checks.positive_seconds("seconds", seconds)
        return self._start(Timer(self.life, message, trio.current_time() + seconds, seconds))

    def at(self, when: float | datetime, message: object) -> Timer:
        """Once, at that time; at once when it is past."""
        if isinstance(when, datetime) and when.tzinfo is not None:
            when = trio.current_time() + (when - datetime.now(UTC)).total_seconds()
        if not isinstance(when, int | float) or not math.isfinite(when):
            raise ValueError(f"when must be a time on trio's clock, or a datetime with a time zone, not {when!r}")
        return self._start(Timer(self.life, message, when, None))

    def mailbox_closed(self) -> None:
        """Cancel all: no message will be handled any more."""
        for timer in list(self.running):
            timer.cancel()

    def ended(self, reason: ExitReason) -> None:  # noqa: ARG002
        """Cancel those that were made in the cleanup."""
        self.mailbox_closed()

    def _start(self, timer: Timer) -> Timer:
        if self.life.box.ended:
            raise self.life.box.not_alive()  # nobody would ever cancel it
        self.running.add(timer)
        self.life.runtime.timers.add(timer)
        return timer
