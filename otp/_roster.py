"""The children of one supervisor in start order: what each is doing, and who is next to start or to stop."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, Literal

from attrs import define

from ._exit import ExitReason, Normal, in_writing
from ._intensity import RestartWindow
from ._protocol import AddChild, ChildState, RestartChild, StartInstance, Status, TerminateChild
from ._spec import ChildSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NORMAL: Final = Normal()


@define(eq=False, weakref_slot=False)
class Slot:
    """The place of one child: it stays while incarnations come and go. There may be 100 000, so it is small."""

    spec: ChildSpec
    position: int  # in the start order; only ever compared

    phase: Literal["down", "starting", "running", "stopping"] = "down"
    incarnation: int | None = None  # the one that is alive, or the last that was
    up_since: float | None = None
    reason: ExitReason = _NORMAL  # of the last one that ended
    failures: int = 0  # in a row, as backoff counts them

    due: bool = False  # to be started, when it is its turn
    doomed: bool = False  # to be stopped, when it is its turn
    restarting: bool = False  # failed, and to come back
    generation: int | None = None  # of the restart that waits to bring it back
    window: RestartWindow | None = None  # of its own budget, once it has used some
    parked: bool = False  # needed more restarts than that allows, and has not come up since

    asked: AddChild | StartInstance | RestartChild | None = None  # answered when it is up, or is not
    stoppers: tuple[TerminateChild, ...] = ()  # answered when it is down

    @property
    def id(self) -> str:
        """The child's id."""
        return self.spec.id

    @property
    def alive(self) -> bool:
        """Whether there is an incarnation, be it on its way up or down."""
        return self.phase != "down"

    @property
    def status(self) -> Status:
        """What is shown of it."""
        if self.phase != "down":
            return self.phase
        if self.restarting:
            return "restarting"
        if self.due:
            return "starting"
        return "parked" if self.parked else "stopped"

    @property
    def returns(self) -> bool:
        """Whether something lives here, or will again, without anybody asking for it: OTP's `has a pid`.

        What is on its way down counts only if it is to come back. Who is parked has not ended for good.
        """
        if self.due or self.restarting or self.parked or self.generation is not None:
            return True
        return self.phase in ("starting", "running") and not self.doomed

    def state(self) -> ChildState:
        """What is told of it."""
        if self.alive:
            return ChildState(self.id, self.status, self.incarnation, None, self.spec)
        return ChildState(self.id, self.status, None, None if self.incarnation is None else self.reason, self.spec)

    def rest(self) -> None:
        """It stays down for now: of what it ended with only a record is kept, since nobody is to be told any more."""
        self.reason = in_writing(self.reason)


class Roster:
    """All slots in start order, with the queues of who is due and who is doomed.

    The queues are heaps whose entries are checked when they are taken: a slot that is no longer due or doomed
    leaves a dead entry behind. So the cost of one start or stop does not grow with the number of children.
    """

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self._positions = 0
        self._due: list[tuple[int, Slot]] = []  # first in start order first
        self._doomed: list[tuple[int, Slot]] = []  # last in start order first
        self.starting: Slot | None = None
        self.stopping = 0
        self.alive = 0

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, id_: str) -> Slot | None:
        """The slot of that id."""
        return self._slots.get(id_)

    def add(self, spec: ChildSpec) -> Slot:
        """A new slot at the end of the start order."""
        self._positions += 1
        slot = self._slots[spec.id] = Slot(spec, self._positions)
        return slot

    def drop(self, slot: Slot) -> None:
        """Forget the slot, and whatever was still to come of it."""
        del self._slots[slot.id]
        self.release(slot)

    def release(self, slot: Slot) -> None:
        """Nothing more is to be started in this slot."""
        slot.due = slot.restarting = False
        slot.generation = None

    def reorder(self, ids: Iterable[str]) -> None:
        """Make this the start order; those that are not in it come behind, in the order in which they are."""
        before = self._slots
        self._slots = {id_: before[id_] for id_ in (*ids, *before)}
        self._positions = len(before)
        for position, slot in enumerate(self, 1):
            slot.position = position
        self._due = [(slot.position, slot) for slot in self if slot.due]
        self._doomed = [(-slot.position, slot) for slot in self if slot.doomed]
        heapify(self._due)
        heapify(self._doomed)

    @property
    def due(self) -> int:
        """How many are to be started, at most: some in the queue may not be due any more."""
        return len(self._due)

    def want(self, slot: Slot) -> None:
        """The slot is to be started."""
        if not slot.due:
            slot.due = True
            heappush(self._due, (slot.position, slot))

    def doom(self, slot: Slot) -> None:
        """What lives in the slot is to be stopped."""
        if slot.alive and slot.phase != "stopping" and not slot.doomed:
            slot.doomed = True
            heappush(self._doomed, (-slot.position, slot))

    def next_due(self) -> Slot | None:
        """The first in start order that is to be started."""
        while self._due:
            slot = self._due[0][1]
            if slot.due:
                return slot
            heappop(self._due)
        return None

    def next_doomed(self) -> Slot | None:
        """The last in start order that is to be stopped."""
        while self._doomed:
            slot = self._doomed[0][1]
            if slot.doomed:
                return slot
            heappop(self._doomed)
        return None

    def begin_start(self, slot: Slot, incarnation: int) -> None:
        """The slot has its turn: a new incarnation is on its way up."""
        slot.due = False
        slot.phase = "starting"
        slot.incarnation = incarnation
        slot.up_since = None
        self.starting = slot
        self.alive += 1

    def came_up(self, slot: Slot) -> None:
        """The start that was under way is over: it is up."""
        self.starting = None
        if slot.phase == "starting":
            slot.phase = "running"
            slot.reason = _NORMAL  # of the one before nothing more is to be told

    def begin_stop(self, slot: Slot) -> None:
        """The slot has its turn: what lives in it is on its way down."""
        slot.doomed = False
        slot.phase = "stopping"
        self.stopping += 1

    def ended(self, slot: Slot, reason: ExitReason) -> None:
        """The incarnation is gone."""
        if slot is self.starting:
            self.starting = None
        if slot.phase == "stopping":
            self.stopping -= 1
        slot.phase = "down"
        slot.doomed = False
        slot.reason = reason
        self.alive -= 1
