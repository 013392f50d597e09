"""One incarnation of a child, from inside: its scope, its state, and how it is asked to stop.

This is the mechanism. What behaviours get to see of it is :class:`ChildContext`, what other actors see is
:class:`Ref`; both are thin and hold a :class:`Life`. There may be 100 000 of these, so everything that most
children never use is made when it is first asked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, final

import trio

from ._events import MessagesDropped
from ._exit import ExitReason
from ._mailbox import Box
from ._ref import Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._helpers import Helpers
    from ._runtime import Runtime
    from ._spec import ChildSpec
    from ._supervisor import SupervisorTask
    from ._supervisor_ref import SupervisorRef

Outcome: TypeAlias = ExitReason | Literal["ignored"]
"""How a life ended: the exit reason, or that the child said in its init that it is not needed."""


class Parent(Protocol):
    """What a child needs of the supervisor that runs it."""

    @property
    def path(self) -> str:
        """The supervisor's path."""
        ...

    @property
    def ref(self) -> SupervisorRef:
        """How its children reach it."""
        ...

    @property
    def has_guests(self) -> bool:
        """Whether it is no supervisor but a child that hosts another."""
        ...

    @property
    def nursery(self) -> trio.Nursery:
        """Where its children, and their helpers, run."""
        ...

    def child_up(self, life: Life) -> None:
        """The child has finished its init."""
        ...

    def child_ending(self, life: Life, by: float) -> None:
        """The child has begun to end by itself, and has time for that until `by`."""
        ...

    def child_ended(self, life: Life, outcome: Outcome) -> None:
        """The child has ended; its task does nothing any more, its name is free."""
        ...


@final
class Life:
    """One incarnation of a child."""

    __slots__ = (
        "answer_by",
        "box",
        "cleanup",
        "cut_short",
        "early",
        "exit_reason",
        "failure",
        "has_conditions",
        "helpers",
        "incarnation",
        "on_stop",
        "parent",
        "ref",
        "runtime",
        "scope",
        "spec",
        "stop_asked",
        "stop_deadline",
        "stopping",
        "supervisor",
        "up",
        "winds_down",
    )

    def __init__(self, spec: ChildSpec, incarnation: int, parent: Parent, runtime: Runtime) -> None:
        self.spec = spec
        self.incarnation = incarnation
        self.parent = parent
        self.runtime = runtime
        self.box = Box(self)
        self.ref = Ref(self)
        # One scope for the whole life: its deadline is first that of the init, later that of the stop.
        self.scope = trio.CancelScope()
        self.up = False
        # False for a plain task, which is stopped by cancelling it.
        self.winds_down = False
        self.stop_asked = False
        self.stop_deadline = math.inf
        self.stopping: trio.Event | None = None
        self.on_stop: Callable[[], None] | None = None
        # The shielded scope in which the child cleans up, while it does; and whether one had to be cut short.
        self.cleanup: trio.CancelScope | None = None
        self.cut_short = False
        # What a child that returns ends with, if not the usual; what its helpers failed with.
        self.exit_reason: ExitReason | None = None
        self.failure: BaseException | None = None
        self.helpers: Helpers | None = None
        # The task that runs it, if the child is a supervisor.
        self.supervisor: SupervisorTask | None = None
        # Until when the caller waits whose call is being handled.
        self.answer_by = math.inf
        # What an actor sends itself in its init.
        self.early: list[object] | None = None
        self.has_conditions = False

    @property
    def path(self) -> str:
        """The ids from the root down; put together when asked for, as most are never seen."""
        above = self.parent.path
        return f"{above}/{self.spec.id}" if above else self.spec.id

    @property
    def guest(self) -> bool:
        """Whether it lives inside another child; see `host`."""
        return self.parent.has_guests

    def started(self) -> None:
        """Init is done: the init timeout ends, and the supervisor goes on to the next child."""
        if self.up or self.stop_asked or self.scope.cancel_called:
            return  # or too late: it was cancelled in its init, and that is what counts
        self.up = True
        self.scope.deadline = math.inf
        self.parent.child_up(self)

    def ask_to_stop(self) -> None:
        """Ask the child to stop, in the way that its kind and its spec's `shutdown` say. Comes back at once."""
        if self.stop_asked:
            return
        self.stop_asked = True
        shutdown = self.spec.shutdown
        now = trio.current_time()
        if shutdown != "infinity":
            self.stop_deadline = now + (0.0 if shutdown == "brutal" else shutdown)
        is_supervisor = self.spec.is_supervisor or self.supervisor is not None
        if not is_supervisor:
            # What a whole shutdown may take goes before what one child may: who comes late has less, or nothing.
            self.stop_deadline = min(self.stop_deadline, max(now, self.runtime.stop_by))
            self.runtime.stopping.add(self)
        if self.stopping is not None:
            self.stopping.set()
        self._shorten_cleanup()
        # A half-done init is not worth waiting for; but a supervisor that is starting stops in order what is there.
        ready = self.up or is_supervisor
        if ready and self.winds_down and shutdown != "brutal":
            self.scope.deadline = self.stop_deadline
            if self.on_stop is not None:
                self.on_stop()
        else:
            self.scope.cancel(reason=f"{self.parent.path or 'the runtime'} stops {self.spec.id}")

    def hurry(self) -> None:
        """While it stops: what the whole shutdown may take has become less, so this child may take less, too."""
        deadline = max(trio.current_time(), self.runtime.stop_by)
        if deadline < self.stop_deadline:
            self.stop_deadline = deadline
            self._shorten_cleanup()
            if self.up and self.winds_down:
                self.scope.deadline = deadline
                if self.on_stop is not None:
                    self.on_stop()

    def _shorten_cleanup(self) -> None:
        if self.cleanup is not None:
            self.cleanup.deadline = min(self.cleanup.deadline, self.stop_deadline)

    def close_mailbox(self, reason: ExitReason) -> None:
        """Take no more messages; callers are told, what is unread is dropped."""
        unread = self.box.close(reason)
        if unread and self.runtime.events.wants(MessagesDropped):
            self.runtime.events.emit(
                MessagesDropped(
                    path=self.path,
                    incarnation=self.incarnation,
                    at=trio.current_time(),
                    guest=self.guest,
                    count=len(unread),
                )
            )

    def fail(self, error: BaseException) -> None:
        """A helper task of the child failed: so does the child."""
        if self.failure is None:
            self.failure = error
            self.begin_to_end()
            self.scope.cancel(reason="a helper task failed")

    def begin_to_end(self) -> None:
        """From here on it does nothing but end: it has its `shutdown` time for that, and is stuck if that is over."""
        if not self.stop_asked:
            self.parent.child_ending(self, self.cleanup_deadline())

    def cleanup_deadline(self) -> float:
        """Until when the child may clean up if it begins now."""
        if self.stop_asked:
            return self.stop_deadline
        shutdown = self.spec.shutdown
        if shutdown == "infinity":
            return math.inf
        return trio.current_time() + (0.0 if shutdown == "brutal" else shutdown)
