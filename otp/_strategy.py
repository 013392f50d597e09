"""The supervision strategies as a pure state machine: events in, actions out, no clock and no tasks.

This is OTP's supervisor, with one difference that all others follow from: OTP waits where a child starts or
stops, and this core does not. Starting and stopping are requests to the shell, whose answers come back as
events, and in between the core goes on answering. It still keeps OTP's order:

- One start at a time, in start order. A start that is under way is left to finish, whatever its siblings do;
  only a ``TerminateChild`` for it or the end of the supervisor breaks it off.
- One stop at a time, in reverse start order; what is to stop does so before anything of its group starts.
- A child that ends while it is about to be stopped anyway is no further failure: one charge for one group.

Where OTP is silent, because it knows no backoff:

- A group that waits is down as a whole, and what fails meanwhile joins the wait, which is charged when it
  ends.
- A failed restart is tried again through the shell's queue, also when there is no delay. Until then its group
  is down (in OTP those that were up already stay up, to be stopped by the next try).
- Who is terminated by request is not brought back by a restart that was waiting; its siblings are.
"""

from __future__ import annotations

from collections import deque
from random import Random, getrandbits
from typing import TYPE_CHECKING

from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._errors import FailedToStart, GaveUp
from ._exit import Crashed, ExitReason, Shutdown, is_normal_class
from ._intensity import RestartWindow
from ._roster import Roster, Slot
from ._spec import instance_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._errors import OtpError
    from ._spec import Supervisor

HISTORY = 50
"""How many decisions a core remembers."""


