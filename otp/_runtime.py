"""What all children of one tree share: events, names, readiness, the drain, and the clock for calls."""

from __future__ import annotations

import itertools
import math
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, final

import attrs
import trio

from ._call import CallDeadlines
from ._events import ConditionChanged, EventBus
from ._group_table import Groups
from ._registry import Registry
from ._timer_heap import TimerHeap

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from ._statistics import RuntimeStatistics, SupervisorStatistics


@attrs.frozen
class Readiness:
    """Whether the tree can take work, and if not, why not."""

    ok: bool
    """True if it can."""
    reasons: tuple[str, ...] = ()
    """One short line per reason; empty if `ok`."""
    parked: tuple[str, ...] = ()
    """The paths of the children that are parked, whether it is `ok` or not."""
    stuck: tuple[str, ...] = ()
    """The paths of the children that are stuck, whether it is `ok` or not; see :class:`ChildStuck`."""


class Conditions:
    """The readiness conditions that children have set; all must be ok for the tree to be ready."""

    __slots__ = ("_events", "_set")

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._set: dict[str, dict[str, tuple[bool, str]]] = {}

    def set(self, path: str, name: str, ok: bool, detail: str = "") -> None:  # noqa: FBT001
        """Set the condition `name` of the child at `path`; says so in an event if that changes anything."""
        of_child = self._set.setdefault(path, {})
        if of_child.get(name) != (ok, detail):
            of_child[name] = (ok, detail)
            self._say(path, name, ok=ok, detail=detail)

    def clear(self, path: str, name: str | None = None) -> None:
        """Forget one condition of the child at `path`, or all of them."""
        of_child = self._set.get(path, {})
        for gone in [name] if name is not None else list(of_child):
            if of_child.pop(gone, (True, ""))[0] is False:
                self._say(path, gone, ok=True, detail="cleared")
        if not of_child:
            self._set.pop(path, None)

    def failing(self) -> list[str]:
        """One line per condition that is not ok: path, name and detail."""
        return [
            f"{path}: {name}" + (f" ({detail})" if detail else "")
            for path, of_child in sorted(self._set.items())
            for name, (ok, detail) in sorted(of_child.items())
            if not ok
        ]

    def _say(self, path: str, name: str, *, ok: bool, detail: str) -> None:
        if self._events.wants(ConditionChanged):
            self._events.emit(ConditionChanged(path=path, at=trio.current_time(), name=name, ok=ok, detail=detail))


class Stopping(Protocol):
    """A child that was asked to stop."""

    def hurry(self, since: float) -> None:
        """While it stops, `since` then: the whole shutdown may take less now."""
        ...


class Tree(Protocol):
    """What is asked of a tree at its root, also while the supervisor there has yet to run."""

    def statistics(self) -> SupervisorStatistics | None:
        """The supervisor and everything below it, in numbers."""
        ...

    def parked(self) -> Iterable[str]:
        """The paths of the children that are parked, anywhere in the tree."""
        ...

    def stuck(self) -> Iterable[str]:
        """The paths of the children that are stuck, anywhere in the tree."""
        ...


