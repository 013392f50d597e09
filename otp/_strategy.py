"""The supervision strategies as a pure state machine: events in, actions out, no clock and no tasks.

This is OTP's supervisor, with one difference that all others follow from: OTP waits where a child starts or
stops, and this core does not. Starting and stopping are requests to the shell, whose answers come back as
events, and in between the core goes on answering. It still keeps OTP's order:

- One start at a time, in start order. A start that is under way is left to finish, whatever its siblings do;
  only a ``TerminateChild`` for it or the end of the supervisor breaks it off.
- One stop at a time, in reverse start order; what is to stop does so before anything of its group starts. Its
  group waits for a start that is left to finish. But who is asked for by a ``TerminateChild`` stops at once: in OTP
  that request would wait for as long as whatever else starts or stops, and one that does not end would hold it up
  for ever.
- A child that ends while it is about to be stopped anyway is no further failure: one charge for one group.

It is made of what it knows (`CoreState`) and of those who decide about ends (`Restarts`), about requests
(`Requests`) and about a new spec (`change`). Here events go in, and come the starts and stops whose turn it is.
"""

from __future__ import annotations

from random import Random, getrandbits
from typing import TYPE_CHECKING

from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._core_state import CoreState
from ._errors import FailedToStart
from ._exit import Crashed, ExitReason, Shutdown
from ._live_change import change
from ._refusals import SupervisorStopped
from ._requests import Requests
from ._restarts import Restarts

if TYPE_CHECKING:
    from ._roster import Slot
    from ._spec import Supervisor