class SupervisorCore:
    """Decides for one supervisor. ``handle`` takes an event and returns what the shell has to do, in order.

    ``path`` is how errors call the supervisor, ``rng`` where the jitter of backoff comes from.
    """

    def __init__(self, spec: Supervisor, *, path: str = "supervisor", rng: Random | None = None) -> None:
        self.spec = spec
        self.path = path
        self._rng = rng or Random(getrandbits(64))  # (that is repeatable where `random.seed` was called)
        self._simple = spec.strategy == "simple_one_for_one"
        self._grouped = spec.strategy in ("one_for_all", "rest_for_one")
        self._phase: str = "new"  # booting, up, ending, over
        self._outcome: p.StartFailed | p.GiveUp | p.Stopped | None = None
        self._roster = Roster()
        self._window = RestartWindow(spec.intensity, spec.period)
        self._incarnations = 0
        self._instances = 0
        self._generations = 0
        self._waiting: dict[int, list[Slot]] = {}  # by generation, until its RetryDue
        self._early: list[tuple[Slot, float]] = []  # failed before the supervisor was up, and when
        self._history: deque[p.Decision] = deque(maxlen=HISTORY)
        self._actions: list[p.Action] = []
        if not self._simple:
            for child in spec.children:
                self._roster.add(child)

    # -- what can be read at any time ---------------------------------------------------------------------

    def which(self) -> list[p.ChildState]:
        """All children in start order (OTP lists the newest first)."""
        return [slot.state() for slot in self._roster]

    def child(self, id_: str) -> p.ChildState | None:
        """The child of that id, or None."""
        slot = self._roster.get(id_)
        return None if slot is None else slot.state()

    def count(self) -> p.ChildCount:
        """How many children there are; those that wait for a restart are not active."""
        supervisors = sum(slot.spec.is_supervisor for slot in self._roster)
        return p.ChildCount(
            specs=1 if self._simple else len(self._roster),
            active=self._roster.alive,
            supervisors=supervisors,
            workers=len(self._roster) - supervisors,
        )

    def restarts(self, now: float) -> int:
        """How many restarts the window holds, of ``spec.intensity``."""
        return self._window.used(now)

    @property
    def history(self) -> tuple[p.Decision, ...]:
        """The last decisions, oldest first."""
        return tuple(self._history)

    @property
    def over(self) -> bool:
        """Whether the last action has been given out."""
        return self._phase == "over"

    # -- events -------------------------------------------------------------------------------------------

    def handle(self, event: p.Event) -> list[p.Action]:
        """What to do about ``event``. Events of incarnations and generations that are over change nothing."""
        match event:
            case p.ChildUp() | p.ChildIgnored() | p.ChildFailedToStart() | p.ChildDown():
                slot = self._roster.get(event.id)
                if slot is not None and slot.alive and slot.incarnation == event.incarnation:
                    self._child_event(slot, event)
            case p.RetryDue():
                self._retry(event.generation, event.now)
            case p.Start():
                if self._phase == "new":
                    self._phase = "booting"
                    for slot in self._roster:
                        self._roster.want(slot)
            case p.Stop():
                self._end(p.Stopped(event.reason))
            case _:
                self._request(event)
        self._advance()
        actions, self._actions = self._actions, []
        return actions

    def _child_event(self, slot: Slot, event: p.ChildUp | p.ChildIgnored | p.ChildFailedToStart | p.ChildDown) -> None:
        match event:
            case p.ChildUp():
                self._up(slot, event.now)
            case p.ChildIgnored():
                self._ignored(slot)
            case p.ChildFailedToStart() | p.ChildDown():
                if slot.phase == "starting" and not slot.stoppers:
                    self._failed_to_start(slot, event.reason, event.now)
                elif slot.phase == "running" and not slot.doomed:
                    self._ended_by_itself(slot, event.reason, event.now)
                else:
                    self._ended_as_told(slot, event.reason)

    def _up(self, slot: Slot, now: float) -> None:
        self._roster.came_up(slot)
        if slot.phase == "running":
            slot.up_since = now
            slot.restarting = slot.due  # when a sibling failed meanwhile
            self._answer_start(slot)

    def _ignored(self, slot: Slot) -> None:
        if slot.phase == "stopping" or slot.stoppers:
            self._ended_as_told(slot, Shutdown())
            return
        self._roster.ended(slot, Shutdown("ignored"))
        slot.restarting = slot.due
        self._answer_start(slot)
        if not self._keeps(slot):
            self._roster.drop(slot)

    def _failed_to_start(self, slot: Slot, reason: ExitReason, now: float) -> None:
        taken_down = slot.doomed
        self._roster.ended(slot, reason)
        if self._phase == "ending":
            pass
        elif slot.asked is not None:
            self._answer_failed_start(slot)
        elif self._phase == "booting":
            self._note(now, slot, "roll back")
            self._end(p.StartFailed(Crashed(FailedToStart(self.path, slot.id, reason))))
        elif not taken_down:  # otherwise its group restarts it
            self._fail(slot, now, retry=True)

    def _ended_as_told(self, slot: Slot, reason: ExitReason) -> None:
        self._roster.ended(slot, reason)
        for request in slot.stoppers:
            self._reply(request)
        slot.stoppers.clear()
        if slot.asked is not None:
            self._answer_failed_start(slot)
        elif not self._keeps(slot) and self._phase != "ending":
            self._roster.drop(slot)

    def _ended_by_itself(self, slot: Slot, reason: ExitReason, now: float) -> None:
        self._roster.ended(slot, reason)
        restart = slot.spec.restart
        if restart == "permanent" or (restart == "transient" and not is_normal_class(reason)):
            slot.restarting = True
            if self._phase == "booting":
                self._early.append((slot, now))
            else:
                self._fail(slot, now, retry=False)
        elif self._keeps(slot):
            self._note(now, slot, "leave")
        else:
            self._note(now, slot, "forget")
            self._roster.drop(slot)

    def _keeps(self, slot: Slot) -> bool:
        return slot.spec.restart != "temporary" and not self._simple

    # -- restarts -----------------------------------------------------------------------------------------

    def _fail(self, slot: Slot, now: float, *, retry: bool) -> None:
        """The slot is empty and must not stay so; ``retry`` when this was a try to restart it."""
        slot.restarting = True
        group = self._group(slot)
        generation = next((each.generation for each in group if each.generation is not None), None)
        if generation is not None:
            self._take_down(group, slot, generation)
            self._note(now, slot, "join")
            return
        delay = self._delay(slot, now)
        if delay > 0.0 or retry:
            self._generations += 1
            self._waiting[self._generations] = []
            self._take_down(group, slot, self._generations)
            self._note(now, slot, "wait", delay=delay)
            self._actions.append(p.ScheduleRetry(self._generations, delay))
        else:
            self._restart(group, slot, now, "restart")

    def _retry(self, generation: int, now: float) -> None:
        members = [slot for slot in self._waiting.pop(generation, ()) if slot.generation == generation]
        if not members:
            return
        first = min(members, key=lambda slot: slot.position)
        cause = next((slot for slot in members if slot.restarting), first)
        # Who came up meanwhile, by request, belongs to the group again.
        group = [slot for slot in self._group(first) if slot.alive or slot.generation == generation]
        self._restart(group, cause, now, "retry")

    def _restart(self, group: Sequence[Slot], cause: Slot, now: float, verdict: p.Verdict) -> None:
        """Charge the window, then bring the group down, as far as it is up, and up again."""
        if not self._window.charge(now):
            self._note(now, cause, "give up")
            limit = self.spec.intensity, self.spec.period
            self._end(p.GiveUp(Crashed(GaveUp(self.path, cause.id, *limit, cause.reason))))
            return
        self._note(now, cause, verdict)
        self._take_down(group, cause, None)

    def _take_down(self, group: Sequence[Slot], cause: Slot, generation: int | None) -> None:
        """Stop what is up in the group, and mark who comes back: with ``generation``, or at once if None."""
        for slot in group:
            if slot.stoppers:
                continue  # somebody asked for its end
            self._roster.doom(slot)
            if slot.spec.restart == "temporary":
                continue
            if generation is None:
                slot.generation = None
                slot.restarting = True
                self._roster.want(slot)
                continue
            if slot.asked is None:
                slot.due = False
            if slot.generation != generation:
                slot.generation = generation
                slot.restarting = slot is cause
                self._waiting[generation].append(slot)

    def _group(self, slot: Slot) -> Sequence[Slot]:
        """Whom the strategy restarts when the slot fails, in start order."""
        if not self._grouped:
            return (slot,)
        whole = self.spec.strategy == "one_for_all"
        return [each for each in self._roster if whole or each.position >= slot.position]

    def _delay(self, slot: Slot, now: float) -> float:
        backoff = slot.spec.backoff or self.spec.backoff
        if backoff is None:
            return 0.0
        if slot.up_since is not None and now - slot.up_since >= backoff.reset_after:
            slot.failures = 0
        slot.failures += 1
        return backoff.delay(slot.failures, self._rng)

    # -- requests -----------------------------------------------------------------------------------------

    def _request(self, request: p.Request) -> None:
        if self._phase not in ("booting", "up"):
            self._reply(request, p.SupervisorStopped(self.path))
            return
        match request:
            case p.AddChild():
                self._add(request)
            case p.StartInstance():
                self._start_instance(request)
            case p.TerminateChild():
                self._terminate(request)
            case p.RestartChild() | p.DeleteChild():
                self._restart_or_delete(request)

    def _add(self, request: p.AddChild) -> None:
        present = self._roster.get(request.spec.id)
        if self._simple:
            self._refuse(request, p.WrongStrategy, request.spec.id)
        elif present is None:
            self._start_as_asked(self._roster.add(request.spec), request)
        elif present.status in ("stopped", "restarting"):
            self._refuse(request, p.AlreadyPresent, present.id)
        else:
            self._refuse(request, p.AlreadyStarted, present.id)

    def _start_instance(self, request: p.StartInstance) -> None:
        if not self._simple:
            self._reply(request, p.WrongStrategy(self.path))
            return
        template = self.spec.children[0]
        try:
            spec = instance_of(template, self._instances + 1, request.args)
        except TypeError as error:
            self._reply(request, error)
            return
        self._instances += 1
        self._start_as_asked(self._roster.add(spec), request)

    def _terminate(self, request: p.TerminateChild) -> None:
        slot = self._roster.get(request.id)
        if slot is None:
            self._terminate_unknown(request)
            return
        self._roster.release(slot)
        slot.failures = 0
        if slot.alive:
            slot.stoppers.append(request)
            self._roster.doom(slot)
            return
        slot.reason = Shutdown()
        self._reply(request)
        if slot.asked is not None:
            self._answer_failed_start(slot)
        elif not self._keeps(slot):
            self._roster.drop(slot)

    def _terminate_unknown(self, request: p.TerminateChild) -> None:
        template = self.spec.children[0].id if self._simple else None
        name, _, number = request.id.rpartition(":")
        if request.id == template:
            self._refuse(request, p.WrongStrategy, request.id)
        elif name == template and number.isdecimal() and 1 <= int(number) <= self._instances:
            self._reply(request)  # over already
        else:
            self._refuse(request, p.ChildNotFound, request.id)

    def _restart_or_delete(self, request: p.RestartChild | p.DeleteChild) -> None:
        slot = self._roster.get(request.id)
        if self._simple:
            self._refuse(request, p.WrongStrategy, request.id)
        elif slot is None:
            self._refuse(request, p.ChildNotFound, request.id)
        elif slot.status == "restarting":
            self._refuse(request, p.ChildRestarting, request.id)
        elif slot.status != "stopped":
            self._refuse(request, p.ChildRunning, request.id)
        elif isinstance(request, p.RestartChild):
            self._start_as_asked(slot, request)
        else:
            self._roster.drop(slot)
            self._reply(request)

    def _start_as_asked(self, slot: Slot, request: p.AddChild | p.StartInstance | p.RestartChild) -> None:
        slot.asked = request
        self._roster.want(slot)

    def _answer_start(self, slot: Slot) -> None:
        if slot.asked is not None:
            self._actions.append(p.Reply(slot.asked, child=slot.state()))
            slot.asked = None

    def _answer_failed_start(self, slot: Slot) -> None:
        """The start that was asked for came to nothing: what it added is not kept, the rest stays stopped."""
        request, slot.asked = slot.asked, None
        assert request is not None
        self._reply(request, FailedToStart(self.path, slot.id, slot.reason))
        if not isinstance(request, p.RestartChild) or not self._keeps(slot):
            self._roster.drop(slot)

    # -- what comes next ----------------------------------------------------------------------------------

    def _end(self, outcome: p.StartFailed | p.GiveUp | p.Stopped) -> None:
        """Stop all that is up, then end with ``outcome``. The first outcome stands."""
        if self._phase in ("ending", "over"):
            return
        self._phase = "ending"
        self._outcome = outcome
        for slot in self._roster:
            self._roster.release(slot)
            self._roster.doom(slot)
            if slot.asked is not None:
                self._reply(slot.asked, p.SupervisorStopped(self.path))
                slot.asked = None

    def _advance(self) -> None:
        """Give out the stops and the start whose turn it is, and notice what is complete."""
        roster = self._roster
        if self._phase == "booting" and roster.starting is None and roster.next_due() is None:
            self._booted()
        self._give_out_stops()
        if self._phase == "ending":
            if roster.alive == 0:
                assert self._outcome is not None
                self._phase = "over"
                self._actions.append(self._outcome)
        elif self._phase != "new":
            self._give_out_start()

    def _booted(self) -> None:
        self._phase = "up"
        self._actions.append(p.Started())
        early, self._early = self._early, []
        for slot, now in early:
            # Not if it was terminated meanwhile, or returns with the group of one that failed before it.
            if slot.restarting and not slot.due and self._phase == "up":
                self._fail(slot, now, retry=False)

    def _give_out_stops(self) -> None:
        while (self._simple or not self._roster.stopping) and (slot := self._roster.next_doomed()):
            if slot.phase == "starting" and self._phase != "ending" and not slot.stoppers:
                return  # left to finish its start
            self._roster.begin_stop(slot)
            assert slot.incarnation is not None
            self._actions.append(p.StopChild(slot.id, slot.incarnation, slot.spec))

    def _give_out_start(self) -> None:
        if self._roster.starting is not None:
            return
        if self._grouped and (self._roster.stopping or self._roster.next_doomed()):
            return
        if slot := self._roster.next_due():
            self._incarnations += 1
            self._roster.begin_start(slot, self._incarnations)
            self._actions.append(p.StartChild(slot.id, self._incarnations, slot.spec))

    def _refuse(self, request: p.Request, error: type[p.SupervisorError], id_: str) -> None:
        self._reply(request, error(self.path, id_))

    def _reply(self, request: p.Request, error: OtpError | TypeError | None = None) -> None:
        self._actions.append(p.Reply(request, error=error))

    def _note(self, now: float, slot: Slot, verdict: p.Verdict, *, delay: float = 0.0) -> None:
        decision = p.Decision(
            time=now,
            child=slot.id,
            incarnation=slot.incarnation,
            reason=slot.reason,
            verdict=verdict,
            delay=delay,
            used=self._window.used(now),
            limit=self.spec.intensity,
        )
        self._history.append(decision)
        self._actions.append(p.Note(decision))
