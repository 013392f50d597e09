"""How the time between the signal to stop and the end of the process is divided. Plain arithmetic, no clock."""

from __future__ import annotations

from typing import Final, Self

import attrs

_STOP_MOST: Final = 5.0
"""Seconds: what the ordered stop needs at most before a drain is given the rest; the default `shutdown` of a child."""
_RELEASE_MOST: Final = 1.0
"""Seconds for what is done at the very end, whatever else does not end: giving leases back."""


@attrs.frozen(kw_only=True)
class Budget:
    """One shutdown: until when each phase may last, all on one clock. A phase that ends early leaves its time."""

    begun: float
    """When the signal came."""
    settle_until: float
    """Until then the service goes on as before, only not ready."""
    drain_until: float
    """Until then what was begun may be finished; afterwards it is given back."""
    children_until: float
    """Until then each child may take its own time to stop; those that come later in the order have none."""
    stop_until: float
    """Until then the ordered stop may take; afterwards the process is made to exit."""
    exit_by: float
    """The process has ended, whatever does not."""

    @classmethod
    def plan(cls, begun: float, *, grace: float, settle: float) -> Self:
        """Divide `grace` seconds from `begun` on.

        A fifth, and 1 s at most, to release; a quarter, and 5 s at most, to stop (a fifth of it for those who come
        late); the rest to settle and drain.
        """
        exit_by = begun + grace
        stop_until = exit_by - min(_RELEASE_MOST, grace / 5)
        stop = min(_STOP_MOST, grace / 4)
        drain_until = stop_until - stop
        return cls(
            begun=begun,
            settle_until=min(begun + settle, drain_until),
            drain_until=drain_until,
            children_until=stop_until - stop / 5,
            stop_until=stop_until,
            exit_by=exit_by,
        )

    def shift(self, seconds: float) -> Self:
        """The same budget on a clock that is ahead by so many seconds."""
        return type(self)(**{name: moment + seconds for name, moment in attrs.asdict(self).items()})

    def hurry(self, now: float) -> Self:
        """The same shutdown when a second signal comes at `now`: do not settle, hardly drain, stop."""
        stop = self.stop_until - self.drain_until
        release = self.exit_by - self.stop_until
        stop_until = min(self.stop_until, now + stop)
        return attrs.evolve(
            self,
            settle_until=min(self.settle_until, now),
            drain_until=min(self.drain_until, now + stop / 10),  # who has nothing to finish can still say so
            children_until=stop_until - stop / 5,
            stop_until=stop_until,
            exit_by=stop_until + release,
        )
