"""Handing work from trio tasks to a thread and the results back, safely under cancellation.

The rule for every receive: withdrawn if the thread has not begun, otherwise its result is returned although
a cancel is pending. Nothing that was claimed, leased or stored is ever unknown to the task that asked.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._guard import StarvationGuard

T = TypeVar("T")


class Call(Generic[T]):
    """A function to run in the thread, the task that waits for it, and what came out."""

    __slots__ = ("fn", "result", "state", "task")

    def __init__(self, fn: Callable[[Any], T]) -> None:
        self.fn = fn
        self.state: Literal["queued", "begun", "withdrawn"] = "queued"
        self.task: trio.lowlevel.Task | None = None
        self.result: outcome.Value[T] | outcome.Error = outcome.Error(RuntimeError("not run"))

    def returned(self, value: T) -> None:
        self.result = outcome.Value(value)

    def raised(self, error: BaseException) -> None:
        self.result = outcome.Error(error)


class Port:
    """The border between one trio run and the threads of one engine."""

    def __init__(self, guard: StarvationGuard) -> None:
        self.guard = guard
        self.lock = threading.Lock()
        self._token = trio.lowlevel.current_trio_token()

    async def call(self, call: Call[T], put: Callable[[Call[T]], None], *, counted: bool = True) -> T:
        """Give `call` to a thread by `put` and wait for its result.

        `counted=False` is for waits of unknown length (watching), during which the loop owes the thread nothing.
        """

        def withdraw(_raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            with self.lock:
                if call.state == "queued":
                    call.state = "withdrawn"
                    return trio.lowlevel.Abort.SUCCEEDED
            return trio.lowlevel.Abort.FAILED

        await trio.lowlevel.checkpoint_if_cancelled()
        call.task = trio.lowlevel.current_task()
        if counted:
            self.guard.begin()
        try:
            put(call)
            return cast("T", await trio.lowlevel.wait_task_rescheduled(withdraw))
        finally:
            if counted:
                self.guard.end()

    # -- for the threads ---------------------------------------------------------------------------

    def begin(self, calls: Iterable[Call[Any]]) -> list[Call[Any]]:
        """Those that were not withdrawn; from now on they cannot be."""
        begun: list[Call[Any]] = []
        with self.lock:
            for call in calls:
                if call.state == "queued":
                    call.state = "begun"
                    begun.append(call)
        return begun

    def deliver(self, calls: Sequence[Call[Any]]) -> None:
        """Wake the tasks of all `calls` with their results: one hop for all."""
        if calls:
            self.post(_wake, calls)

    def post(self, fn: Callable[..., object], *args: object, idempotent: bool = False) -> None:
        """Run `fn(*args)` in the loop soon; nothing happens if the trio run is over."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(fn, *args, idempotent=idempotent)
        self.guard.poke()


def _wake(calls: Sequence[Call[Any]]) -> None:
    for call in calls:
        if call.task is not None:
            trio.lowlevel.reschedule(call.task, call.result)
