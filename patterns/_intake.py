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
        self.end = trio.Event()
        """Set, by `watch`, when the intake closes."""
        self._hand_back_at = float("inf")

    @property
    def closed(self) -> bool:
        """Whether to take no more work. Never goes back to False."""
        return self.end.is_set() or self._context.draining.is_set() or self._context.stopping.is_set()

    async def watch(self) -> None:
        """Close as soon as the service drains or this child is asked to stop. Returns then."""
        async with trio.open_nursery() as nursery:
            for event in (self._context.draining, self._context.stopping):
                nursery.start_soon(event.wait)
                nursery.start_soon(self._close_after, event, nursery.cancel_scope)

    async def _close_after(self, event: trio.Event, both: trio.CancelScope) -> None:
        await event.wait()
        self.end.set()
        for scope in self._waits:
            scope.cancel(reason="no more intake")
        both.cancel()

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

    @property
    def hand_back_at(self) -> float:
        """trio time at which work that is still running is cancelled and given back: a little before the deadline in force.

        Infinite while the intake is open. The reserve is fixed when this is first asked for after closing, so that it does not
        shrink towards the deadline.
        """
        if not self.closed:
            return float("inf")
        deadline = min(self._context.drain_deadline, self._context.stop_deadline)
        now = trio.current_time()
        moment = deadline - min(RELEASE_TIME, max(0.0, deadline - now) / 2)
        self._hand_back_at = min(self._hand_back_at, moment)
        return self._hand_back_at
