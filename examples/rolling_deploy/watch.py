"""Looking on: what the processes of a run write down goes to the view and to the faults, and is counted."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from examples.rolling_deploy.events import EventTail, Kind
    from examples.rolling_deploy.faults import Faults
    from examples.rolling_deploy.view import View

_EVERY = 0.2


class Watch:
    """Reads the events as they come."""

    def __init__(self, tail: EventTail, view: View, faults: Faults) -> None:
        """Nothing is read yet."""
        self._tail = tail
        self._view = view
        self._faults = faults
        self._seen: Counter[Kind] = Counter()
        self._looked = trio.Event()

    async def run(self) -> None:
        """Look a few times a second, until cancelled."""
        while True:
            self.look()
            await trio.sleep(_EVERY)

    def look(self) -> None:
        """Take in what is new, and show it."""
        events = self._tail.poll()
        for event in events:
            self._seen[event.kind] += 1
            self._faults.take(event)
        self._view.show(events, time.monotonic())
        looked, self._looked = self._looked, trio.Event()
        looked.set()

    async def until(self, kind: Kind, times: int) -> None:
        """Wait until that has been seen so many times."""
        while self._seen[kind] < times:
            await self._looked.wait()
