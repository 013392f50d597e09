"""Faults at named points: a file in the run's directory asks for one, and the first pod to come by takes it.

A pause or a kill at a random moment hits nothing in particular most of the time. The interesting moments have names,
and a pod says when it is at one: `step-saved-2`, `in-handler`, `read-before-commit` and so on. All of them are outside
of any transaction.

    <run>/traps/<point>         taken by whichever pod comes first
    <run>/traps/<point>@<pod>   for one pod

The file's content is what happens: ``kill`` or ``pause``. Taking it is an unlink, so that it happens once.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from examples.rolling_deploy.events import EventWriter, Kind

if TYPE_CHECKING:
    from pathlib import Path

POINTS = ("claimed", "in-handler", "step-saved", "step-saved-2", "before-finish", "read-before-commit")
"""Every point at which a pod may be asked to fail."""


def set_trap(directory: Path, point: str, action: str, pod: str = "") -> Path:
    """Ask for ``action`` (``kill`` or ``pause``) at ``point``, of ``pod`` or of whoever comes first."""
    if point not in POINTS:
        raise ValueError(f"point must be one of {', '.join(POINTS)}, not {point!r}")
    if action not in ("kill", "pause"):
        raise ValueError(f"action must be kill or pause, not {action!r}")
    directory.mkdir(parents=True, exist_ok=True)
    trap = directory / (f"{point}@{pod}" if pod else point)
    unfinished = directory / f".{trap.name}"
    unfinished.write_text(action, encoding="ascii")
    unfinished.rename(trap)  # so that nobody takes it empty
    return trap


class Traps:
    """The pod's side: asks, at each point, whether it is to fail there."""

    def __init__(self, directory: Path, pod: str, events: EventWriter) -> None:
        """Look for traps in ``directory``, which need not exist."""
        self._directory = directory
        self._pod = pod
        self._events = events

    def passing(self, point: str, *, job: str = "") -> None:
        """Fail here if that was asked for: this process is killed, or stopped until it is continued."""
        for name in (f"{point}@{self._pod}", point):
            action = self._take(self._directory / name)
            if action:
                self._events.emit(Kind.FAULT, job=job, kind=action, point=point)
                # The whole process, its threads and with them the heartbeat; a paused one is continued by the demo.
                os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)
                return

    def _take(self, trap: Path) -> str:
        try:
            action = trap.read_text(encoding="ascii")
            trap.unlink()
        except FileNotFoundError:
            return ""  # none set, or another pod was faster
        return action
