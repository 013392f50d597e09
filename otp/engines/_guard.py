"""Keeps a busy loop from starving the threads beside it. One guard per trio run, for all engines.

CPython hands the GIL to a waiting thread only after its request has *timed out* (5 ms) without a signal. trio
releases and takes the GIL at each pass of its loop, which signals the waiter and starts its 5 ms anew. So
a task that computes in slices shorter than that, with a checkpoint after each, keeps every other thread
from running for seconds: a dequeue hangs, a heartbeat comes too late, a lease is lost.

The guard is a trio instrument. When the pass is busy, and a thread has been asked for something for more than
a millisecond or is past the time at which it wanted to wake up, the loop blocks on a lock (and so gives the
GIL away) until a thread reports a result, half a millisecond at most.
"""

from __future__ import annotations

import threading
import time
from math import inf

import trio

AFTER = 0.001  # how long work may be outstanding before the loop steps aside
HOLD = 0.0005  # how long it steps aside at most, per pass


class Due:
    """When a thread wants to wake up by itself (time.monotonic); inf: it waits to be asked."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = inf


class StarvationGuard(trio.abc.Instrument):
    """Made by `join`; methods are for the loop, but for `poke`."""

    def __init__(self) -> None:
        self._users = 0
        self._outstanding = 0
        self._since = 0.0
        self._dues: tuple[Due, ...] = ()
        self._gate = threading.Lock()
        self._gate.acquire()
        self.yields = 0

    def begin(self) -> None:
        """One more thing was asked from a thread."""
        if not self._outstanding:
            self._since = time.monotonic()
        self._outstanding += 1

    def end(self) -> None:
        """It was answered."""
        self._outstanding -= 1
        self._since = time.monotonic()

    def add_due(self, due: Due) -> None:
        self._dues = (*self._dues, due)

    def drop_due(self, due: Due) -> None:
        self._dues = tuple(other for other in self._dues if other is not due)

    def poke(self) -> None:
        """A thread has produced something: the loop need not wait any longer. Any thread."""
        try:
            self._gate.release()
        except RuntimeError:  # released already
            pass

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio in each pass; `timeout` 0 means that tasks are ready to run."""
        if timeout > 0 or not (self._outstanding or self._dues):
            return
        now = time.monotonic()
        if (self._outstanding and now - self._since > AFTER) or any(due.at < now for due in self._dues):
            self.yields += 1
            self._gate.acquire(timeout=HOLD)

    # -- one per run -------------------------------------------------------------------------------

    @classmethod
    def join(cls) -> StarvationGuard:
        """The guard of this trio run; installed with its first user."""
        guard = _current.get(None)
        if guard is None:
            guard = cls()
            _current.set(guard)
        if not guard._users:
            trio.lowlevel.add_instrument(guard)
        guard._users += 1
        return guard

    def leave(self) -> None:
        """Counterpart of `join`; removed with its last user."""
        self._users -= 1
        if not self._users:
            trio.lowlevel.remove_instrument(self)


_current: trio.lowlevel.RunVar[StarvationGuard | None] = trio.lowlevel.RunVar("otp.engines.guard", None)