@final
class Runtime:
    """What all children of one tree share. Every child finds it as ``context.runtime``.

    :func:`open_supervisor`, `run` and `serve` make one. Make it yourself, and pass it on, to subscribe to the events of
    a tree before it starts. It is for one run of one tree.
    """

    def __init__(self) -> None:
        self.events = EventBus()
        """Where everything that happens is told."""
        self.registry = Registry()
        """Who has which name."""
        self.groups = Groups()
        """Who is in which group; see :class:`Group`, which is the way in."""
        self.conditions = Conditions(self.events)
        """What children say about what they depend on."""
        self.draining = trio.Event()
        """Set when the service drains: no new work is to be taken in."""
        self.drain_deadline = math.inf
        """When, on trio's clock, work not done is to be given back; inf while the tree does not drain."""
        self.hurried = trio.Event()
        """Set when that, and the deadlines of children that are stopping, were moved forward."""
        self.stop_by = math.inf
        """When, on trio's clock, all children are to have stopped, whatever their own `shutdown` is; see `run`."""
        self.stopping: dict[Stopping, float] = {}
        """The children that were asked to stop and have not ended, and since when; without supervisors."""
        self.guest_numbers = itertools.count(1)
        """The incarnations of guests: they may have a path again and again, but never a number."""
        self.now: Callable[[], float] = trio.current_time
        """Trio's clock. While the tree runs it is read here, since looking for it takes longer than reading it."""
        self.up = False
        """True from when the root supervisor has started all its children until it is asked to stop, or has ended."""
        self.late_replies = 0
        """How many answers came when their caller had gone; they are dropped."""
        self.skipped_calls = 0
        """How many calls were not handled because their caller had gone, or its deadline had passed."""
        # From here on for the modules of this package.
        self.calls = CallDeadlines()
        """The calls with the default timeout."""
        self.timers = TimerHeap()
        """The timers of all actors."""
        self._drainers: dict[object, str] = {}
        self._drained = trio.Event()
        self._exit_callbacks: list[Callable[[], None]] = []
        self.interrupted: BaseException | None = None
        """Ctrl-C, or a child's `sys.exit`, if that is why the tree stops."""
        self.on_interrupt: list[Callable[[], None]] = []
        """Told of that."""
        self.root: Tree | None = None
        """The root, while there is one."""
        self.guests: list[Tree] = []
        """The supervisors that live inside another child: for the supervisor of that it is none, so they are looked at
        here."""

    async def drain(self, deadline: float) -> list[str]:
        """Tell all children to take in no more work, and wait until those that had some are done with it.

        No checkpoint if none had any. Cancelling ends only the wait: the tree goes on draining, and there is no way
        back from that.

        Args:
            deadline: When, on trio's clock, to wait no longer.

        Returns:
            The paths of the children that were not done by then. Nothing is stopped by this: that comes next.
        """
        self.begin_drain(deadline)
        with trio.move_on_at(deadline):
            while self._drainers:
                if self._drained.is_set():  # otherwise somebody else waits for it, too
                    self._drained = trio.Event()
                await self._drained.wait()
        return sorted(self._drainers.values())

    def begin_drain(self, deadline: float) -> None:
        """Tell all children to take in no more work, and to give back at `deadline` what is not done."""
        self.drain_deadline = min(self.drain_deadline, deadline)
        self.draining.set()

    def hurry(self, drain_until: float, stop_until: float) -> None:
        """Move the deadlines forward, in the middle of it: who waits for one looks at it again.

        Args:
            drain_until: When, on trio's clock, work not done is to be given back.
            stop_until: When all children are to have stopped.
        """
        self.drain_deadline = min(self.drain_deadline, drain_until)
        self.stop_all_by(stop_until)
        self.hurried.set()

    def stop_all_by(self, deadline: float) -> None:
        """Set `stop_by`, unless it is earlier already; also for the children that are stopping."""
        self.stop_by = min(self.stop_by, deadline)
        for life, since in self.stopping.items():
            life.hurry(since)

    @contextmanager
    def drainer(self, path: str) -> Generator[None]:
        """Within this block a drain waits for `path`; see :meth:`ChildContext.drains`."""
        key = object()
        self._drainers[key] = path
        try:
            yield
        finally:
            del self._drainers[key]
            if not self._drainers:
                self._drained.set()

    def readiness(self) -> Readiness:
        """Whether the tree can take work: it is up, does not drain, and every condition is ok.

        Children that are parked are named, and are no reason: their :class:`RestartBudget` says that the others go on
        without them. Where that is not so, it says ``"escalate"``, or another child sets a condition. Those that are
        stuck are named, too: whether anybody needs them depends on what their supervisor wants of them.
        """
        reasons: list[str] = []
        if self.draining.is_set():
            reasons.append("draining")
        elif not self.up:
            reasons.append("not started, or stopping")
        reasons += self.conditions.failing()
        trees = [*self.guests] if self.root is None else [self.root, *self.guests]
        parked = tuple(path for tree in trees for path in tree.parked())
        stuck = tuple(path for tree in trees for path in tree.stuck())
        return Readiness(not reasons, tuple(reasons), parked, stuck)

    def at_exit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called when the process is about to end although something would not stop.

        It runs outside of any task and must neither block for long nor await: releasing leases is what it is for.

        Returns:
            A function that takes it back.
        """
        self._exit_callbacks.append(callback)

        def forget() -> None:
            with suppress(ValueError):  # called already; perhaps just now, in the thread that ends the process
                self._exit_callbacks.remove(callback)

        return forget

    def run_exit_callbacks(self) -> list[BaseException]:
        """Call what :meth:`at_exit` was given, last one first, each once; return what they raised."""
        errors: list[BaseException] = []
        while self._exit_callbacks:
            try:
                self._exit_callbacks.pop()()
            except Exception as error:  # noqa: BLE001  (reported to whoever asked for the calls)
                errors.append(error)
        return errors

    def statistics(self) -> RuntimeStatistics:
        """The whole tree in numbers, read at this moment."""
        from ._statistics import RuntimeStatistics

        return RuntimeStatistics(
            late_replies=self.late_replies,
            skipped_calls=self.skipped_calls,
            waiting_calls=len(self.calls),
            names=len(self.registry),
            draining=tuple(sorted(self._drainers.values())),
            root=None if self.root is None else self.root.statistics(),
            guests=tuple(found for guest in self.guests if (found := guest.statistics()) is not None),
        )

    def interrupt(self, error: BaseException) -> None:
        """Stop the tree in order and raise `error` (Ctrl-C, sys.exit) out of it; the first one counts."""
        if self.interrupted is None:
            self.interrupted = error
            for tell in self.on_interrupt:
                tell()
