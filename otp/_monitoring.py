"""The two ends of a monitor: the life that it is on, and the one that has placed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._life import Life, Part
from ._monitors import Down, Monitor, MonitorNotice, NoProcess

if TYPE_CHECKING:
    from ._exit import ExitReason
    from ._ref import Ref


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
        monitor = Monitor(self.life.box, self.monitors, given)
        if target is None or target.box.ended:
            monitor.tell(_down(monitor, None if target is None else target.ref, NoProcess()))
        else:
            monitor.place(target.part(Monitors).placed)
        return monitor

    def on_group(self, name: str) -> Monitor:
        """Place a monitor on the group of that name."""
        if self.life.box.ended:
            raise self.life.box.not_alive()  # nobody would ever remove it
        monitor = Monitor(self.life.box, self.monitors, name)
        monitor.place(self.life.runtime.groups.watched(name))
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
