"""What others ask of a supervisor: each request is answered exactly once, some of them later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _protocol as p  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._errors import FailedToStart
from ._exit import Shutdown
from ._refusals import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    MaxChildren,
    SupervisorError,
    WrongStrategy,
)
from ._spec import check_significant, instance_of

if TYPE_CHECKING:
    from ._core_state import CoreState
    from ._roster import Slot


class Requests:
    """Serves the requests, at any time from the start of the supervisor until it begins to end."""

    def __init__(self, state: CoreState) -> None:
        self._state = state
        self._roster = state.roster
        self._instances = 0

    def serve(self, request: p.AddChild | p.StartInstance | p.TerminateChild | p.RestartChild | p.DeleteChild) -> None:
        """Do what is asked for, or refuse it."""
        match request:
            case p.AddChild():
                self._add(request)
            case p.StartInstance():
                self._start_instance(request)
            case p.TerminateChild():
                self._terminate(request)
            case p.RestartChild():
                self._restart(request)
            case p.DeleteChild():
                self._delete(request)

    def came_up(self, slot: Slot) -> None:
        """The start of the slot is over, and a success (also without a child, when its init said so)."""
        assert slot.asked is not None
        self._state.actions.append(p.Reply(slot.asked, child=slot.state()))
        slot.asked = None

    def came_to_nothing(self, slot: Slot) -> None:
        """The start that was asked for has failed: what it added is not kept, the rest stays what it was."""
        request, slot.asked = slot.asked, None
        assert request is not None
        self._state.reply(request, FailedToStart(self._state.path, slot.id, slot.reason))
        if slot.parked:
            self._roster.release(slot)  # also from what its group has done with it meanwhile
        elif not isinstance(request, p.RestartChild) or not self._state.keeps(slot):
            self._roster.drop(slot)
        slot.rest()

    def went_down(self, slot: Slot) -> None:
        """Whoever asked for its end has it."""
        for request in slot.stoppers:
            self._state.reply(request)
        slot.stoppers = ()

    # -- one by one ---------------------------------------------------------------------------------------

    def _add(self, request: p.AddChild) -> None:
        spec = request.spec
        if self._state.simple:
            self._refuse(request, WrongStrategy, spec.id)
        elif (present := self._roster.get(spec.id)) is not None:
            self._refuse_present(request, present)
        else:
            try:
                check_significant(spec, self._state.spec.auto_shutdown)
            except ValueError as error:
                self._state.reply(request, error)
            else:
                self._start(self._roster.add(spec), request)

    def _start_instance(self, request: p.StartInstance) -> None:
        state = self._state
        if not state.simple:
            state.reply(request, WrongStrategy(state.path))
            return
        (template,) = state.spec.children
        id_ = f"{template.id}:{self._instances + 1 if request.key is None else request.key}"
        limit = state.spec.max_children
        if (present := self._roster.get(id_)) is not None:
            self._refuse_present(request, present)
        elif limit is not None and len(self._roster) >= limit:
            state.reply(request, MaxChildren(state.path, limit))
        else:
            try:
                spec = instance_of(template, id_, request.args)
            except TypeError as error:
                state.reply(request, error)
                return
            self._instances += request.key is None
            self._start(self._roster.add(spec), request)

    def _terminate(self, request: p.TerminateChild) -> None:
        slot = self._roster.get(request.id)
        if slot is None:
            self._terminate_unknown(request)
            return
        self._roster.release(slot)
        slot.failures = 0
        slot.window = None
        slot.parked = False
        if slot.alive:
            slot.stoppers += (request,)
            if slot.phase != "stopping":
                self._state.stop(slot)  # at once: in OTP it would wait for whatever else starts or stops
            return
        slot.reason = Shutdown()
        self._state.reply(request)
        if slot.asked is not None:
            self.came_to_nothing(slot)
        elif not self._state.keeps(slot):
            self._roster.drop(slot)

    def _terminate_unknown(self, request: p.TerminateChild) -> None:
        template = self._state.spec.children[0].id if self._state.simple else None
        name, _, number = request.id.rpartition(":")
        if request.id == template:
            self._refuse(request, WrongStrategy, request.id)
        elif name == template and number.isdecimal() and 1 <= int(number) <= self._instances:
            self._state.reply(request)  # over already
        else:
            self._refuse(request, ChildNotFound, request.id)

    def _restart(self, request: p.RestartChild) -> None:
        slot = self._at_rest(request)
        if slot is not None:
            slot.window = None
            self._start(slot, request)

    def _delete(self, request: p.DeleteChild) -> None:
        slot = self._at_rest(request)
        if slot is not None:
            self._roster.drop(slot)
            self._state.reply(request)

    def _at_rest(self, request: p.RestartChild | p.DeleteChild) -> Slot | None:
        """The child that is asked for, if it neither lives nor is about to; otherwise this is refused."""
        slot = self._roster.get(request.id)
        status = None if slot is None else slot.status
        if self._state.simple and status != "parked":
            self._refuse(request, WrongStrategy, request.id)
        elif status is None:
            self._refuse(request, ChildNotFound, request.id)
        elif status == "restarting":
            self._refuse(request, ChildRestarting, request.id)
        elif status not in ("stopped", "parked"):
            self._refuse(request, ChildRunning, request.id)
        else:
            return slot
        return None

    def _start(self, slot: Slot, request: p.AddChild | p.StartInstance | p.RestartChild) -> None:
        slot.asked = request
        self._roster.want(slot)

    def _refuse_present(self, request: p.AddChild | p.StartInstance, slot: Slot) -> None:
        at_rest = slot.status in ("stopped", "parked", "restarting")
        self._refuse(request, AlreadyPresent if at_rest else AlreadyStarted, slot.id)

    def _refuse(self, request: p.Request, error: type[SupervisorError], id_: str) -> None:
        self._state.reply(request, error(self._state.path, id_))
