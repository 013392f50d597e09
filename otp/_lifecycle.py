"""What is told of each life, by whoever is its parent: that it has begun, and how it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _events as events  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._exit import Killed

if TYPE_CHECKING:
    from ._life import Life, Outcome


def tell_up(life: Life, now: float) -> None:
    """Its init is done."""
    bus = life.runtime.events
    if bus.wants(events.ChildStarted):
        bus.emit(events.ChildStarted(path=life.path, incarnation=life.incarnation, at=now, guest=life.guest))


def tell_end(life: Life, outcome: Outcome, now: float) -> None:
    """It has ended, perhaps before its init was done."""
    bus = life.runtime.events
    if outcome == "ignored":
        if bus.wants(events.ChildIgnored):
            bus.emit(events.ChildIgnored(path=life.path, incarnation=life.incarnation, at=now, guest=life.guest))
    elif not life.up:
        if bus.wants(events.ChildStartFailed):
            bus.emit(
                events.ChildStartFailed(
                    path=life.path, incarnation=life.incarnation, at=now, guest=life.guest, reason=outcome
                )
            )
    elif bus.wants(events.ChildExited):
        bus.emit(
            events.ChildExited(
                path=life.path,
                incarnation=life.incarnation,
                at=now,
                guest=life.guest,
                reason=outcome,
                asked=life.stop_asked,
                late=life.stop_asked and isinstance(outcome, Killed) and life.spec.shutdown != "brutal",
            )
        )
