"""Helper tasks of an actor: what it has running beside its handlers."""

from __future__ import annotations

import inspect
import math
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from ._errors import NotAlive
from ._unwrap import unwrap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ._mailbox import Box

Ts = TypeVarTuple("Ts")
AsyncFn = TypeVar("AsyncFn", bound="Callable[..., Awaitable[object]]")


@final
class Helpers:
    """The nursery of an actor: its tasks end with the actor, and a failure of one of them is the actor's failure.

    It is no failure if a helper is told by its own actor that this takes nothing any more (:exc:`NotAlive`), because it
    ends or was asked to stop: then just that helper ends.

    It has of :class:`trio.Nursery` what an actor needs. It is not the thing itself, because that costs 0.8 KB and a
    scheduler pass, and has to be opened before anybody knows whether it will be used; this is made on first use.
    """

    __slots__ = ("_box", "_cancelled", "_closed", "_closing", "_early", "_fail", "_nursery", "_opened")

    def __init__(self, around: trio.Nursery, whose: str, box: Box, fail: Callable[[BaseException], None]) -> None:
        self._box = box
        self._fail = fail
        self._nursery: trio.Nursery | None = None
        self._early: list[Callable[[trio.Nursery], None]] = []
        self._cancelled = False
        self._closing = False
        self._opened = trio.Event()
        self._closed = trio.Event()
        around.start_soon(self._run, name=f"helpers of {whose}")

    def start_soon(self, async_fn: Callable[[*Ts], Awaitable[object]], *args: *Ts, name: object = None) -> None:
        """Run ``async_fn(*args)`` in a task beside the actor's handlers, as :meth:`trio.Nursery.start_soon` does.

        When another helper has failed, or the actor was cancelled, the handler that is running goes on to its next
        await; what it starts until then is cancelled before it has begun.
        """

        def spawn(nursery: trio.Nursery) -> None:
            nursery.start_soon(self._guarded(async_fn), *args, name=async_fn if name is None else name)

        if self._nursery is None:
            self._early.append(spawn)
        elif self._cancelled or not self._closing:
            spawn(self._nursery)

    async def start(self, async_fn: Callable[..., Awaitable[object]], *args: object, name: object = None) -> Any:
        """Run ``async_fn(*args, task_status=...)`` and wait until it has called ``task_status.started(value)``.

        As :meth:`trio.Nursery.start` does, this returns that value; what fails before is raised here, and cancelling it
        before cancels the task.
        """
        await self._opened.wait()
        assert self._nursery is not None
        return await self._nursery.start(self._guarded(async_fn), *args, name=async_fn if name is None else name)

    async def cancel(self) -> None:
        """Cancel all helpers and wait until they have ended; being cancelled here ends only the wait.

        It is what the end of the actor does, and nobody else needs: there are no helpers after it.
        """
        await self._opened.wait()
        assert self._nursery is not None
        self._cancelled = True
        self._nursery.cancel_scope.cancel(reason="the actor has ended")
        await self._closed.wait()

    def _guarded(self, async_fn: AsyncFn) -> AsyncFn:
        if not callable(async_fn):
            return async_fn  # trio says best what is wrong with it, and with what is not async

        @wraps(async_fn)
        def begin(*args: object, **more: object) -> Awaitable[object]:
            made = async_fn(*args, **more)
            return self._help(made) if inspect.iscoroutine(made) else made

        return cast("AsyncFn", begin)

    async def _help(self, work: Coroutine[Any, Any, object]) -> object:
        try:
            return await work
        except BaseException as raised:
            error = unwrap(raised)
            if isinstance(error, NotAlive) and error.target == self._box.target.path and self._box.closing:
                return None
            raise

    @enable_ki_protection  # or Ctrl-C could keep it from saying that it has opened: the actor's end waits for that
    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._opened.set()  # before all: the end of the actor waits for it, also if what follows raises
                early, self._early = self._early, []
                try:
                    for spawn in early:
                        spawn(self._nursery)
                    await trio.sleep_forever()
                finally:
                    self._closing = True
            if not self._cancelled and trio.current_effective_deadline() > -math.inf:
                # Nobody cancelled that nursery. It did so itself, which is what a nursery makes of a Cancelled that a
                # task has got from somewhere else and raises, and then it takes it for its own and drops it.
                raise RuntimeError("a helper task raised trio.Cancelled although nobody had cancelled it")  # noqa: TRY301
        except BaseException as raised:  # (it goes to the actor, which it makes crash)
            error = unwrap(raised)
            if isinstance(error, trio.Cancelled):
                raise
            self._fail(error)
        finally:
            self._closed.set()
