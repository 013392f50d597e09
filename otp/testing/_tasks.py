"""Which tasks there are, and the assertion that a block leaves none behind."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from trio.testing import wait_all_tasks_blocked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


def living_tasks() -> set[trio.lowlevel.Task]:
    """All tasks of this trio run that have not ended, trio's own included."""
    root = trio.lowlevel.current_root_task()
    found: set[trio.lowlevel.Task] = set()
    ahead = [] if root is None else [root]
    while ahead:
        task = ahead.pop()
        found.add(task)
        for nursery in task.child_nurseries:
            ahead.extend(nursery.child_tasks)
    return found


@asynccontextmanager
async def no_task_left() -> AsyncGenerator[None]:
    """Assert that the block leaves no task behind that was not there before.

    Around a whole tree, it proves that stopping it was complete::

        async with no_task_left():
            async with open_supervisor(app) as supervisor:
                ...

    Raises:
        AssertionError: naming the tasks that are left. Not raised when the block itself raises, or is cancelled.
    """
    await wait_all_tasks_blocked()  # what others have under way may end in the meantime, but shall not begin
    before = living_tasks()
    yield
    left = living_tasks() - before
    if left:
        names = ", ".join(sorted(task.name for task in left))
        raise AssertionError(f"{len(left)} tasks are left: {names}")
