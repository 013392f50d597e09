"""When a child stops taking work, and how long what it has taken may still last.

Every pattern takes work from outside and must stop doing so at one moment: when the service begins to drain, or when
the supervisor asks this child to stop, whichever comes first. Waiting for work is then cancelled; *holding* work
never is. It may go on until a second moment, a little before the deadline in force, at which it is cancelled and
given back. Keeping the two apart in one place is what makes a drain neither lose nor repeat anything.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Generator

    from otp import ChildContext

RELEASE_TIME = 0.5
"""Seconds kept back at the end of a drain for giving work back to the store (half of what is left, if that is less)."""


class Intake:
    """Open until the child shall take no more work.

    Run `watch` in the child's nursery. Wrap every wait for work in `waiting`, and every wait for work to end in
    `finishing`.

    Attributes:
        end: set when the intake closes.
        over: set when work that is still going on is to be given back.
    """

    def __init__(self, context: ChildContext) -> None:
        """Watch the drain and the stop of the child that `context` belongs to."""
        self._context = context
        self.end = trio.Event()
        self.over = trio.Event()
        self._waiting: set[trio.CancelScope] = set()
        self._finishing: set[trio.CancelScope] = set()

    @property
    def closed(self) -> bool:
        """Whether to take no more work. Never goes back to False."""
        return self._context.draining.is_set() or self._context.stopping.is_set()

    async def watch(self) -> None:
        """Say when the two moments have come. Returns after the second."""
        context = self._context
        await _any_of(context.draining, context.stopping)
        _come(self.end, self._waiting)
        # A drain that is cut short goes on as the ordered stop, and a second signal shortens either: each time there
        # are other deadlines to look at.
        changes = [context.stopping, context.hurried]
        while changes:
            with trio.move_on_at(self._hand_back_at()) as patience:
                await _any_of(*changes)
            if patience.cancelled_caught:
                break
            changes = [event for event in changes if not event.is_set()]
        else:
            await trio.sleep_until(self._hand_back_at())
        _come(self.over, self._finishing)

    def _hand_back_at(self) -> float:
        deadline = min(self._context.drain_deadline, self._context.stop_deadline)
        return deadline - min(RELEASE_TIME, max(0.0, deadline - trio.current_time()) / 2)

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Wait for work inside; left quietly, by cancellation, when the intake closes."""
        with _until(self._waiting, come=self.closed):
            yield

    @contextmanager
    def finishing(self) -> Generator[None]:
        """Wait for work to end inside; left quietly, by cancellation, when it is to be given back."""
        with _until(self._finishing, come=self.over.is_set()):
            yield

    async def stopped(self) -> None:
        """Return when the child is asked to stop, for one that has nothing left to do in a drain.

        Were it to end before, its supervisor would take that for an end to be put right, and start it again and again.
        """
        await self._context.stopping.wait()


async def _any_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def first(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel(reason="the first has come")

        for event in events:
            nursery.start_soon(first, event)


@contextmanager
def _until(scopes: set[trio.CancelScope], *, come: bool) -> Generator[None]:
    with trio.CancelScope() as scope:
        if come:
            scope.cancel(reason="no more intake")
        scopes.add(scope)
        try:
            yield
        finally:
            scopes.discard(scope)


def _come(event: trio.Event, scopes: set[trio.CancelScope]) -> None:
    event.set()
    for scope in scopes:
        scope.cancel(reason="no more intake")
