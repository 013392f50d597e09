"""That the service is to stop: said by a signal or by the program, once, or again to make it hurry.

What happens here happens in a signal handler, perhaps while the loop is blocked. So it only counts, works out the
deadlines, tells the thread of last resort, and leaves a note for the loop.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from ._budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from ._last_resort import LastResort
    from ._settings import RunSettings

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

GIVEN_BACK: Final = 75
"""The exit code when work was not finished but given back (EX_TEMPFAIL of sysexits.h)."""


class StopRequest:
    """Asked once: stop within the grace time. Asked twice: do not drain, stop. Asked three times: exit now.

    `resort`: made to exit when the time is over. `settings`: say how long that is.
    """

    def __init__(self, settings: RunSettings, resort: LastResort) -> None:
        self._settings = settings
        self._resort = resort
        self._budget: Budget | None = None  # on the monotonic clock
        self._tell: Callable[[], object] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._deadline = math.inf
        self._code = GIVEN_BACK  # until it is known that the service has failed, say
        self.count = 0
        """How many times it was asked."""
        self.by = ""
        """Who asked last: the name of a signal, say."""

    def ask(self, by: str) -> None:
        """Ask the service to stop. May be called in any thread and in a signal handler."""
        now = time.monotonic()
        self.count += 1
        self.by = by
        settings = self._settings
        if self._budget is None:
            self._budget = Budget.plan(now, grace=settings.grace, settle=settings.settle)
            why = f"not stopped within the grace time of {settings.grace:g} s"
        elif self.count == 2:
            self._budget = self._budget.hurry(now)
            why = f"not stopped within {self._budget.exit_by - now:.1f} s after a second request ({by})"
        else:
            self._exit_by(now, f"asked for the third time ({by})")
            return
        self._exit_by(self._budget.stop_until, why)  # what is left it uses to release
        if self._tell is not None:
            self.in_loop(self._tell)

    def in_loop(self, fn: Callable[[], object]) -> None:
        """Have `fn` called in the loop, if there is one. May be called in any thread and in a signal handler."""
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(fn)

    def leave(self, code: int) -> None:
        """The end has come, or must: exit with `code` when the time is over, or grace time from now if nobody asked."""
        self._code = code
        deadline = time.monotonic() + self._settings.grace if self._budget is None else self._budget.stop_until
        self._exit_by(deadline, f"not ended within the grace time of {self._settings.grace:g} s")

    def _exit_by(self, deadline: float, why: str) -> None:
        """Make the process exit by then; whatever comes later may hasten that, but not put it off."""
        self._deadline = min(self._deadline, deadline)
        self._resort.exit_by(self._deadline, self._code, why)

    def budget(self) -> Budget:
        """The deadlines of the stop that was asked for, on trio's clock; for the loop."""
        assert self._budget is not None, "nobody has asked"
        return self._budget.shift(trio.current_time() - time.monotonic())

    @contextmanager
    def told_to(self, tell: Callable[[], object]) -> Generator[None]:
        """Within this block `tell` is called in the loop whenever it is asked, also if that was before."""
        self._tell, self._token = tell, trio.lowlevel.current_trio_token()
        if self.count:
            tell()
        try:
            yield
        finally:
            self._tell = self._token = None

    def obey_signals(self) -> Callable[[], None]:
        """Have SIGTERM and SIGINT ask from now on; return what puts back who obeyed them before.

        Only the main thread can have it so; in others this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}

        def put_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return put_back

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  (all handlers get one)
        self.ask(signal.Signals(number).name)
