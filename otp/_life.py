"""One incarnation of a child, from inside: its scope, its state, and how it is asked to stop.

This is the mechanism. What behaviours get to see of it is :class:`ChildContext`, what other actors see is
:class:`Ref`; both are thin and hold a :class:`Life`. There may be 100 000 of these, so everything that most
children never use is made when it is first asked for: its parts (:class:`Part`).

What stands below this knows no life, but says what it needs of one: a ref and its callers an `Incarnation`, a mailbox
and a call an `Addressee`. What is built on lives stands above: each part, and whatever runs a child.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar, cast, final

import trio

from ._current import CURRENT
from ._exit import Crashed, ExitReason, in_writing
from ._mailbox import Box
from ._ref import Ref

if TYPE_CHECKING:
    from ._helpers import Helpers
    from ._runtime import Runtime
    from ._spec import ChildSpec
    from ._supervisor_ref import SupervisorRef

P = TypeVar("P", bound="Part")

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

    def child_begins(self, life: Life) -> None:
        """The child begins its init, for which it has `init_timeout`."""
        ...

    def child_up(self, life: Life) -> None:
        """The child has finished its init."""
        ...

    def child_ending(self, life: Life, by: float) -> None:
        """The child has begun to end by itself, and has time for that until `by`."""
        ...

    def child_hurried(self, life: Life, since: float) -> None:
        """The child, which was asked to stop `since` then, has less time for that than it had."""
        ...

    def child_ended(self, life: Life, outcome: Outcome) -> None:
        """The child has ended; its task does nothing any more, its name is free."""
        ...


class WindsDown(Protocol):
    """What a life needs of a :class:`Behaviour`."""

    def _wind_down(self, life: Life) -> None:
        """The supervisor asks the child to stop: begin to, and come back at once."""
        ...


@final
class Life:
    """One incarnation of a child."""

    __slots__ = (
        "_ref",
        "answer_by",
        "behaviour",
        "box",
        "cancelled",
        "cleanup",
        "cut_short",
        "early",
        "exit_reason",
        "failure",
        "has_conditions",
        "helpers",
        "incarnation",
        "parent",
        "parts",
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
        self._ref: Ref | None = None
        # One scope for the whole life.
        self.scope = trio.CancelScope()
        self.cancelled = False  # otherwise than by a deadline; (trio would look at the clock to tell)
        self.up = False
        # False for a plain task, which is stopped by cancelling it.
        self.winds_down = False
        self.stop_asked = False
        self.stop_deadline = math.inf
        self.stopping: trio.Event | None = None
        # What runs it, if that is something that knows how to wind down.
        self.behaviour: WindsDown | None = None
        # The shielded scope in which the child cleans up, while it does; and whether one had to be cut short.
        self.cleanup: trio.CancelScope | None = None
        self.cut_short = False
        # What a child that returns ends with, if not the usual; what a helper or a link of it failed with.
        self.exit_reason: ExitReason | None = None
        self.failure: BaseException | None = None
        self.helpers: Helpers | None = None
        # The child as a supervisor, if it is one and runs.
        self.supervisor: SupervisorRef | None = None
        # Until when the caller waits whose call is being handled.
        self.answer_by = math.inf
        # What an actor sends itself in its init.
        self.early: list[object] | None = None
        self.has_conditions = False
        # What it makes use of that most do not, each made on first use.
        self.parts: dict[type[Part], Part] | None = None

    @property
    def path(self) -> str:
        """The ids from the root down; put together when asked for, as most are never seen."""
        above = self.parent.path
        return f"{above}/{self.spec.id}" if above else self.spec.id

    @property
    def task(self) -> trio.lowlevel.Task | None:
        """The task in which it handles messages, if it is an actor."""
        return self.box.owner

    @property
    def begun(self) -> bool:
        """Whether its task has begun to run: before, nobody knows what kind of child it is."""
        return self.up or self.winds_down

    @property
    def guest(self) -> bool:
        """Whether it lives inside another child; see `host`."""
        return self.parent.has_guests

    def part(self, kind: type[P]) -> P:
        """The part of that kind, made when it is first asked for."""
        if self.parts is None:
            self.parts = {}
        found = self.parts.get(kind)
        if found is None:
            found = self.parts[kind] = kind(self)
        return cast("P", found)

    def if_used(self, kind: type[P]) -> P | None:
        """The part of that kind, if it was ever asked for."""
        return None if self.parts is None else cast("P | None", self.parts.get(kind))

    @property
    def ref(self) -> Ref:
        """How others reach it; made when it is first asked for."""
        if self._ref is None:
            self._ref = Ref(self)
        return self._ref

    def started(self) -> None:
        """Init is done: the init timeout ends, and the supervisor goes on to the next child."""
        if self.up or self.stop_asked or self.cancelled:
            return  # or too late: it was cancelled in its init, and that is what counts
        if self.scope.deadline != math.inf:
            if self.scope.cancel_called:
                return
            self.scope.deadline = math.inf
        self.up = True
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
            self.runtime.stopping[self] = now
        if self.stopping is not None:
            self.stopping.set()
        self._shorten_cleanup()
        # A half-done init is not worth waiting for; but a supervisor that is starting stops in order what is there.
        ready = self.up or is_supervisor
        if ready and self.winds_down and shutdown != "brutal":
            self._wind_down()
        else:
            self.cancel(f"{self.parent.path or 'the runtime'} stops {self.spec.id}")

    def cancel(self, reason: str) -> None:
        """Cancel all that the child does, but not its cleanup."""
        self.cancelled = True
        self.scope.cancel(reason=reason)

    def hurry(self, since: float) -> None:
        """While it stops, `since` then: the whole shutdown may take less now, so this child may take less, too."""
        deadline = max(trio.current_time(), self.runtime.stop_by)
        if deadline < self.stop_deadline:
            self.stop_deadline = deadline
            self._shorten_cleanup()
            if self.up and self.winds_down:
                self._wind_down()
            self.parent.child_hurried(self, since)

    def _wind_down(self) -> None:
        if self.behaviour is None:
            self.scope.deadline = self.stop_deadline
        else:
            self.behaviour._wind_down(self)  # pyright: ignore[reportPrivateUsage]  # private to otp

    def _shorten_cleanup(self) -> None:
        if self.cleanup is not None:
            self.cleanup.deadline = min(self.cleanup.deadline, self.stop_deadline)

    def end(self, reason: ExitReason) -> None:
        """The life is over: nothing of it runs any more, and its name is free. Tell those who want to know."""
        self.box.end()
        if self.parts is not None:
            for part in list(self.parts.values()):
                part.ended(reason)

    def over(self) -> None:
        """All have been told. What is left is for who keeps an address, and has no hold of the child and its state."""
        self.stop_asked = True  # who asks for it now, not having heard yet, has nothing to wait for
        self.behaviour = self.failure = None
        if isinstance(self.box.reason, Crashed):
            self.box.reason = in_writing(self.box.reason)

    def fail(self, error: BaseException) -> None:
        """What the child cannot go on without has failed, a helper task or one it is linked to: so does the child."""
        if self.failure is None:
            self.failure = error
            self.begin_to_end()
            self.cancel("a helper or a link of it has failed")

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


class Part:
    """What a life carries only if it uses it: timers, links, monitors, groups, calls that it owes an answer.

    There may be 100 000 idle actors, and most use none of these. So each is an object of its own, made when it is first
    asked for (``life.part(Timers)``), and :class:`Life` has one field for all of them. What they have in common is that
    something is to be undone, or somebody to be told, when the life ends.
    """

    __slots__ = ("life",)

    def __init__(self, life: Life) -> None:
        self.life = life

    def mailbox_closed(self) -> None:
        """No message will be handled any more. The cleanup is still to come."""

    def ended(self, reason: ExitReason) -> None:
        """The life is over: nothing of it runs any more, and its name is free."""


def life_at(ref: Ref) -> Life:
    """The life that a ref is the address of."""
    life = ref._life  # pyright: ignore[reportPrivateUsage]
    assert isinstance(life, Life)  # nothing else makes refs
    return life


def current_life() -> Life:
    """The life that is running.

    Raises:
        RuntimeError: if the caller is not in a supervised task.
    """
    life = CURRENT.get()
    if isinstance(life, Life):
        return life
    raise RuntimeError("not in a supervised task: there is no current child here")
