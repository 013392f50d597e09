"""The shell around the supervision core: it starts tasks, stops them, keeps time and answers requests.

What is to be done is decided by :class:`SupervisorCore`, which knows no tasks and no clock. Here is one task per
supervisor that hands it what happened, one event after another, and carries out what comes back. It waits for
nothing but the next event: a child that starts or stops slowly delays no query and no request.

The nursery of this task is the supervision tree: every child, and every helper of a child, runs in it. So a child
cannot outlive its supervisor.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING, final

import trio
from attrs import evolve
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from . import _events as events  # pyright: ignore[reportPrivateUsage]  # private to otp
from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._child import Behaviour, ChildContext, life_of, run_child
from ._exit import Crashed, ExitReason, Shutdown
from ._life import Life, Outcome
from ._lifecycle import tell_end, tell_up
from ._overdue import Overdue
from ._refusals import SupervisorStopped
from ._statistics import ChildStatistics, SupervisorStatistics
from ._strategy import SupervisorCore
from ._supervisor_ref import SupervisorRef

if TYPE_CHECKING:
    from ._ref import Ref
    from ._spec import Supervisor


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

    def __init__(self, spec: Supervisor) -> None:
        self._spec = spec
        self.ref = SupervisorRef(self)
        self.ended = False
        # Events that the core has yet to see, in the order in which they happened.
        self._inbox: deque[p.Event] = deque()
        self._parked: Task | None = None
        # The children that are alive, and those whose end the core has yet to see.
        self._lives: dict[str, Life] = {}
        self._overdue = Overdue(self._lives)
        self._retries: list[tuple[float, int, p.RetryDue]] = []
        self._retry_numbers = itertools.count()
        self._waiting: dict[p.Request, _Waiting] = {}
        self._end: ExitReason | None = None

    # -- the life of the supervisor -----------------------------------------------------------------------

    async def serve(self, context: ChildContext) -> None:
        """Start the children, look after them until asked to stop or until it gives up, and stop them all."""
        self._life = life = life_of(context)
        life.supervisor = self
        self.path = life.path
        self.runtime = life.runtime
        self.core = SupervisorCore(self._spec, path=self.path)
        life.on_stop = self._stop
        try:
            async with trio.open_nursery() as self.nursery:
                self._post(p.Start())
                while self._end is None:
                    await self._work()
                    self._look_at_the_clock()
        finally:
            self.ended = True
            for waiting in self._waiting.values():
                waiting.answered.set()
        if isinstance(self._end, Crashed):
            raise self._end.exception
        life.exit_reason = self._end

    def _stop(self) -> None:
        self._post(p.Stop(Shutdown()))

    async def _work(self) -> None:
        """Let the core see one event after another, and do what it says; return when the clock must be looked at."""
        with trio.CancelScope() as self._alarm:
            while self._end is None:
                if not self._inbox:
                    self._set_alarm(self._next_due())
                    await self._park()
                while self._inbox and self._end is None:
                    self._handle(self._inbox.popleft())  # (no variable keeps the last one while this waits)

    def _handle(self, event: p.Event) -> None:
        if isinstance(event, p.ChildIgnored | p.ChildFailedToStart | p.ChildDown):
            self._forget(event.id, event.incarnation)
        for action in self.core.handle(event):
            self._do(action)

    async def _park(self) -> None:
        self._parked = current_task()
        await wait_task_rescheduled(self._unpark)

    def _unpark(self, _: RaiseCancelT) -> Abort:
        self._parked = None
        return Abort.SUCCEEDED

    def _post(self, event: p.Event) -> None:
        self._inbox.append(event)
        if self._parked is not None:
            task, self._parked = self._parked, None
            reschedule(task)

    # -- what children report -----------------------------------------------------------------------------

    def child_up(self, life: Life) -> None:
        """The child has finished its init."""
        now = trio.current_time()
        tell_up(life, now)
        self._post(p.ChildUp(life.spec.id, life.incarnation, now))

    def child_ending(self, life: Life, by: float) -> None:
        """The child has begun to end by itself, and has time for that until `by`."""
        self._overdue.ends(life, by, trio.current_time())
        self._set_alarm(min(self._alarm.deadline, self._next_due()))

    def child_ended(self, life: Life, outcome: Outcome) -> None:
        """The child has ended; its task does nothing any more, its name is free."""
        now = trio.current_time()
        id_, incarnation = life.spec.id, life.incarnation
        if outcome == "ignored":
            self._post(p.ChildIgnored(id_, incarnation))
        elif life.up:
            self._post(p.ChildDown(id_, incarnation, outcome, now))
        else:
            self._post(p.ChildFailedToStart(id_, incarnation, outcome, now))
        tell_end(life, outcome, now)

    # -- what the core says is to be done -----------------------------------------------------------------

    def _do(self, action: p.Action) -> None:
        match action:
            case p.StartChild():
                life = Life(action.spec, action.incarnation, self, self.runtime)
                self._lives[action.id] = life
                self._overdue.starts(life, trio.current_time())
                self.nursery.start_soon(run_child, life, name=action.id)
            case p.StopChild():
                life = self._lives[action.id]
                life.ask_to_stop()
                self._overdue.stops(life, trio.current_time())
            case p.RenewSpec():
                life = self._lives[action.id]
                # It holds the name that it was started with, until it ends.
                life.spec = evolve(action.spec, name=life.spec.name)
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
            self._overdue.forget(life)

    def _tell_decision(self, decision: p.Decision) -> None:
        bus = self.runtime.events
        if bus.wants(events.SupervisorDecided):
            bus.emit(events.SupervisorDecided(path=self.path, decision=decision))

    # -- time ---------------------------------------------------------------------------------------------

    def _schedule(self, action: p.ScheduleRetry) -> None:
        now = trio.current_time()
        due = p.RetryDue(action.generation, now + action.delay)
        if action.delay <= 0:
            self._inbox.append(due)  # behind what is already waiting: that is served between two tries
        else:
            heapq.heappush(self._retries, (due.now, next(self._retry_numbers), due))

    def _set_alarm(self, due: float) -> None:
        if due != self._alarm.deadline:
            self._alarm.deadline = due

    def _next_due(self) -> float:
        """When the clock must be looked at again, if nothing happens before."""
        overdue = self._overdue.next_look()
        return min(overdue, self._retries[0][0]) if self._retries else overdue

    def _look_at_the_clock(self) -> None:
        now = trio.current_time()
        while self._retries and self._retries[0][0] <= now:
            due = heapq.heappop(self._retries)[2]
            self._inbox.append(p.RetryDue(due.generation, now))
        for stuck in self._overdue.find(now):
            self.runtime.events.emit(stuck)

    # -- what others ask for, through a SupervisorRef -----------------------------------------------------

    async def request(self, request: p.Request) -> Ref | None:
        """Have the core serve `request`; return the ref of the child that was started by it, if one was."""
        if self.ended:
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

    def nested(self, id_: str) -> SupervisorTask | None:
        """The supervisor that runs as the child of that id, if it is alive and one."""
        life = self._lives.get(id_)
        return None if life is None else life.supervisor

    def is_stuck(self, id_: str) -> bool:
        """Whether the child of that id was reported as stuck."""
        life = self._lives.get(id_)
        return life is not None and life in self._overdue.stuck

    def statistics(self) -> SupervisorStatistics:
        """The supervisor and everything below it, in numbers."""
        spec = self.core.spec
        return SupervisorStatistics(
            path=self.path,
            strategy=spec.strategy,
            restarts=self.core.restarts(trio.current_time()),
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
