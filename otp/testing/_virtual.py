"""Run in virtual time: what waits for an hour takes no time at all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio
from trio.testing import wait_all_tasks_blocked

from .. import _checks as checks
from ._schedules import run_under

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run_virtual(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, schedule: int | None = None) -> T:
    """Like :func:`trio.run`, with a clock that jumps to the next deadline as soon as every task waits.

    Restart windows, backoff, timeouts and shutdown times pass at once, and in the right order. Threads are not waited
    for: what uses them (worker processes, SQLite) needs a real clock. Nor does the clock help a program in which
    everybody waits for each other and nobody for the time: put a :func:`trio.fail_after` around what may do so.

    Args:
        async_fn: What to run.
        args: What to call it with.
        schedule: Run the tasks in the order that belongs to this number, the same each time; by default trio draws
            another one in each run. See :func:`seeded_schedules`.

    Returns:
        What `async_fn` returns; what it raises is raised, with a note of the schedule if there is one.
    """
    return run_under(schedule, partial(async_fn, *args))


async def advance(seconds: float) -> None:
    """Let `seconds` pass, and then whatever falls due at that very moment happen.

    In virtual time this takes none; on a real clock it takes as long as it says.
    """
    checks.seconds("seconds", seconds)
    await trio.sleep(seconds)
    await wait_all_tasks_blocked()
