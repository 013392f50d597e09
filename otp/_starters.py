"""The tasks in which children start: spawned ahead of time, several at once, and each takes the child whose turn it is.

Children come up one after another. A task for each, spawned when the child before it has come up, would begin in the
next pass of the scheduler: one pass per child, which is a fifth of what the start of an idle actor costs. But most
inits wait for nothing. So a row of children that are due gets a batch of tasks in one pass; the first starts the first
child, and if that comes up without waiting, the next task finds the next child to start. Where an init waits, the tasks
behind it find none, and end. Who comes next is for the core alone to say, as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, final

from trio.lowlevel import current_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

    import trio

    from ._life import Life

RunChild: TypeAlias = "Callable[[Callable[[], Life | None]], Awaitable[None]]"
"""Lives one life, which it is told when it begins to run; if it is told none, that is all."""

MOST: Final = 64
"""How many children start at most before other tasks have their turn."""


@final
class Starters:
    """Where a supervisor has its children started by `run_child`, in `nursery`, each in a copy of `context`.

    `others` tells about how many are to start after the one whose turn it is.
    """

    __slots__ = ("_ahead", "_context", "_next", "_nursery", "_others", "_run_child", "_spare")

    def __init__(self, run_child: RunChild, nursery: trio.Nursery, context: Context, others: Callable[[], int]) -> None:
        self._run_child = run_child
        self._others = others
        self._nursery = nursery
        self._context = context
        self._next: Life | None = None
        self._spare = 0  # tasks that were spawned and have not begun
        self._ahead = 1  # how many to spawn; twice as many each time that all found something to start

    def start(self, life: Life) -> None:
        """Have `life` begin."""
        self._next = life
        if not self._spare:
            self._spare = min(self._ahead, 1 + self._others())
            self._ahead = min(2 * self._ahead, MOST)
            # In the supervisor's context: that of the task in which this happens is none of the child's business.
            self._context.run(self._spawn, self._spare, life.spec.id)

    def _spawn(self, count: int, name: str) -> None:
        run_child, take = self._run_child, self._take
        for _ in range(count):
            self._nursery.start_soon(run_child, take, name=name)

    def _take(self) -> Life | None:
        """What the task that begins now is for."""
        self._spare -= 1
        life, self._next = self._next, None
        if life is None:
            self._ahead = 1
        else:
            current_task().name = life.spec.id
        return life
