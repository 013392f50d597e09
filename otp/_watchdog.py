"""A thread that notices when the loop stalls, and says whose handler it is that blocks it.

One blocking handler stops every actor, supervisor, probe and timer of the process, and none of them can say
so. The thread asks the loop for a sign of life every now and then and waits for the answer: an idle process
wakes up a few times in a second for that and does nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import attrs
import trio

from . import _checks as checks
from ._culprit import Culprit, find_culprit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_logger: Final = logging.getLogger("otp.watchdog")

_PAUSED: Final = " (the whole process was paused, or C code held the GIL)"


@attrs.frozen(kw_only=True)
class LoopStalled:
    """The loop did not run for a while, and runs again."""

    path: str | None
    """The child whose task held it up; None if it was no child's, or none was running."""
    handler: str | None
    """The qualified name of the function that held it up, as far as it could be told."""
    seconds: float
    """For how long."""
    stack: str
    """The stack of the task that held it up, at the time when that was noticed."""
    paused: bool
    """True if no other thread could run either: the process was paused, or C code held the GIL."""


@attrs.frozen(kw_only=True)
class WatchdogStatistics:
    """What a watchdog has seen so far."""

    stalls: int
    """How many stalls are over."""
    worst: float
    """Seconds of the longest stall."""
    stalled_for: float
    """Seconds since the loop should have shown itself; 0 if it is on time."""


class Watchdog:
    """Watches the loop in which it is entered, with `with`, until it is left. `run` and `serve` have one.

    Args:
        warn_after: Seconds without a sign of life after which a stall is logged, with its culprit.
        stall_limit: Seconds after which the process counts as not alive; logged as an error, with a fresh stack.
        on_stall: Called in the loop with a `LoopStalled` when a stall is over. It must not raise.
        clock: Seconds that also pass while the loop stalls; another one is for tests.

    Raises:
        ValueError: if a time is not > 0, or `stall_limit` is less than `warn_after`.
    """

    def __init__(
        self,
        *,
        warn_after: float = 0.5,
        stall_limit: float = 5.0,
        on_stall: Callable[[LoopStalled], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        checks.positive_seconds("warn_after", warn_after)
        checks.positive_seconds("stall_limit", stall_limit)
        if stall_limit < warn_after:
            raise ValueError(f"stall_limit must be at least warn_after, {warn_after!r}, not {stall_limit!r}")
        self._warn_after = warn_after
        self._stall_limit = stall_limit
        self._on_stall = on_stall
        self._clock = clock
        self._pause = warn_after / 2
        self._left = threading.Event()
        self._answered = threading.Event()
        self._due = clock()  # when the loop's next sign of life is due, or, if that is in the past, was due
        self._stalls = 0
        self._worst = 0.0
        self._last_bad_end: float | None = None  # when a stall beyond the limit ended

    def __enter__(self) -> Self:
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()
        self._due = self._clock() + self._pause
        self._left.clear()
        self._thread = threading.Thread(target=self._watch, name="holdfast watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._answered.set()
        self._thread.join()

    @property
    def stall_limit(self) -> float:
        """Seconds of stall after which the process counts as not alive."""
        return self._stall_limit

    def stalled_for(self) -> float:
        """Seconds since the loop's sign of life was due; 0 while it is on time. For any thread.

        It may be too small by `warn_after` / 2, which is how often the loop is asked.
        """
        return max(0.0, self._clock() - self._due)

    def why_not_alive(self) -> str | None:
        """Why this process should be taken for dead, or None if it should not.

        Who asks within the loop gets an answer only when the stall is over. So a stall beyond the limit
        counts for as long again after its end; otherwise a loop that stalls time and again would always seem
        well.
        """
        stalled = self.stalled_for()
        if stalled > self._stall_limit:
            return f"the loop has been stalled for {stalled:.1f} s"
        ended = self._last_bad_end
        if ended is not None and self._clock() - ended < self._stall_limit:
            return f"the loop was stalled for more than {self._stall_limit:g} s just now"
        return None

    def culprit(self) -> Culprit:
        """Whose task occupies the loop right now; for other threads than the loop's."""
        return find_culprit(self._loop_thread)

    def statistics(self) -> WatchdogStatistics:
        """What has been seen so far."""
        return WatchdogStatistics(stalls=self._stalls, worst=self._worst, stalled_for=self.stalled_for())

    # What follows runs in the thread.

    def _watch(self) -> None:
        with suppress(trio.RunFinishedError):  # the loop is gone, so there is nothing to watch
            while not self._left.wait(self._pause):
                self._ask()

    def _ask(self) -> None:
        """Ask the loop for a sign of life, and say what is to be said while it does not come."""
        since = self._due
        self._answered.clear()
        if self._left.is_set():
            return  # it was set before the `clear`, and then nobody answers
        self._token.run_sync_soon(self._answer)
        # This thread should be here by now, too. If it is not, then it could not run itself.
        late = self._clock() - since
        paused = late > self._warn_after
        culprit = None
        if not self._answered.wait(max(0.0, self._warn_after - late)):
            culprit = self.culprit()
            self._say(logging.WARNING, culprit, self.stalled_for(), paused=paused)
            if not self._answered.wait(max(0.0, since + self._stall_limit - self._clock())):
                self._say(logging.ERROR, self.culprit(), self.stalled_for(), paused=False)
                self._answered.wait()
        seconds = self._due - self._pause - since  # until the answer
        if seconds > self._warn_after and self._due != since:
            self._over(culprit or Culprit(path=None, handler=None, stack=""), seconds, paused=paused)

    def _answer(self) -> None:
        """Show that the loop runs; in the loop."""
        now = self._clock()
        if now - self._due > self._stall_limit:
            self._last_bad_end = now  # here, since a probe may ask before the thread gets to run again
        self._due = now + self._pause
        self._answered.set()

    def _over(self, culprit: Culprit, seconds: float, *, paused: bool) -> None:
        self._stalls += 1
        self._worst = max(self._worst, seconds)
        _logger.warning("the loop runs again, after %.2f s%s", seconds, _PAUSED if paused else "")
        if self._on_stall is not None:
            event = LoopStalled(
                path=culprit.path, handler=culprit.handler, seconds=seconds, stack=culprit.stack, paused=paused
            )
            self._token.run_sync_soon(self._on_stall, event)

    def _say(self, level: int, culprit: Culprit, seconds: float, *, paused: bool) -> None:
        how = _PAUSED if paused else ""
        if culprit.stack:
            _logger.log(
                level, "the loop is blocked, for %.2f s so far%s, by %s\n%s", seconds, how, culprit, culprit.stack
            )
        else:
            _logger.log(level, "the loop has not run for %.2f s%s, but no task holds it up", seconds, how)
