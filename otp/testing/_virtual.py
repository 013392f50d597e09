"""Run in virtual time: what waits for an hour takes no time at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio
from trio.testing import MockClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run_virtual(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Like :func:`trio.run`, with a clock that jumps to the next deadline as soon as every task waits.

    Restart windows, backoff, timeouts and shutdown times pass at once, and in the right order. Threads are not waited
    for: what uses them (worker processes, SQLite) needs a real clock.
    """
    return trio.run(async_fn, *args, clock=MockClock(autojump_threshold=0))
