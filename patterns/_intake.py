"""When a child stops taking work, and how long what it has taken may still last.

Every pattern takes work from outside and must stop doing so at one moment: when the service begins to drain, or when the
supervisor asks this child to stop, whichever comes first. Waiting for work is then cancelled; *holding* work never is. Keeping the two
apart in one place is what makes a drain neither lose nor repeat anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from otp import ChildContext

RELEASE_TIME = 0.5
"""Seconds kept back at the end of a drain for giving work back to the store (half of what is left, if that is less)."""


class Intake:
    """Open until the child shall take no more work.

    Run `watch` in the child's nursery. Wrap every wait for work in `waiting`.
    """

    def __init__(self, context: ChildContext) -> None:
        """Watch the drain and the stop of the child that ``context`` belongs to."""
        self._context = context
        self._waits: set[trio.CancelScope] = set()
        self._timers: set[trio.CancelScope] = set()
        self.end = trio.Event()
        """Set, by `watch`, when the intake closes."""

    @property
    def closed(self) -> bool:
        """Whether to take no more work. Never goes back to False."""
        return self.end.is_set() or self._context.draining.is_set() or self._context.stopping.is_set()

    async def watch(self) -> None:
        """Close as soon as the service drains or this child is asked to stop; run it until the child ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_after, self._context.draining)
            nursery.start_soon(self._close_after, self._context.stopping)

    async def _close_after(self, event: trio.Event) -> None:
        await event.wait()
        self.end.set()
        for scope in self._waits:
            scope.cancel(reason="no more intake")
        for timer in self._timers:  # a stop may come in the middle of a drain, and be the shorter
            timer.deadline = min(timer.deadline, self._hand_back_at())

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for work inside; left quietly, by cancellation, when the intake closes."""
        with trio.CancelScope() as scope:
            if self.closed:
                scope.cancel(reason="no more intake")
            self._waits.add(scope)
            try:
                yield
            finally:
                self._waits.discard(scope)

    async def wait_hand_back(self) -> None:
        """Return when work that is still running is to be cancelled and given back: a little before the deadline in force."""
        await self.end.wait()
        with trio.CancelScope(deadline=self._hand_back_at()) as timer:
            self._timers.add(timer)
            try:
                await trio.sleep_forever()
            finally:
                self._timers.discard(timer)

    def _hand_back_at(self) -> float:
        deadline = min(self._context.drain_deadline, self._context.stop_deadline)
        now = trio.current_time()
        return deadline - min(RELEASE_TIME, max(0.0, deadline - now) / 2)
