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
from ._part import Part
from ._ref import Ref

if TYPE_CHECKING:
    from ._life import Life


@attrs.frozen
class NoProcess:
    """Instead of an exit reason: there was nobody (any more) when the monitor or link was made. OTP's ``noproc``."""

    def __str__(self) -> str:
        return "no such process"


@final
class Monitor:
    """What :meth:`Actor.monitor` returns: it tells the notices of one monitor from those of another."""

    __slots__ = ("_placed_in", "_watcher", "target")

    def __init__(self, watcher: Life, target: Ref | str) -> None:
        self._watcher = watcher
        self._placed_in: dict[Monitor, None] | None = None
        self.target = target
        """What it is on, as it was given: a ref, or a name."""

    def __repr__(self) -> str:
        return f"<Monitor of {self.target!r}>"

    def place(self, where: dict[Monitor, None]) -> None:
        """Have it told of from now on by whoever looks there."""
        where[self] = None
        self._placed_in = where
        self._watcher.part(Monitoring).monitors[self] = None

    def remove(self) -> None:
        """Have it told no more."""
        if self._placed_in is not None:
            self._placed_in.pop(self, None)
            self._placed_in = None
            self._watcher.part(Monitoring).monitors.pop(self, None)

    def tell(self, notice: MonitorNotice) -> None:
        """Put a notice into the mailbox of the actor that watches."""
        self._watcher.box.put_notice(notice)


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


@final
class Monitors(Part):
    """The monitors that others have on a life."""

    __slots__ = ("placed",)

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.placed: dict[Monitor, None] = {}

    def ended(self, reason: ExitReason) -> None:
        """Tell them."""
        for monitor in list(self.placed):
            monitor.remove()
            monitor.tell(_down(monitor, self.life.ref, reason))


@final
class Monitoring(Part):
    """The monitors that a life has on others."""

    __slots__ = ("monitors",)

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.monitors: dict[Monitor, None] = {}

    def on(self, target: Life | None, given: Ref | str) -> Monitor:
        """Place a monitor on `target`, which was `given` as a ref or name."""
        monitor = Monitor(self.life, given)
        if target is None or target.box.ended:
            monitor.tell(_down(monitor, None if target is None else target.ref, NoProcess()))
        else:
            monitor.place(target.part(Monitors).placed)
        return monitor

    def off(self, monitor: Monitor) -> None:
        """Remove a monitor, and what it has told that was not handled."""
        monitor.remove()
        self.life.box.take_back(lambda entry: isinstance(entry, MonitorNotice) and entry.monitor is monitor)

    def mailbox_closed(self) -> None:
        """Nobody would read it any more."""
        for monitor in list(self.monitors):
            monitor.remove()

    def ended(self, reason: ExitReason) -> None:  # noqa: ARG002
        """Remove those that were placed in the cleanup."""
        self.mailbox_closed()


def _down(monitor: Monitor, ref: Ref | None, reason: ExitReason | NoProcess) -> Down:
    name = monitor.target if isinstance(monitor.target, str) else None
    return Down(monitor=monitor, ref=ref, name=name, reason=reason)
