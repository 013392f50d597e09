"""The shell around the supervision core: it starts tasks, stops them, keeps time and answers requests.

What is to be done is decided by :class:`SupervisorCore`, which knows no tasks and no clock. Here it is handed what
happened, one event after another, and what comes back is carried out: at once, in whatever task something happened,
since nothing of it waits. Waking the supervisor's own task for each event would be one pass of the scheduler more, and
so twice as many for each child that starts or stops. That task keeps time, and takes over what must not go on for ever
in one go. A child that starts or stops slowly delays no query and no request.

The nursery of the supervisor's task is the supervision tree: every child, and every helper of a child, runs in it. So
a child cannot outlive its supervisor.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import math
from collections import deque
from typing import TYPE_CHECKING, Final, final

import trio
from attrs import evolve
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from . import _events as events  # pyright: ignore[reportPrivateUsage]  # private to otp
from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._child import Behaviour, ChildContext, life_of
from ._exit import Crashed, ExitReason, Shutdown
from ._life import Life, Outcome
from ._lifecycle import tell_end, tell_up
from ._overdue import GRACE, Overdue
from ._refusals import SupervisorStopped
from ._starters import Starters
from ._statistics import ChildStatistics, SupervisorStatistics
from ._strategy import SupervisorCore
from ._supervisor_ref import SupervisorRef
from ._unread import Unread, drop_inherited

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._ref import Ref
    from ._spec import Supervisor
    from ._starters import RunChild

_ENDS: Final = (p.ChildIgnored, p.ChildFailedToStart, p.ChildDown)


@final
class _Waiting:
    """Somebody who waits for the reply to a request."""

    __slots__ = ("answered", "ref", "reply")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.reply: p.Reply | None = None
        self.ref: Ref | None = None


@final
class SupervisorTask(Behaviour):
    """One incarnation of a supervisor."""

    nursery: trio.Nursery
    has_guests = False

    def __init__(self, spec: Supervisor, run_child: RunChild) -> None:
        self._spec = spec
        self._run_child = run_child
        self.ref = SupervisorRef(self)
        self.ended = False
        # Events that the core has yet to see, in the order in which they happened. It sees them in the supervisor's
        # task, which is parked when there are none, at most until `_alarm`.
        self._inbox: deque[p.Event] = deque()
        self._parked: Task | None = None
        self._alarm = math.inf
        self._handling = False
        # The children that are alive, and those whose end the core has yet to see.
        self._lives: dict[str, Life] = {}
        self._overdue = Overdue(self._lives)
        self._retries: list[tuple[float, int, p.RetryDue]] = []
        self._retry_numbers = itertools.count()
        self._waiting: dict[p.Request, _Waiting] = {}
        # What children have left that are about to be started again, if their mailbox is kept.
        self._unread: dict[str, Unread] = {}
        self._end: ExitReason | None = None
        # What went wrong while an event was handled in the task of somebody else: it is the supervisor's own crash.
        self._broken: BaseException | None = None
        # Whether its task handles nothing any more, and perhaps waits for children yet.
        self._deaf = False

    # -- the life of the supervisor -----------------------------------------------------------------------

    async def serve(self, context: ChildContext) -> None:
        """Start the children, look after them until asked to stop or until it gives up, and stop them all."""
        self._life = life = life_of(context)
        life.supervisor = self.ref
        self.path = life.path
        self.runtime = life.runtime
        self.core = SupervisorCore(self._spec, path=self.path)
        if life.guest:
            self.runtime.guests.append(self)
        try:
            async with trio.open_nursery() as self.nursery:
                self._starters = Starters(self._run_child, self.nursery, contextvars.copy_context(), self.core.due)
                self._post(p.Start())
                try:
                    while self._end is None:
                        await self._attend()
                finally:
                    self._deaf = True
                    self._refuse_all()
                    if self._end is None:
                        await self._outlast()
        finally:
            self.ended = True
            if life.guest:
                self.runtime.guests.remove(self)
            self._drop_unread()
            for left in self._lives.values():
                if (unread := left.if_used(Unread)) is not None:
                    unread.drop()
            self._refuse_all()
        end, self._end = self._end, None  # who keeps the ref does not keep those of whom it has died
        if isinstance(end, Crashed):
            raise end.exception
        life.exit_reason = end

    async def _outlast(self) -> None:
        """It was cut short, and all children with it. Nothing is decided any more, but who is stuck is said."""
        self._handling = True  # what happens is only noted
        self.nursery.cancel_scope.cancel(reason=f"{self.path} was cut short")
        now = self.runtime.now()
        for life in self._lives.values():
            if not life.stop_asked:
                self._overdue.ends(life, life.cleanup_deadline(), now)
        # (Both, and now and then: Ctrl-C may have kept a child from its task, or from saying that it has ended.)
        while self._lives and self.nursery.child_tasks:
            self._drop_unread()
            if self._inbox:
                event = self._inbox.popleft()
                if isinstance(event, _ENDS):
                    self._forget(event.id, event.incarnation)
                continue
            self._alarm = min(self._next_due(), self.runtime.now() + GRACE)
            with trio.CancelScope(deadline=self._alarm, shield=True):
                await self._park()
            self._look_at_the_clock()

    def _refuse_all(self) -> None:
        for waiting in self._waiting.values():
            waiting.answered.set()

    def _wind_down(self, life: Life) -> None:
        life.scope.deadline = life.stop_deadline
        self._post(p.Stop(Shutdown()))

    async def _attend(self) -> None:
        """Hand the core what waits for it; wait for something if there is nothing."""
        if not self._inbox:
            self._alarm = self._next_due()
            with trio.CancelScope(deadline=self._alarm):
                await self._park()
            self._look_at_the_clock()
        if self._broken is not None:
            raise self._broken
        while self._inbox and self._end is None:
            self._handle(self._inbox.popleft())

    def _post(self, event: p.Event) -> None:
        """Something happened: have the core see it, after all that has happened before.

        At once only while the supervisor's task is parked. If it is not, it is about to look by itself; or it was
        cancelled, all its children are, too, and none of them is to be started again.
        """
        if self._parked is None or self._handling:
            self._inbox.append(event)
            self._wake()
        else:
            try:
                self._handle(event)
            except BaseException as error:  # noqa: BLE001  (Ctrl-C may hit anywhere; raised in the supervisor's task)
                self._broken = error
            if self._inbox or self._end is not None or self._broken is not None:
                self._wake()

    def _handle(self, event: p.Event) -> None:
        """Let the core see the event, and do what it says."""
        self._handling = True
        try:
            if isinstance(event, _ENDS):
                self._forget(event.id, event.incarnation)
            actions = self.core.handle(event)
            for action in actions:
                self._do(action)
            if self._unread:
                self._drop_what_nobody_will_read(event, actions)
        finally:
            self._handling = False

    async def _park(self) -> None:
        self._parked = current_task()
        await wait_task_rescheduled(self._unpark)

    def _unpark(self, _: RaiseCancelT) -> Abort:
        self._parked = None
        return Abort.SUCCEEDED

    def _wake(self) -> None:
        if self._parked is not None:
            task, self._parked = self._parked, None
            reschedule(task)

    # -- what children report -----------------------------------------------------------------------------

    def child_begins(self, life: Life) -> None:
        """The child begins its init, for which it has `init_timeout`."""
        self._wake_at(self._overdue.starts(life, self.runtime.now()))

    def child_up(self, life: Life) -> None:
        """The child has finished its init."""
        now = self.runtime.now()
        tell_up(life, now)
        self._overdue.is_up(life)
        if life.box.queue and not life.box.takes_messages:
            drop_inherited(life)
        self._post(p.ChildUp(life.spec.id, life.incarnation, now))

    def child_ending(self, life: Life, by: float) -> None:
        """The child has begun to end by itself, and has time for that until `by`."""
        self._overdue.ends(life, by, self.runtime.now())
        self._wake_at(self._overdue.next_look())

    def child_hurried(self, life: Life, since: float) -> None:
        """The child, which was asked to stop `since` then, has less time for that than it had."""
        self._overdue.stops(life, since)
        self._wake_at(self._overdue.next_look())

    def child_ended(self, life: Life, outcome: Outcome) -> None:
        """The child has ended; its task does nothing any more, its name is free."""
        now = self.runtime.now()
        tell_end(life, outcome, now)
        id_, incarnation = life.spec.id, life.incarnation
        if outcome == "ignored":
            self._post(p.ChildIgnored(id_, incarnation))
        elif life.up:
            self._post(p.ChildDown(id_, incarnation, outcome, now))
        else:
            self._post(p.ChildFailedToStart(id_, incarnation, outcome, now))

    # -- what the core says is to be done -----------------------------------------------------------------

    def _do(self, action: p.Action) -> None:
        match action:
            case p.StartChild():
                life = Life(action.spec, action.incarnation, self, self.runtime)
                self._lives[action.id] = life
                if self._unread and (left := self._unread.pop(action.id, None)):
                    life.box.inherit(left.messages)
                self._starters.start(life)
            case p.StopChild():
                life = self._lives[action.id]
                life.ask_to_stop()
                self._overdue.stops(life, self.runtime.now())
                self._wake_at(self._overdue.next_look())
            case p.RenewSpec():
                life = self._lives[action.id]
                # It holds the name that it was started with, until it ends.
                was = life.spec
                life.spec = evolve(
                    action.spec, start=was.start, name=was.name, init_timeout=was.init_timeout, mailbox=was.mailbox
                )
            case p.ScheduleRetry():
                self._schedule(action)
            case p.Reply():
                waiting = self._waiting.pop(action.request, None)
                if waiting is not None:
                    waiting.reply = action
                    # Now, and not when whoever waits runs again: by then the child may have ended, or be another one.
                    waiting.ref = None if action.child is None else self.find(action.child.id)
                    waiting.answered.set()
            case p.Started():
                self._life.started()
            case p.Note():
                self._tell_decision(action.decision)
            case p.StartFailed() | p.GiveUp() | p.Stopped():
                self._end = action.reason

    def _forget(self, id_: str, incarnation: int) -> None:
        life = self._lives.get(id_)
        if life is not None and life.incarnation == incarnation:
            del self._lives[id_]
            if (unread := life.if_used(Unread)) is not None:
                self._unread[id_] = unread
            self._overdue.forget(life)

    def _drop_unread(self) -> None:
        """Nobody comes back."""
        while self._unread:
            self._unread.popitem()[1].drop()

    def _drop_what_nobody_will_read(self, event: p.Event, actions: list[p.Action]) -> None:
        """Look whether they come back whom this event or a decision was about; only those, as there may be many."""
        if self.core.ending:
            self._drop_unread()
            return
        decided = (action.decision.child for action in actions if isinstance(action, p.Note))
        for id_ in (getattr(event, "id", None), *decided):
            if id_ in self._unread and not self.core.returns(id_):
                self._unread.pop(id_).drop()

    def _tell_decision(self, decision: p.Decision) -> None:
        bus = self.runtime.events
        if bus.wants(events.SupervisorDecided):
            bus.emit(events.SupervisorDecided(path=self.path, decision=decision))

    # -- time ---------------------------------------------------------------------------------------------

    def _schedule(self, action: p.ScheduleRetry) -> None:
        now = self.runtime.now()
        due = p.RetryDue(action.generation, now + action.delay)
        if action.delay <= 0:
            self._inbox.append(due)  # behind what is already waiting: that is served between two tries
        else:
            heapq.heappush(self._retries, (due.now, next(self._retry_numbers), due))
            self._wake_at(due.now)

    def _wake_at(self, due: float) -> None:
        """Have the clock looked at then. It may be looked at before: what is not due any more is left to be seen."""
        if due < self._alarm:
            self._wake()

    def _next_due(self) -> float:
        """When the clock must be looked at again, if nothing happens before."""
        overdue = self._overdue.next_look()
        return min(overdue, self._retries[0][0]) if self._retries else overdue

    def _look_at_the_clock(self) -> None:
        now = self.runtime.now()
        while self._retries and self._retries[0][0] <= now:
            due = heapq.heappop(self._retries)[2]
            self._inbox.append(p.RetryDue(due.generation, now))
        for stuck in self._overdue.find(now):
            self.runtime.events.emit(stuck)

    # -- what others ask for, through a SupervisorRef -----------------------------------------------------

    async def request(self, request: p.Request) -> Ref | None:
        """Have the core serve `request`; return the ref of the child that was started by it, if one was."""
        if self._deaf:
            raise SupervisorStopped(self.path)
        waiting = self._waiting[request] = _Waiting()
        self._post(request)
        await waiting.answered.wait()
        reply = waiting.reply
        if reply is None:
            raise SupervisorStopped(self.path)
        if reply.error is not None:
            raise reply.error
        return waiting.ref

    def find(self, id_: str) -> Ref | None:
        """The ref of the child of that id, if it is alive."""
        life = self._lives.get(id_)
        return None if life is None else life.ref

    def nested(self, id_: str) -> SupervisorRef | None:
        """The supervisor that runs as the child of that id, if it is alive and one."""
        life = self._lives.get(id_)
        return None if life is None else life.supervisor

    def is_stuck(self, id_: str) -> bool:
        """Whether the child of that id was reported as stuck."""
        life = self._lives.get(id_)
        return life is not None and life in self._overdue.stuck

    def parked(self) -> Generator[str]:
        """The paths of the children that are parked, here and below."""
        for id_ in self.core.parked():
            yield f"{self.path}/{id_}"
        for life in self._lives.values():
            if isinstance(life.behaviour, SupervisorTask):
                yield from life.behaviour.parked()

    def stuck(self) -> Generator[str]:
        """The paths of the children that are stuck, here and below."""
        for life in self._lives.values():
            if life in self._overdue.stuck:
                yield life.path
            if isinstance(life.behaviour, SupervisorTask):
                yield from life.behaviour.stuck()

    def statistics(self) -> SupervisorStatistics:
        """The supervisor and everything below it, in numbers."""
        spec = self.core.spec
        return SupervisorStatistics(
            path=self.path,
            strategy=spec.strategy,
            restarts=self.core.restarts(self.runtime.now()),
            intensity=spec.intensity,
            period=spec.period,
            decisions=self.core.history,
            children=tuple(self._child_statistics(state) for state in self.core.which()),
        )

    def _child_statistics(self, state: p.ChildState) -> ChildStatistics:
        life = self._lives.get(state.id)
        below = None if life is None else life.supervisor
        return ChildStatistics(
            id=state.id,
            status=state.status,
            stuck=life in self._overdue.stuck,
            incarnation=state.incarnation,
            reason=state.reason,
            mailbox=None if life is None or not life.box.takes_messages else life.box.statistics(),
            children=None if below is None else below.statistics(),
        )
