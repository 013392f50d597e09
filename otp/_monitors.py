"""Monitors: hear of it when another child ends.

OTP's, with its guarantees: each monitor brings exactly one :class:`Down`; for a target that is gone it comes at once;
and it comes behind what the target has sent before, as signals between two processes keep their order. (Ergo lets it
overtake. Then a worker's result would come after the news of its end.) There may be several on one target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

from ._entries import Notice
from ._exit import ExitReason
from ._ref import Ref

if TYPE_CHECKING:
    from ._mailbox import Box


@attrs.frozen
class NoProcess:
    """Instead of an exit reason: there was nobody (any more) when the monitor or link was made. OTP's ``noproc``."""

    def __str__(self) -> str:
        return "no such process"


@final
class Monitor:
    """What :meth:`Actor.monitor` returns: it tells the notices of one monitor from those of another."""

    __slots__ = ("_box", "_own", "_placed_in", "target")

    def __init__(self, box: Box, own: dict[Monitor, None], target: Ref | str) -> None:
        self._box = box  # of the actor that watches
        self._own = own  # all that this actor has placed
        self._placed_in: dict[Monitor, None] | None = None
        self.target = target
        """What it is on, as it was given: a ref, or a name."""

    def __repr__(self) -> str:
        return f"<Monitor of {self.target!r}>"

    def place(self, where: dict[Monitor, None]) -> None:
        """Have it told of from now on by whoever looks there."""
        where[self] = self._own[self] = None
        self._placed_in = where

    def remove(self) -> None:
        """Have it told no more."""
        if self._placed_in is not None:
            self._placed_in.pop(self, None)
            self._placed_in = None
            self._own.pop(self, None)

    def tell(self, notice: MonitorNotice) -> None:
        """Put a notice into the mailbox of the actor that watches."""
        self._box.put_notice(notice)


@attrs.frozen(kw_only=True)
class MonitorNotice(Notice):
    """A message that comes of a monitor."""

    monitor: Monitor = attrs.field(eq=id)
    """The monitor that it comes of."""


@attrs.frozen(kw_only=True)
class Down(MonitorNotice):
    """The target of a monitor has ended. Nothing of it runs any more, and its name is free. OTP's ``'DOWN'``.

    It comes as a message, behind all that the target has sent to the one who watches.
    """

    ref: Ref | None = attrs.field(eq=id)
    """Who has ended; None if nobody had the name."""
    name: str | None
    """The name that the monitor was on; None if it was on a ref."""
    reason: ExitReason | NoProcess
    """What it ended with; :class:`NoProcess` if nobody was there when the monitor was placed."""
