"""What a pattern does while its store cannot be reached: wait, say so, and try again.

An outage is nobody's bug: it must not burn restart intensity and take the tree down. So the patterns catch
`StoreUnavailable`, switch their readiness off, and try again until the store is back.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from ._events import StoreOutage
from ._tell import tell

if TYPE_CHECKING:
    from otp import ChildContext
    from otp.engines import StoreError

SHORTEST = 0.1
LONGEST = 5.0


class Outage:
    """The outages of the store of one child, whoever of its tasks notices them.

    The pause between two tries is as long as the outage has lasted, within bounds: so it doubles, and however many
    tasks try, none waits for longer than the outage itself.
    """

    def __init__(self, context: ChildContext) -> None:
        """Speak for the child of `context`."""
        self._context = context
        self._since: float | None = None

    async def wait(self, error: StoreError) -> None:
        """Note a failure, and sleep until the next try is due."""
        now = trio.current_time()
        if self._since is None:
            self._since = now
        pause = min(LONGEST, max(SHORTEST, now - self._since)) * random.uniform(0.8, 1.0)
        self._context.condition("store", ok=False, detail=str(error))
        tell(self._context, StoreOutage, error=str(error), retry_in=pause)
        await trio.sleep(pause)

    def over(self) -> None:
        """Note that the store has answered: ready again."""
        if self._since is not None:
            self._since = None
            self._context.condition("store", ok=True)
