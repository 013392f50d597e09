"""What a pattern does while its store cannot be reached: wait, say so, and try again.

An outage is nobody's bug: it must not burn restart intensity and take the tree down (Oban 2.23 and emqx learnt this from their
users). So the patterns catch `StoreUnavailable`, switch their readiness off, and retry with backoff until the store is back.
"""

from __future__ import annotations

import random

import trio

from otp import Backoff, ChildContext
from otp.engines import StoreError

from ._events import StoreOutage

BACKOFF = Backoff(initial=0.1, cap=5.0)


class Outage:
    """Counts the failures in a row of one child's store, and paces the retries."""

    def __init__(self, context: ChildContext, rng: random.Random | None = None) -> None:
        """Speak for the child of ``context``; ``rng`` is the source of the jitter."""
        self._context = context
        self._rng = rng or random.Random()
        self._failures = 0

    async def wait(self, error: StoreError) -> None:
        """Note a failure and sleep until the next try is due."""
        self._failures += 1
        delay = BACKOFF.delay(self._failures, self._rng)
        self._context.condition("store", ok=False, detail=str(error))
        self._context.emit(StoreOutage(path=self._context.path, error=str(error), retry_in=delay))
        await trio.sleep(delay)

    def over(self) -> None:
        """Note a success: ready again."""
        if self._failures:
            self._failures = 0
            self._context.condition("store", ok=True)
