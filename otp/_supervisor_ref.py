"""A supervisor from outside: its children can be looked at, started, stopped, restarted and forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

import attrs

from ._errors import NotAlive
from ._exit import ExitReason
from ._protocol import (
    AddChild,
    Change,
    ChildCount,
    ChildState,
    DeleteChild,
    RestartChild,
    StartInstance,
    Status,
    TerminateChild,
)
from ._ref import Ref
from ._refusals import ChildNotFound
from ._spec import ChildSpec, Supervisor

if TYPE_CHECKING:
    from ._protocol import Request
    from ._runtime import Runtime
    from ._statistics import SupervisorStatistics
    from ._strategy import SupervisorCore


@attrs.frozen(kw_only=True)
class ChildInfo:
    """A child as its supervisor knows it at one moment."""

    id: str
    """Unique under its supervisor."""
    status: Status
    """Running, starting, stopping, restarting (it failed and waits to be started again), stopped, or parked (it needed
    more restarts than its :class:`RestartBudget` allows)."""
    stuck: bool
    """True if it was to end, was then cancelled, and still has not ended; see :class:`ChildStuck`."""
    ref: Ref | None
    """How to reach it; None when it is not alive."""
    reason: ExitReason | None
    """What its last incarnation ended with; None if it is alive or has never been. Of one that stays down, a crash is
    in writing (:exc:`RecordedError`)."""
    spec: ChildSpec
    """What it was started from, or would be."""


class Administration(Protocol):
    """What a ref needs of the supervisor: to be asked, and to be looked at. Who its children are, its core knows."""

    @property
    def path(self) -> str:
        """Where it is in the tree."""
        ...

    @property
    def runtime(self) -> Runtime:
        """What the whole tree shares."""
        ...

    @property
    def core(self) -> SupervisorCore:
        """What it goes by, and what it knows of its children."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        ...

    async def request(self, request: Request) -> Ref | None:
        """Have the core serve `request`; return the ref of the child that was started by it, if one was."""
        ...

    def find(self, id_: str) -> Ref | None:
        """The ref of the child of that id, if it is alive."""
        ...

    def nested(self, id_: str) -> SupervisorRef | None:
        """The supervisor that runs as the child of that id, if it is alive and one."""
        ...

    def is_stuck(self, id_: str) -> bool:
        """Whether the child of that id was reported as stuck."""
        ...

    def statistics(self) -> SupervisorStatistics:
        """The supervisor and everything below it, in numbers."""
        ...


