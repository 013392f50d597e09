"""What follows from the end of a child: who comes back, when, and on whose account.

Where OTP is silent, because it knows neither backoff nor budgets:

- A group that waits is down as a whole, and what fails meanwhile joins the wait, which is charged when it
  ends.
- A failed restart is tried again through the shell's queue, also when there is no delay. Until then its group
  is down (in OTP those that were up already stay up, to be stopped by the next try).
- Who is terminated by request is not brought back by a restart that was waiting; its siblings are.
- A restart is charged to the child that it is for, if that has a budget, otherwise to the supervisor. A child
  whose budget is exceeded is parked or dropped, and its siblings are restarted without it: they were to start
  anew because it is gone, and that it stays away makes no difference to that. It does not come back with a
  later restart of its group either, for then its budget would mean nothing.
- For an auto shutdown, who is parked has not ended for good (it neither counts nor lets the others count as
  all), and who is dropped has, as a temporary child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._errors import GaveUp
from ._exit import Crashed, ExitReason, Shutdown, is_normal_class
from ._intensity import RestartWindow
from ._roster import Slot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from ._core_state import CoreState

AUTO_SHUTDOWN = Shutdown("auto shutdown")


@define(eq=False)
class _Wait:
    """A restart that waits: who failed first, and all who come back with it unless something happens to them."""

    cause: Slot
    members: list[Slot] = field(factory=list[Slot])


class Restarts:
    """Decides what becomes of a child that has ended, and of its group. ``rng``: where jitter comes from."""

    def __init__(self, state: CoreState, rng: Random) -> None:
        self._state = state
        self._roster = state.roster
        self._rng = rng
        self._generations = 0
        self._waits: dict[int, _Wait] = {}  # by generation, until its RetryDue
        self._early: list[tuple[Slot, float, bool]] = []  # ended before the boot was over: when, and whether for good

    def ended_by_itself(self, slot: Slot, reason: ExitReason, now: float) -> None:
        """It was up, and nobody had told it to end."""
        restart = slot.spec.restart
        fails = restart == "permanent" or (restart == "transient" and not is_normal_class(reason))
        if fails:
            slot.restarting = True
        else:
            self._lay_to_rest(slot, now)
        if self._state.phase == "booting":
            self._early.append((slot, now, not fails))
        else:
            self._follow(slot, now, for_good=not fails)

    def failed_to_start(self, slot: Slot, now: float) -> None:
        """It was being restarted: it is tried again, unless a change has made it temporary meanwhile."""
        if slot.spec.restart == "temporary":
            self._lay_to_rest(slot, now)
            self._follow(slot, now, for_good=True)
        else:
            self.fail(slot, now, retry=True)

    def booted(self) -> None:
        """The boot is over, and so is the wait of those that have ended in it."""
        early, self._early = self._early, []
        for slot, now, for_good in early:
            # A failure not if it was terminated meanwhile, or returns with the group of one that failed before it. The
            # end of a significant child always, also if somebody has brought it back: it did end, and that came first.
            if self._state.phase == "up" and (for_good or (slot.restarting and not slot.due)):
                self._follow(slot, now, for_good=for_good)

    def fail(self, slot: Slot, now: float, *, retry: bool) -> None:
        """The slot is empty and must not stay so; ``retry`` when this was a try to restart it."""
        slot.restarting = True
        group = self._group(slot)
        generation = next((each.generation for each in group if each.generation is not None), None)
        if generation is not None:
            self._take_down(group, slot, generation)
            self._state.note(now, slot, "join", window=self._account(slot))
            return
        delay = self._delay(slot, now)
        if delay > 0.0 or retry:
            self._generations += 1
            self._waits[self._generations] = _Wait(slot)
            self._take_down(group, slot, self._generations)
            self._state.note(now, slot, "wait", window=self._account(slot), delay=delay)
            self._state.actions.append(p.ScheduleRetry(self._generations, delay))
        else:
            self._restart(group, slot, now, "restart")

    def retry(self, generation: int, now: float) -> None:
        """The wait of that generation is over."""
        wait = self._waits.pop(generation, None)
        members = [] if wait is None else [slot for slot in wait.members if slot.generation == generation]
        if wait is None or not members:
            return
        members.sort(key=lambda slot: slot.position)
        failed = [slot for slot in members if slot.restarting]
        cause = wait.cause if wait.cause in failed else next(iter(failed), members[0])
        # Who came up meanwhile, by request, belongs to the group again.
        wide = self._group(members[0]) if self._state.grouped else members
        group = [slot for slot in wide if slot.alive or slot.generation == generation]
        self._restart(group, cause, now, "retry")

    # -- what follows, step by step -----------------------------------------------------------------------

    def _follow(self, slot: Slot, now: float, *, for_good: bool) -> None:
        if not for_good:
            self.fail(slot, now, retry=False)
        elif slot.spec.significant:
            self._shut_down_if_that_was_it(slot, now)

    def _lay_to_rest(self, slot: Slot, now: float) -> None:
        if self._state.keeps(slot):
            self._state.note(now, slot, "leave")
            slot.rest()
        else:
            self._state.note(now, slot, "forget")
            self._roster.drop(slot)

    def _shut_down_if_that_was_it(self, slot: Slot, now: float) -> None:
        mode = self._state.spec.auto_shutdown
        if mode == "any_significant" or (
            mode == "all_significant" and not any(each.spec.significant and each.returns for each in self._roster)
        ):
            self._state.note(now, slot, "auto shutdown")
            self._state.end(p.Stopped(AUTO_SHUTDOWN))

    def _restart(self, group: Sequence[Slot], cause: Slot, now: float, verdict: p.Verdict) -> None:
        """Charge for it, then bring the group down, as far as it is up, and up again."""
        state = self._state
        # (Not restarting: the one that had failed was terminated meanwhile, so this is for nobody in particular.)
        budget = cause.spec.budget if cause.restarting else None
        window = state.window if budget is None else self._account(cause)
        if window.charge(now):
            state.note(now, cause, verdict, window=window)
            self._take_down(group, cause, None)
        elif budget is None or budget.on_exceed == "escalate":
            state.note(now, cause, "give up", window=window)
            error = GaveUp(state.path, cause.id, window.limit, window.period, cause.reason)
            state.end(p.GiveUp(Crashed(error)))
        else:
            state.note(now, cause, budget.on_exceed, window=window)
            self._take_down([slot for slot in group if slot is not cause], cause, None)
            if budget.on_exceed == "park":
                self._roster.release(cause)
                cause.parked = True
                cause.rest()
            else:
                self._roster.drop(cause)
                self._follow(cause, now, for_good=True)

    def _account(self, slot: Slot) -> RestartWindow:
        """What its restarts are charged to."""
        budget = slot.spec.budget
        if budget is None:
            return self._state.window
        if slot.window is None:
            slot.window = RestartWindow(budget.intensity, budget.period)
        return slot.window

    def _take_down(self, group: Sequence[Slot], cause: Slot, generation: int | None) -> None:
        """Stop what is up in the group, and mark who comes back: with ``generation``, or at once if None."""
        for slot in group:
            if slot.stoppers or slot.status == "parked":
                continue  # somebody asked for its end; or must ask for it
            self._roster.doom(slot)
            self._state.hold |= slot.alive
            if slot.spec.restart == "temporary" and slot is not cause and slot.generation is None:
                continue
            if generation is None:
                slot.generation = None
                slot.restarting = True
                self._roster.want(slot)
                continue
            if slot.asked is None:
                slot.due = False
            if slot.generation != generation:
                if slot.generation is None:
                    slot.restarting = slot is cause
                slot.generation = generation
                self._waits[generation].members.append(slot)

    def _group(self, slot: Slot) -> Sequence[Slot]:
        """Whom the strategy restarts when the slot fails, in start order."""
        if not self._state.grouped:
            return (slot,)
        whole = self._state.spec.strategy == "one_for_all"
        return [each for each in self._roster if whole or each.position >= slot.position]

    def _delay(self, slot: Slot, now: float) -> float:
        backoff = slot.spec.backoff or self._state.spec.backoff
        if backoff is None:
            return 0.0
        if slot.up_since is not None and now - slot.up_since >= backoff.reset_after:
            slot.failures = 0
        slot.failures += 1
        return backoff.delay(slot.failures, self._rng)
