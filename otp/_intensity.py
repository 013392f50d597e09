"""The sliding window of restarts: how many a supervisor has made lately, and whether that is too many."""

from __future__ import annotations

from bisect import bisect_left


class RestartWindow:
    """Counts restarts as OTP does: the attempt is charged first, then compared with the limit.

    A restart lies in the window while ``now - stamp <= period``. OTP compares whole seconds, by which up to a
    second more may count; floats are the natural, slightly stricter, form of the same rule.

    What lies outside of the window when an attempt is charged is forgotten, as in OTP, and by nothing else: a longer
    `period` counts it again until then, whoever has looked meanwhile.
    """

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self._stamps: list[float] = []  # oldest first

    def charge(self, now: float) -> bool:
        """Count one attempt; False when it is one more than the limit."""
        del self._stamps[: self._outside(now)]
        self._stamps.append(now)
        return len(self._stamps) <= self.limit

    def used(self, now: float) -> int:
        """How many attempts the window holds."""
        return len(self._stamps) - self._outside(now)

    def _outside(self, now: float) -> int:
        # (By differences, which are what the rule speaks of: `now - period` would round differently.)
        return bisect_left(self._stamps, -self.period, key=lambda stamp: stamp - now)
