"""What a life carries only if it uses it: timers, links, monitors, groups, calls that it owes an answer.

There may be 100 000 idle actors, and most use none of these. So each is an object of its own, made when it is first
asked for (`life.part(Timers)`), and :class:`Life` has one field for all of them. What they have in common is that
something is to be undone, or somebody to be told, when the life ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._exit import ExitReason
    from ._life import Life


class Part:
    """One thing that a life makes use of."""

    __slots__ = ("life",)

    def __init__(self, life: Life) -> None:
        self.life = life

    def mailbox_closed(self) -> None:
        """No message will be handled any more. The cleanup is still to come."""

    def ended(self, reason: ExitReason) -> None:
        """The life is over: nothing of it runs any more, and its name is free."""
