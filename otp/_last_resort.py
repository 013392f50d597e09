"""The thread that ends the process when nothing else does.

A handler that blocks the loop, a child that swallows its cancellation, a thread that never returns: each can keep a
process from ending. Then Kubernetes kills it, the leases it holds run out slowly, and nobody knows why. So a thread
keeps the time, which no such thing can stop, and at the end of the budget says what is stuck, has the leases given
back and exits.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_logger: Final = logging.getLogger("otp.service")


class LastResort:
    """A thread that waits, for nothing at first, and one that will speak for it.

    `release` and `say`: called once before a forced exit, each in a thread of its own, so that neither waits for what
        may block the other; the one gives back what must not be kept, the other says what is stuck and, given as its
        argument, what happens now. They get `patience` seconds.
    `leave`: ends the process with an exit code.
    """

    def __init__(
        self,
        release: Callable[[], object],
        say: Callable[[str], object],
        *,
        patience: float = 1.0,
        leave: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._leave = leave
        self._clock = clock
        # A SimpleQueue because its `put` may be called in a signal handler, whatever that has interrupted.
        self._orders: SimpleQueue[tuple[float, int, str] | None] = SimpleQueue()
        # In threads of their own: even the log can block, on a full pipe or a lock that the stuck one holds. They are
        # started now, since none can be while the interpreter is being taken down.
        self._acts = [_LastAct("release", lambda _: release()), _LastAct("words", say)]
        watch = threading.Thread(target=self._watch, name="holdfast last resort", daemon=True)
        watch.start()
        self.threads = [watch, *(act.thread for act in self._acts)]

    def exit_by(self, deadline: float, code: int, why: str) -> None:
        """Exit with `code` at `deadline` (on the monotonic clock); may be called again, and in a signal handler."""
        self._orders.put((deadline, code, why))

    def dismiss(self) -> None:
        """It is not needed any more."""
        self._orders.put(None)
        for act in self._acts:
            act.order.put(None)

    def _watch(self) -> None:
        order: tuple[float, int, str] | None = (math.inf, 0, "")
        while order is not None:
            deadline, code, why = order
            try:
                order = self._orders.get(timeout=min(max(0.0, deadline - self._clock()), threading.TIMEOUT_MAX))
            except Empty:
                self._force(code, why)
                return

    def _force(self, code: int, why: str) -> None:
        until = self._clock() + self._patience
        for act in self._acts:
            act.order.put(f"{why}: the process exits now, with code {code}")
        for act in self._acts:
            act.done.wait(max(0.0, until - self._clock()))
        self._leave(code)


class _LastAct:
    """A thread that waits to do one thing."""

    def __init__(self, name: str, act: Callable[[str], object]) -> None:
        self.order: SimpleQueue[str | None] = SimpleQueue()
        self.done = threading.Event()
        self._act = act
        self.thread = threading.Thread(target=self._run, name=f"holdfast last {name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        why = self.order.get()
        if why is None:
            return
        try:
            self._act(why)
        except Exception:
            _logger.exception("while exiting by force")
        finally:
            self.done.set()
