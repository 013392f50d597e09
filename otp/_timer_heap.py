"""All timers of a tree: one heap, and one task that sleeps until the first of them is due.

A timer that was cancelled stays in the heap until it is due, or until such are the larger part of it: then they leave
it all together.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Final, Protocol, final

import trio

_FEW: Final = 64
"""So many cancelled timers may always stay in the heap."""


class Alarm(Protocol):
    """What the heap needs of a timer."""

    @property
    def due(self) -> float:
        """When, on trio's clock, it is to fire."""
        ...

    @property
    def active(self) -> bool:
        """Whether it is to fire at all: not when it was cancelled."""
        ...

    def fire(self, now: float) -> float | None:
        """It is due. Returns when it is due again, if it is."""
        ...


@final
class TimerHeap:
    """All timers of a tree, and the task that waits for the first of them."""

    __slots__ = ("_cancelled", "_heap", "_numbers", "_sleep")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()  # timers that are due at the same time fire in the order of their making
        self._cancelled = 0
        self._sleep = trio.CancelScope()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, timer: Alarm) -> None:
        """Have `timer` fire when it is due."""
        heapq.heappush(self._heap, (timer.due, next(self._numbers), timer))
        if timer.due < self._sleep.deadline:
            self._sleep.deadline = timer.due

    def forget_one(self) -> None:
        """A timer in the heap was cancelled."""
        self._cancelled += 1
        if self._cancelled > max(_FEW, len(self._heap) // 2):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def run(self) -> None:
        """Let timers fire, until cancelled."""
        while True:
            with trio.CancelScope() as self._sleep:
                self._sleep.deadline = self._heap[0][0] if self._heap else math.inf
                await trio.sleep_forever()
            self._fire(trio.current_time())

    def _fire(self, now: float) -> None:
        repeated: list[tuple[float, int, Alarm]] = []  # into the heap at the end: a beat may be too short for the clock
        while self._heap and self._heap[0][0] <= now:
            _, _, timer = heapq.heappop(self._heap)
            if not timer.active:
                self._cancelled -= 1
                continue
            again = timer.fire(now)
            if again is not None:
                repeated.append((again, next(self._numbers), timer))
        for entry in repeated:
            heapq.heappush(self._heap, entry)
