"""Calls: one slot object and one wait per call, no channel, no task, no cancel scope.

A :class:`Request` lies in the callee's mailbox and holds the caller's task. Whoever comes first takes that task out
and wakes it: the answer, the callee's death, the timeout, or the caller's own cancellation. All others then find
nothing to wake, which is why a late answer can hurt nobody.

The default timeout is watched by one task for all calls (:class:`CallDeadlines`): a cancel scope for each would
halve the rate of calls. Other timeouts are a cancel scope.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, final

import outcome
import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from ._entries import Entry
from ._errors import CallTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R_co = TypeVar("R_co", covariant=True)

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds that a call waits for its answer unless it says otherwise."""


class Call(Generic[R_co]):
    """Base for requests whose answer has a type: ``await ref.call(GetTotal())`` is an int if that is a ``Call[int]``.

    ::

        @attrs.frozen
        class GetTotal(Call[int]):
            account: str

    It is for type checkers only; any object may be sent as a request.
    """

    __slots__ = ()


class Addressee(Protocol):
    """Whom messages and calls are for, as far as these need to know: one incarnation of a child."""

    @property
    def path(self) -> str:
        """Where it is in the tree."""
        ...

    @property
    def incarnation(self) -> int:
        """Which life of the child it is."""
        ...

    @property
    def task(self) -> Task | None:
        """The task in which it handles messages, if it does."""
        ...

    @property
    def begun(self) -> bool:
        """Whether its task has begun to run."""
        ...


@final
class Turn:
    """The message of a call that is not for `handle_call`: a function of the actor, run in its turn."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[Any], Awaitable[object]]) -> None:
        self.fn = fn


class Request(Entry):
    """One call under way: the message, who waits for the answer, and until when.

    Of all entries it is by far the most frequent, so the receiver sees to it itself and not by `act`.
    """

    __slots__ = ("deadline", "expires", "message", "target", "task", "watched")

    def __init__(self, message: object, target: Addressee, task: Task, expires: float, deadline: float) -> None:
        self.message = message
        self.target = target  # who owes the answer: another one, after it was forwarded
        self.task: Task | None = task
        self.expires = expires  # when this call itself times out
        self.deadline = deadline  # the same, or earlier: when whoever waits for the caller stops waiting
        self.watched: dict[Request, None] | None = None

    @enable_ki_protection
    def reply(self, value: object) -> bool:
        """Answer the caller; False if it has gone."""
        task = self._take()
        if task is None:
            return False
        reschedule(task, outcome.Value(value))
        return True

    @enable_ki_protection
    def fail(self, error: BaseException) -> bool:
        """Raise `error` in the caller; False if it has gone."""
        task = self._take()
        if task is None:
            return False
        reschedule(task, outcome.Error(error))
        return True

    def abandon(self, _: RaiseCancelT) -> Abort:
        """The caller was cancelled: nobody waits any more."""
        self._take()
        return Abort.SUCCEEDED

    def skip(self) -> None:
        """It had its turn, and is not handled, as nobody waits any more."""
        self.deadline = -math.inf

    @property
    def heard(self) -> bool:
        """Whether it was handled."""
        return self.deadline > -math.inf

    @property
    def open(self) -> bool:
        """Whether somebody waits for the answer and has not got it."""
        return self.task is not None

    def _take(self) -> Task | None:
        task = self.task
        self.task = None
        if self.watched is not None:
            self.watched.pop(self, None)
        return task


@final
class Query(Request):
    """A question of a tool, such as :meth:`Ref.inspect`: it overtakes messages, and to the actor it is none."""

    __slots__ = ()

    jumps_queue = True

    @property
    def heard(self) -> bool:
        """No."""
        return False


@final
class CallDeadlines:
    """Watches all calls with the default timeout: since that is the same for all, the oldest is always due first."""

    # A dict is a queue from whose middle one can remove: calls that were answered leave nothing behind.
    __slots__ = ("_parked", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Request, None] = {}
        self._parked: Task | None = None

    def __len__(self) -> int:
        return len(self.waiting)

    @enable_ki_protection
    def watch(self, request: Request) -> None:
        """Have `request` fail with :exc:`CallTimeout` at its time, unless it is answered before."""
        self.waiting[request] = None
        request.watched = self.waiting
        if self._parked is not None:
            task, self._parked = self._parked, None
            reschedule(task)

    async def run(self) -> None:
        """Do the watching, until cancelled; sleeps to the next deadline and not in ticks, so virtual time works."""
        while True:
            if not self.waiting:
                self._parked = current_task()
                await wait_task_rescheduled(self._unpark)
                continue
            await trio.sleep_until(next(iter(self.waiting)).expires)
            now = trio.current_time()
            due: list[Request] = []
            for request in self.waiting:
                if request.expires > now:
                    break
                due.append(request)
            for request in due:
                request.fail(CallTimeout(request.target.path, DEFAULT_TIMEOUT))

    def _unpark(self, _: RaiseCancelT) -> Abort:
        self._parked = None
        return Abort.SUCCEEDED
