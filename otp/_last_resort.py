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

    `at_exit`: called once before a forced exit, in a thread of its own; it says what is stuck and gives back what
        must not be kept. It gets `patience` seconds.
    `leave`: ends the process with an exit code.
    """

    def __init__(
        self,
        at_exit: Callable[[], object],
        *,
        patience: float = 1.0,
        leave: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_exit = at_exit
        self._patience = patience
        self._leave = leave
        self._clock = clock
        # A SimpleQueue because its `put` may be called in a signal handler, whatever that has interrupted.
        self._orders: SimpleQueue[tuple[float, int, str] | None] = SimpleQueue()
        # In a thread of their own: even the log can block, on a full pipe or a lock that the stuck one holds. It is
        # started now, since none can be while the interpreter is being taken down.
        self._last_words: SimpleQueue[tuple[int, str] | None] = SimpleQueue()
        self._said = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="holdfast last resort", daemon=True),
            threading.Thread(target=self._say_and_release, name="holdfast last words", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def exit_by(self, deadline: float, code: int, why: str) -> None:
        """Exit with `code` at `deadline` (on the monotonic clock); may be called again, and in a signal handler."""
        self._orders.put((deadline, code, why))

    def dismiss(self) -> None:
        """It is not needed any more."""
        self._orders.put(None)
        self._last_words.put(None)

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
        self._last_words.put((code, why))
        self._said.wait(self._patience)
        self._leave(code)

    def _say_and_release(self) -> None:
        words = self._last_words.get()
        if words is None:
            return
        code, why = words
        try:
            self._at_exit()
        except Exception:
            _logger.exception("while exiting by force")
        _logger.critical("%s: the process exits now, with code %d", why, code)
        self._said.set()
