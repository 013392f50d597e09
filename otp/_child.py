"""What a child is told of itself and of the tree, what it may ask for, and what it is if it winds itself down.

A child is whatever its factory returns: a coroutine, a :class:`Behaviour` (an actor, say), an async context manager or
a supervisor. How each of them is run is in `_run_child`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import trio

from ._life import current_life

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._life import Life
    from ._ref import Ref
    from ._runtime import Runtime
    from ._spec import ChildSpec
    from ._supervisor_ref import SupervisorRef


class Behaviour(ABC):
    """A child that winds itself down when it is asked to. Subclass it for a new kind of worker.

    It is what a special process is in OTP; :class:`Actor` is one. The factory given to :func:`child` makes a new object
    for each incarnation, so nothing is left over from the last.
    """

    @abstractmethod
    async def serve(self, context: ChildContext) -> None:
        """Live one life: prepare, call `context.started()`, work until `context.stopping`, clean up, return.

        Returning is a normal exit (a shutdown, when the supervisor had asked for it), raising is a crash, and
        raising :exc:`Stop` is the exit that it names. Raising :exc:`Ignore` before `context.started()` says that
        the child is not needed. Once asked to stop there is the `shutdown` time of the spec for it; then the whole
        of `serve` is cancelled and the exit counts as :class:`Killed`. What must be done even then belongs under
        `context.cleanup()`.
        """

    def _wind_down(self, life: Life) -> None:
        """The supervisor asks to stop. Unless it knows better, `serve` finds out by `context.stopping`."""
        life.scope.deadline = life.stop_deadline


@final
class ChildContext:
    """What one incarnation of a child knows of itself and of the tree it is in.

    A behaviour gets it as the argument of `serve`; everything else finds it by :func:`current_context`.
    """

    __slots__ = ("_life",)

    def __init__(self, life: Life) -> None:
        self._life = life

    def __repr__(self) -> str:
        return f"<ChildContext {self.path} #{self.incarnation}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChildContext) and other._life is self._life

    def __hash__(self) -> int:
        return hash(self._life)

    @property
    def path(self) -> str:
        """Where the child is in the tree: the ids from the root down, as in ``"app/ledger"``."""
        return self._life.path

    @property
    def id(self) -> str:
        """The child's id, unique under its supervisor."""
        return self._life.spec.id

    @property
    def name(self) -> str | None:
        """The name under which the whole tree can find it, if its spec gives one."""
        return self._life.spec.name

    @property
    def incarnation(self) -> int:
        """Which life of the child this is; a number is never used again under the same supervisor."""
        return self._life.incarnation

    @property
    def spec(self) -> ChildSpec:
        """The spec that the child was started from."""
        return self._life.spec

    @property
    def runtime(self) -> Runtime:
        """What the whole tree shares: events, names, drain state."""
        return self._life.runtime

    @property
    def ref(self) -> Ref:
        """How others reach this incarnation."""
        return self._life.ref

    @property
    def supervisor(self) -> SupervisorRef:
        """The supervisor of this child, to start siblings for instance.

        Do not ask it to terminate this child and wait for that: the child would wait for its own end, until its
        shutdown time is over and it is cancelled.
        """
        return self._life.parent.ref

    def started(self) -> None:
        """Say that init is done; calling it again changes nothing.

        The supervisor starts the next child only after this. An end before it is a failed start, and
        `init_timeout` applies until it. (OTP: ``proc_lib:init_ack``.)
        """
        self._life.started()

    @property
    def stop_asked(self) -> bool:
        """True once the supervisor has asked this child to stop."""
        return self._life.stop_asked

    @property
    def stopping(self) -> trio.Event:
        """Set when the supervisor has asked this child to stop: wind down, there is time until `stop_deadline`."""
        life = self._life
        if life.stopping is None:
            life.stopping = trio.Event()
            if life.stop_asked:
                life.stopping.set()
        return life.stopping

    @property
    def stop_deadline(self) -> float:
        """When, on trio's clock, this child is cancelled; inf before it was asked to stop, or without a limit."""
        return self._life.stop_deadline

    @property
    def draining(self) -> trio.Event:
        """Set when the service drains, which comes before the ordered stop: take in no new work."""
        return self._life.runtime.draining

    @property
    def drain_deadline(self) -> float:
        """When, on trio's clock, work not done is to be given back; inf while the service does not drain."""
        return self._life.runtime.drain_deadline

    @property
    def hurried(self) -> trio.Event:
        """Set when `drain_deadline` and `stop_deadline` were moved forward, by a second signal: look at them again."""
        return self._life.runtime.hurried

    @property
    def call_deadline(self) -> float:
        """Until when the caller of the call being handled waits for the answer; inf outside of a call.

        Calls that the handler makes itself inherit it: nobody works for longer than the first caller waits.
        """
        return self._life.answer_by

    @contextmanager
    def drains(self) -> Generator[None]:
        """Within this block the child has work that a drain waits for, at most until the drain deadline.

        Enter it when the intake begins; leave it when `draining` is set and what was taken in is done or given
        back.
        """
        with self._life.runtime.drainer(self.path):
            yield

    @contextmanager
    def cleanup(self) -> Generator[trio.CancelScope]:
        """Shield what must be done at the end from cancellation, for the child's `shutdown` time at most.

        Once the child was asked to stop, that is the time left until `stop_deadline`. With ``shutdown="brutal"``
        there is none: the block runs up to its first wait. A child whose cleanup was cut short counts as
        :class:`Killed`, unless it had crashed before. Within another such block, as in an actor's `terminate`, it
        gets no longer than that has.
        """
        life = self._life
        around = life.cleanup
        deadline = life.cleanup_deadline()
        if around is not None:
            deadline = min(deadline, around.deadline)
        with trio.CancelScope(shield=True, deadline=deadline) as scope:
            life.cleanup = scope
            try:
                yield scope
            finally:
                life.cleanup = around
                if around is not None and life.stop_asked:  # perhaps only now
                    around.deadline = min(around.deadline, life.stop_deadline)
        if scope.cancelled_caught:
            life.cut_short = True

    def emit(self, event: object) -> None:
        """Hand an event to the subscribers of the tree's event bus; does nothing when there are none."""
        self._life.runtime.events.emit(event)

    def condition(self, name: str, ok: bool, detail: str = "") -> None:  # noqa: FBT001  (reads as what it says)
        """Set a readiness condition of this child: while any is not `ok`, the service is not ready.

        For what lies outside of the tree, such as a store that cannot be reached. Cleared when the child ends; who says
        something about it later is not heard.

        Args:
            name: Which of the child's conditions; unique within it.
            ok: Whether it holds.
            detail: What to say about it where the readiness is shown.
        """
        if self._life.box.ended:
            return
        self._life.has_conditions = True
        self._life.runtime.conditions.set(self.path, name, ok, detail)


def current_context() -> ChildContext:
    """The context of the child that is running, also in the tasks that it has started.

    In the body of :func:`open_supervisor` it is that of the root supervisor.

    Raises:
        RuntimeError: if the caller is not in a supervised task.
    """
    return ChildContext(current_life())


def life_of(context: ChildContext) -> Life:
    """The mechanism behind `context`, for the modules of this package."""
    return context._life  # pyright: ignore[reportPrivateUsage]
