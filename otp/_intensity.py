"""The sliding window of restarts: how many a supervisor has made lately, and whether that is too many."""

from __future__ import annotations

from bisect import bisect_left


class RestartWindow:
    """Counts restarts as OTP does: the attempt is charged first, then compared with the limit.

    A restart lies in the window while ``now - stamp <= period``. OTP compares whole seconds, by which up to a
    second more may count; floats are the natural, slightly stricter, form of the same rule.
    """

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self._stamps: list[float] = []  # oldest first

    def charge(self, now: float) -> bool:
        """Count one attempt; False when it is one more than the limit."""
        self._stamps.append(now)
        return self.used(now) <= self.limit

    def used(self, now: float) -> int:
        """How many attempts the window holds."""
        # (By differences, which are what the rule speaks of: `now - period` would round differently.)
        del self._stamps[: bisect_left(self._stamps, -self.period, key=lambda stamp: stamp - now)]
        return len(self._stamps)
