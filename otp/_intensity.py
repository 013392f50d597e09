"""The sliding window of restarts: how many a supervisor has made lately, and whether that is too many."""

from __future__ import annotations

from collections import deque


class RestartWindow:
    """Counts restarts as OTP does: the attempt is charged first, then compared with the limit.

    A restart lies in the window while ``now - stamp <= period``. OTP compares whole seconds, by which up to a
    second more may count; floats are the natural, slightly stricter, form of the same rule.
    """

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self._period = period
        self._stamps: deque[float] = deque()  # oldest first

    def charge(self, now: float) -> bool:
        """Count one attempt; False when it is one more than the limit."""
        self._stamps.append(now)
        return self.used(now) <= self.limit

    def used(self, now: float) -> int:
        """How many attempts the window holds."""
        while self._stamps and now - self._stamps[0] > self._period:
            self._stamps.popleft()
        return len(self._stamps)