class SupervisorCore:
    """Decides for one supervisor. ``handle`` takes an event and returns what the shell has to do, in order.

    ``path`` is how errors call the supervisor, ``rng`` where the jitter of backoff comes from.
    """

    def __init__(self, spec: Supervisor, *, path: str = "supervisor", rng: Random | None = None) -> None:
        self._state = state = CoreState(spec, path)
        self._roster = state.roster
        self._restarts = Restarts(state, rng or Random(getrandbits(64)))  # repeatable after `random.seed`
        self._requests = Requests(state)
        self._incarnations = 0
        if not state.simple:
            for child in spec.children:
                self._roster.add(child)

    # -- what can be read at any time ---------------------------------------------------------------------

    @property
    def spec(self) -> Supervisor:
        """What it goes by, changes included."""
        return self._state.spec

    def which(self) -> list[p.ChildState]:
        """All children in start order (OTP lists the newest first)."""
        return [slot.state() for slot in self._roster]

    def child(self, id_: str) -> p.ChildState | None:
        """The child of that id, or None."""
        slot = self._roster.get(id_)
        return None if slot is None else slot.state()

    def parked(self) -> list[str]:
        """The ids of the children that are parked."""
        return [slot.id for slot in self._roster if slot.parked and slot.status == "parked"]

    def returns(self, id_: str) -> bool:
        """Whether the child of that id is down, and will be started again without anybody asking for it."""
        slot = self._roster.get(id_)
        return slot is not None and (slot.due or slot.restarting or slot.generation is not None)

    def count(self) -> p.ChildCount:
        """How many children there are; those that wait for a restart are not active."""
        supervisors = sum(slot.spec.is_supervisor for slot in self._roster)
        return p.ChildCount(
            specs=1 if self._state.simple else len(self._roster),
            active=self._roster.alive,
            supervisors=supervisors,
            workers=len(self._roster) - supervisors,
        )

    def due(self) -> int:
        """About how many children wait for their turn to start."""
        return self._roster.due

    def restarts(self, now: float) -> int:
        """How many restarts the window holds, of ``spec.intensity``."""
        return self._state.window.used(now)

    @property
    def history(self) -> tuple[p.Decision, ...]:
        """The last decisions, oldest first."""
        return tuple(self._state.history)

    @property
    def ending(self) -> bool:
        """Whether nothing is started any more."""
        return self._state.phase in ("ending", "over")

    @property
    def over(self) -> bool:
        """Whether the last action has been given out."""
        return self._state.phase == "over"

    # -- events -------------------------------------------------------------------------------------------

    def handle(self, event: p.Event) -> list[p.Action]:
        """What to do about ``event``. Events of incarnations and generations that are over change nothing."""
        state = self._state
        match event:
            case p.ChildUp():
                if slot := self._slot_of(event):
                    self._up(slot, event.now)
            case p.ChildIgnored():
                if slot := self._slot_of(event):
                    self._ignored(slot)
            case p.ChildFailedToStart() | p.ChildDown():
                if slot := self._slot_of(event):
                    self._ended(slot, event.reason, event.now)
            case p.RetryDue():
                self._restarts.retry(event.generation, event.now)
            case p.Start():
                if state.phase == "new":
                    state.phase = "booting"
                    for slot in self._roster:
                        self._roster.want(slot)
            case p.Stop():
                state.end(p.Stopped(event.reason))
            case _ if state.phase not in ("booting", "up"):
                state.reply(event, SupervisorStopped(state.path))
            case p.Change():
                change(state, event)
            case _:
                self._requests.serve(event)
        self._advance()
        actions, state.actions = state.actions, []
        return actions

    def _slot_of(self, event: p.ChildUp | p.ChildIgnored | p.ChildFailedToStart | p.ChildDown) -> Slot | None:
        """The slot that the event is about, unless it is about an incarnation that is over."""
        slot = self._roster.get(event.id)
        return slot if slot is not None and slot.phase != "down" and slot.incarnation == event.incarnation else None

    def _up(self, slot: Slot, now: float) -> None:
        self._roster.came_up(slot)
        if slot.phase == "running":
            slot.up_since = now
            self._succeeded(slot)

    def _ignored(self, slot: Slot) -> None:
        if slot.phase == "stopping":
            self._ended_as_told(slot, Shutdown())
            return
        self._roster.ended(slot, Shutdown("ignored"))
        self._succeeded(slot)
        if not self._state.keeps(slot):
            self._roster.drop(slot)

    def _succeeded(self, slot: Slot) -> None:
        """The start is a success, with a child or without."""
        slot.restarting &= slot.due  # when a sibling failed meanwhile
        slot.parked = False
        if slot.asked is not None:
            self._requests.came_up(slot)

    def _ended(self, slot: Slot, reason: ExitReason, now: float) -> None:
        if slot.phase == "starting":
            self._failed_to_start(slot, reason, now)
        elif slot.phase == "running" and not slot.doomed:
            self._roster.ended(slot, reason)
            self._restarts.ended_by_itself(slot, reason, now)
        else:
            self._ended_as_told(slot, reason)

    def _failed_to_start(self, slot: Slot, reason: ExitReason, now: float) -> None:
        taken_down = slot.doomed
        self._roster.ended(slot, reason)
        state = self._state
        if state.phase == "ending":
            slot.rest()
        elif slot.asked is not None:
            slot.restarting &= slot.due  # its group may have wanted it as well, but the answer is that it stays stopped
            self._requests.came_to_nothing(slot)
        elif state.phase == "booting":
            state.note(now, slot, "roll back")
            state.end(p.StartFailed(Crashed(FailedToStart(state.path, slot.id, reason))))
        elif not taken_down:  # otherwise its group restarts it
            self._restarts.failed_to_start(slot, now)
        elif not slot.due and slot.generation is None:  # but not one that a change has made temporary meanwhile
            self._roster.drop(slot)

    def _ended_as_told(self, slot: Slot, reason: ExitReason) -> None:
        self._roster.ended(slot, reason)
        self._requests.went_down(slot)
        if slot.asked is not None:
            self._requests.came_to_nothing(slot)
        elif not self._state.keeps(slot) and self._state.phase != "ending":
            self._roster.drop(slot)
        if not (slot.due or slot.restarting or slot.generation is not None):
            slot.rest()

    # -- what comes next ----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Give out the stops and the start whose turn it is, and notice what is complete."""
        state, roster = self._state, self._roster
        next_ = None if roster.starting else roster.next_due()
        if state.phase == "booting" and not roster.starting and not next_:
            state.phase = "up"
            state.actions.append(p.Started())
            self._restarts.booted()
            next_ = roster.next_due()
        if roster.next_doomed():
            self._give_out_stops()
        if state.phase == "ending":
            if roster.alive == 0:
                assert state.outcome is not None
                state.phase = "over"
                state.actions.append(state.outcome)
                state.outcome = None
        elif state.phase != "new" and not roster.starting:
            self._give_out_start(next_)

    def _give_out_stops(self) -> None:
        state, roster = self._state, self._roster
        while (state.simple or not roster.stopping) and (slot := roster.next_doomed()):
            if slot.phase == "starting" and state.phase != "ending":
                return  # left to finish its start, and the rest of its group waits for that
            state.stop(slot)

    def _give_out_start(self, slot: Slot | None) -> None:
        state, roster = self._state, self._roster
        if state.grouped or state.hold:
            if roster.stopping or roster.next_doomed():
                return
            state.hold = False
        if slot is not None:
            self._incarnations += 1
            roster.begin_start(slot, self._incarnations)
            state.actions.append(p.StartChild(slot.id, self._incarnations, slot.spec))