@final
class SupervisorRef:
    """One incarnation of a supervisor, from outside.

    Queries are answered at once, whatever the supervisor is doing (in OTP they wait for it). Requests are taken at any
    time, in the order in which they come, also while a restart is being retried or a child is slow to start or stop. A
    child that is to be terminated is asked to stop at once; children that are to be started are started one after
    another, and where the strategy ties them together not while one of them stops. Requests raise
    :exc:`SupervisorStopped` when the supervisor is not up, or ends before it has served them. Cancelling a request
    leaves it standing: it will be served, only nobody waits for it. A child that asks its own supervisor to stop it,
    and waits for that, waits for itself until its shutdown time is over.
    """

    __slots__ = ("_task",)

    def __init__(self, task: Administration) -> None:
        self._task = task

    def __repr__(self) -> str:
        return f"<SupervisorRef {self.path}{' (ended)' if self._task.ended else ''}>"

    @property
    def path(self) -> str:
        """Where the supervisor is in the tree; the root's is the name given to :func:`open_supervisor`."""
        return self._task.path

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet; it may be starting or stopping."""
        return not self._task.ended

    @property
    def runtime(self) -> Runtime:
        """What the whole tree shares: events, names, drain state."""
        return self._task.runtime

    # -- queries ------------------------------------------------------------------------------------------

    def ref(self, id: str) -> Ref:  # noqa: A002  (OTP's word)
        """The child of that id.

        Raises:
            ChildNotFound: if there is no such child.
            NotAlive: if it is not alive at this moment.
        """
        found = self._task.find(id)
        if found is None or not found.alive:
            self._known(id)
            raise NotAlive(f"{self.path}/{id}")
        return found

    def supervisor(self, id: str) -> SupervisorRef:  # noqa: A002
        """The child of that id, which is itself a supervisor.

        Raises:
            ChildNotFound: if there is no such child.
            NotAlive: if it is not alive at this moment.
            TypeError: if it is not a supervisor.
        """
        found = self._task.nested(id)
        if found is None:
            self.ref(id)
            if self._known(id).spec.is_supervisor:  # it has been started just now, and its task has yet to run
                raise NotAlive(f"{self.path}/{id}")
            raise TypeError(f"{self.path}/{id} is not a supervisor")
        return found

    def which_children(self) -> list[ChildInfo]:
        """All children, in start order (OTP: the newest first)."""
        return [self._info(state) for state in self._task.core.which()]

    def which_child(self, id: str) -> ChildInfo:  # noqa: A002
        """One child, alive or not; what it costs does not depend on how many there are.

        Raises:
            ChildNotFound: if there is no such child.
        """
        return self._info(self._known(id))

    def count_children(self) -> ChildCount:
        """How many children there are, and how many of them are alive."""
        return self._task.core.count()

    def get_childspec(self, id: str) -> ChildSpec:  # noqa: A002
        """The spec of a child, with its defaults filled in.

        Raises:
            ChildNotFound: if there is no such child.
        """
        return self._known(id).spec

    @property
    def spec(self) -> Supervisor:
        """What the supervisor goes by now: the spec that it was started with, or that of the last :meth:`change`."""
        return self._task.core.spec

    def statistics(self) -> SupervisorStatistics:
        """The supervisor and everything below it, in numbers, with its last decisions."""
        return self._task.statistics()

    def _known(self, id_: str) -> ChildState:
        state = self._task.core.child(id_)
        if state is None:
            raise ChildNotFound(self.path, id_)
        return state

    def _info(self, state: ChildState) -> ChildInfo:
        return ChildInfo(
            id=state.id,
            status=state.status,
            stuck=self._task.is_stuck(state.id),
            ref=None if state.incarnation is None else self._task.find(state.id),
            reason=state.reason,
            spec=state.spec,
        )

    # -- requests -----------------------------------------------------------------------------------------

    async def start_child(self, spec: ChildSpec) -> Ref | None:
        """Add a child at the end of the start order and start it.

        Returns:
            Its ref, when its init is done; None if the init asked to be left out (:exc:`Ignore`). A restart of this
            supervisor by its own parent does not bring it back: that starts from the spec of the supervisor.

        Raises:
            AlreadyStarted: if a child of that id is alive.
            AlreadyPresent: if one is there, but stopped, parked or waiting for a restart.
            FailedToStart: if it did not come up; its spec is not kept.
            ValueError: if it is significant, and this supervisor has no `auto_shutdown`.
            TypeError: if `spec` is not what :func:`child` returns, or its `start` needs arguments.
            WrongStrategy: if the supervisor is a `simple_one_for_one`; see :meth:`start_instance`.
            SupervisorStopped: if the supervisor is not up.
        """
        return await self._task.request(AddChild(spec))

    async def start_instance(self, *args: object, key: str | None = None) -> Ref | None:
        """Start an instance of the template of a `simple_one_for_one` supervisor, with `args` for its `start`.

        Args:
            args: For the template's `start`; every incarnation of the instance gets the same.
            key: Makes it the only one of its key: its id is then that of the template with the key, as in
                ``worker:tenant-7``. The key may be used again when the instance is gone. Default: the id has a number
                instead, as in ``worker:1``, which is never given twice (so a key must not be a number).

        Returns:
            Its ref, which knows its `id`; None if its init asked to be left out.

        Raises:
            AlreadyStarted: if there is an instance of that key, and it is alive.
            AlreadyPresent: if there is one, but it waits for its restart or is parked.
            MaxChildren: if there are as many instances as the `max_children` of the supervisor.
            FailedToStart: if it did not come up.
            TypeError: if the template cannot be called with these arguments.
            ValueError: if `key` is empty, a number, or has a slash in it.
            WrongStrategy: if the supervisor is none of that kind.
            SupervisorStopped: if the supervisor is not up.
        """
        return await self._task.request(StartInstance(args, key))

    async def terminate_child(self, id: str) -> None:  # noqa: A002
        """Stop a child and wait until it has ended; it is not restarted. Its spec is kept unless it is temporary.

        Succeeds also when the child is not running, or waits for a restart, which is then off. An instance is
        forgotten; to terminate one that is over already is a success, but one that had a key is then not known.

        Raises:
            ChildNotFound: if there is no such child.
            SupervisorStopped: if the supervisor is not up.
        """
        await self._task.request(TerminateChild(id))

    async def restart_child(self, id: str) -> Ref | None:  # noqa: A002
        """Start a child that is stopped or parked. This is not counted as a restart; a budget of its own begins anew.

        Raises:
            ChildNotFound: if there is no such child.
            ChildRunning: if it is alive.
            ChildRestarting: if it is being restarted anyway.
            FailedToStart: if it did not come up; it stays stopped or parked.
            WrongStrategy: if the supervisor is a `simple_one_for_one`, and the instance is not parked.
            SupervisorStopped: if the supervisor is not up.
        """
        return await self._task.request(RestartChild(id))

    async def delete_child(self, id: str) -> None:  # noqa: A002
        """Forget the spec of a child that is stopped or parked.

        Raises:
            ChildNotFound: if there is no such child.
            ChildRunning: if it is alive.
            ChildRestarting: if it is being restarted.
            WrongStrategy: if the supervisor is a `simple_one_for_one`, and the instance is not parked.
            SupervisorStopped: if the supervisor is not up.
        """
        await self._task.request(DeleteChild(id))

    async def change(self, spec: Supervisor) -> None:
        """Go on under another spec, without stopping anybody (OTP does so when code is upgraded).

        - Strategy, limits, `backoff`, `auto_shutdown` and `max_children` hold from now on; the window keeps what it has
          counted. (Restarts that a shorter `period` leaves out are forgotten by the next restart, not before.)
        - A child that `spec` knows by its id gets the new fields and goes on living. `restart`, `shutdown`,
          `significant`, `backoff` and `budget` hold at once; `start`, `name`, `init_timeout` and `mailbox` for its next
          incarnation. So does another `Supervisor` as its `start`: to change the one that runs, change that, too.
        - A child that is new in `spec` is added, but not started: :meth:`restart_child` does that.
        - A child that is not in `spec` stays as it is: :meth:`terminate_child` and :meth:`delete_child` end it.
        - The start order is that of `spec`, then those that it does not know, in the order they had.
        - The template of a `simple_one_for_one` is replaced: the next incarnations of the instances there are, and
          new ones, are made by the new one. Instances beyond a lower `max_children` live on.

        It is done at once, in whatever state the supervisor is. What is under way goes on: children that start or stop
        finish that, and those that were taken down for a restart come back from it, when their wait is over; but
        whose start fails after it has become temporary is not tried again. It does not outlast the supervisor: one that
        its own parent restarts begins with the spec that the parent has.

        Raises:
            ValueError: if the strategy would change to or from `simple_one_for_one`, or the id of its template.
            TypeError: if `spec` is no `Supervisor`, or the new template cannot take the arguments of an instance.
            SupervisorStopped: if the supervisor is not up.

        In all these cases nothing is changed.
        """
        await self._task.request(Change(spec))
