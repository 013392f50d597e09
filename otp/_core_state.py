"""What the core of one supervisor knows, and the few steps that its parts share."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal

from attrs import evolve

from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._exit import in_writing
from ._intensity import RestartWindow
from ._refusals import SupervisorStopped
from ._roster import Roster

if TYPE_CHECKING:
    from ._roster import Slot
    from ._spec import Supervisor

HISTORY: Final = 50
"""How many decisions a core remembers."""


class CoreState:
    """The children, the window, the history, and what is to be given out for the event at hand.

    The parts of the core change it: `Restarts` what becomes of those that ended, `Requests` what was asked for, and
    `SupervisorCore`, which hands each event to one of them and then gives out what it is the time for.
    """

    def __init__(self, spec: Supervisor, path: str) -> None:
        self.path = path
        self.phase: Literal["new", "booting", "up", "ending", "over"] = "new"
        self.outcome: p.StartFailed | p.GiveUp | p.Stopped | None = None
        self.roster = Roster()
        self.window = RestartWindow(spec.intensity, spec.period)
        self.hold = False  # a group is going down to come up again: nothing starts before it is down
        self.history: deque[p.Decision] = deque(maxlen=HISTORY)
        self.actions: list[p.Action] = []
        self.adopt(spec)

    def adopt(self, spec: Supervisor) -> None:
        """What `spec` says of the supervisor itself holds from now on."""
        self.spec = spec
        self.simple = spec.strategy == "simple_one_for_one"
        self.grouped = spec.strategy in ("one_for_all", "rest_for_one")
        self.window.limit, self.window.period = spec.intensity, spec.period

    def keeps(self, slot: Slot) -> bool:
        """Whether the child is still known when it has ended."""
        return slot.spec.restart != "temporary" and not self.simple

    def end(self, outcome: p.StartFailed | p.GiveUp | p.Stopped) -> None:
        """Stop all that is up, then end with ``outcome``. The first outcome stands."""
        if self.phase in ("ending", "over"):
            return
        self.phase = "ending"
        self.outcome = outcome
        for slot in self.roster:
            self.roster.release(slot)
            self.roster.doom(slot)
            if not slot.alive:
                slot.rest()
            if slot.asked is not None:
                self.reply(slot.asked, SupervisorStopped(self.path))
                slot.asked = None

    def stop(self, slot: Slot) -> None:
        """Give out the stop of what lives in the slot."""
        self.roster.begin_stop(slot)
        assert slot.incarnation is not None
        self.actions.append(p.StopChild(slot.id, slot.incarnation, slot.spec))

    def reply(self, request: p.Request, error: p.Refusal | None = None) -> None:
        """Answer a request with success or ``error``."""
        self.actions.append(p.Reply(request, error=error))

    def note(
        self, now: float, slot: Slot, verdict: p.Verdict, *, window: RestartWindow | None = None, delay: float = 0.0
    ) -> None:
        """Tell and remember a decision; ``window``: the one that counts for it, if not the supervisor's."""
        window = window or self.window
        decision = p.Decision(
            time=now,
            child=slot.id,
            incarnation=slot.incarnation,
            reason=slot.reason,
            verdict=verdict,
            delay=delay,
            used=window.used(now),
            limit=window.limit,
            period=window.period,
        )
        self.history.append(evolve(decision, reason=in_writing(slot.reason)))
        self.actions.append(p.Note(decision))
