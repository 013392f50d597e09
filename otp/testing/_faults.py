"""Make children fail when it suits the test: at a chosen moment, the n-th message, the next three starts."""

from __future__ import annotations

import inspect
import math
from contextlib import AbstractAsyncContextManager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard, cast, final, get_args, overload

import attrs
import trio

from .. import _checks as checks
from .._actor import Actor
from .._child import Behaviour, ChildContext, current_context
from .._life import life_at
from .._spec import ChildSpec, Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType

    from .._ref import Ref

Moment: TypeAlias = Literal["start", "message", "call", "stop"]
Fault: TypeAlias = "BaseException | type[BaseException] | Callable[[], Awaitable[object]]"


class Injected(Exception):
    """The error of a crash that a test has asked for."""


def crash(ref: Ref, error: BaseException | None = None) -> None:
    """Make the child crash now, wherever it is: what it waits for is cancelled, then it ends with `error`.

    It is as if one of its helper tasks had failed. The crash has happened when the tasks have run; see :func:`settle`.

    Args:
        ref: An actor, a task, a context manager; not a supervisor, which crashes when its children do.
        error: Default: :exc:`Injected`.

    Raises:
        TypeError: for a supervisor.
    """
    life = life_at(ref)
    if life.supervisor is not None or (life.spec.is_supervisor and not life.up):
        raise TypeError(f"{ref.path} is a supervisor: make one of its children crash")
    life.fail(Injected(f"into {ref.path}") if error is None else error)


def refuse(seconds: float) -> Callable[[], Awaitable[None]]:
    """A fault for `Faults`: go on for so long and do not obey, whoever cancels; then go on as usual."""
    checks.seconds("seconds", seconds)

    async def go_on() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)

    return go_on


@attrs.define(eq=False)
class _Plan:
    path: str
    moment: Moment
    fault: Fault
    ahead: int  # of the first one that fails
    times: float

    def __str__(self) -> str:
        return f"{self.moment} of {self.path}: {self.fault!r}"


@final
class Faults:
    """Faults that wait for their moment in the children of a tree.

    ::

        faults = Faults()
        faults.at("app/ledger", "start", ConnectionError, times=3)   # from the next start on, three fail
        faults.at("app/ledger", "message", Stop, nth=2)              # the second message: a normal exit
        faults.at("app/jobs/worker", "call", trio.sleep_forever)     # the next call hangs
        faults.at("app/poller", "stop", refuse(60.0))                # does not obey for a minute
        async with open_supervisor(faults.around(app)) as supervisor:
            ...

    They can be placed before the tree starts and at any time later.
    """

    def __init__(self) -> None:
        self._plans: list[_Plan] = []

    @overload
    def around(self, tree: Supervisor) -> Supervisor: ...
    @overload
    def around(self, tree: ChildSpec) -> ChildSpec: ...
    def around(self, tree: Supervisor | ChildSpec) -> Supervisor | ChildSpec:
        """The same tree, or child, with places for faults in all its children, also those it makes later.

        Who is added by ``start_child`` gets some by ``start_child(faults.around(spec))``.
        """
        return self._around_tree(tree) if isinstance(tree, Supervisor) else self._around_child(tree)

    def at(self, path: str, moment: Moment, fault: Fault, *, nth: int = 1, times: float = 1) -> None:
        """Let the child at `path` fail at such a moment.

        Args:
            path: The whole path, ``"app/ledger"``; those of a supervisor's own children, not of supervisors.
            moment: "start": before its init. "message", "call": instead of handling one (actors only). "stop": before
                an actor's `terminate`, and otherwise when it ends, for whatever reason.
            fault: An exception (class) to raise: any error, `Stop` for a normal exit, `Ignore` at the start. Or an
                async function to await first: ``trio.sleep_forever`` to hang, :func:`refuse` not to obey, any other for
                what else may happen; after it the child goes on as usual.
            nth: At the n-th such moment from now on, whatever the incarnation.
            times: And at how many in a row; ``math.inf`` for all that come.

        Raises:
            ValueError: if an argument makes no sense.
            TypeError: if `fault` is neither an exception nor a function.
        """
        checks.text("path", path)
        checks.choice("moment", moment, get_args(Moment))
        if not callable(fault) and not isinstance(fault, BaseException):
            raise TypeError(f"fault must be an exception or an async function, not {fault!r}")
        checks.whole("nth", nth, least=1)
        if times != math.inf:
            checks.whole("times", times, least=1)
        self._plans.append(_Plan(path, moment, fault, nth - 1, times))

    def clear(self) -> None:
        """Take back all that have not happened."""
        self._plans.clear()

    @property
    def waiting(self) -> list[str]:
        """The faults that have not happened, or not as often as they should, one line each."""
        return [str(plan) for plan in self._plans]

    def _due(self, moment: Moment) -> Fault | None:
        """The fault for the child that runs, if this is the moment of one; counts the moment."""
        path = current_context().path
        due: Fault | None = None
        for plan in list(self._plans):
            if plan.moment != moment or plan.path != path:
                continue
            if plan.ahead:
                plan.ahead -= 1
            elif due is None:
                due = plan.fault
                plan.times -= 1
                if not plan.times:
                    self._plans.remove(plan)
        return due

    async def _happen(self, moment: Moment) -> None:
        fault = self._due(moment)
        if fault is not None:
            await _carry_out(fault)

    # -- where the faults are placed ------------------------------------------------------------------------

    def _around_tree(self, tree: Supervisor) -> Supervisor:
        return attrs.evolve(tree, children=tuple(map(self._around_child, tree.children)))

    def _around_child(self, spec: ChildSpec) -> ChildSpec:
        start = spec.start
        return attrs.evolve(
            spec, start=self._around_tree(start) if isinstance(start, Supervisor) else self._around_start(start)
        )

    def _around_start(self, start: Callable[..., object]) -> Callable[..., object]:
        @wraps(start, updated=())  # so it keeps its name, and what arguments it takes can be checked
        def make(*args: object) -> object:
            fault = self._due("start")
            if fault is not None and _is_error(fault):
                raise fault
            made = start(*args)
            if isinstance(made, Supervisor):
                return self._around_tree(made)
            if isinstance(made, Behaviour):
                return self._around_behaviour(made, fault)
            if inspect.iscoroutine(made):
                return self._around_task(made, fault)
            if isinstance(made, AbstractAsyncContextManager):
                made = cast("AbstractAsyncContextManager[object]", made)
                return _Around(made, partial(_carry_out, fault), partial(self._happen, "stop"))
            return made

        return make

    def _around_behaviour(self, made: Behaviour, fault: Fault | None) -> Behaviour:
        # Instance attributes, as no subclass made here would be the class under test; and it may be a frozen one.
        if not isinstance(made, Actor):
            object.__setattr__(made, "serve", self._around_serve(made.serve, fault))
            return made
        init, terminate = made.init, made.terminate

        async def init_after() -> None:
            await _carry_out(fault)
            await init()

        async def terminate_after(reason: object) -> None:
            await self._happen("stop")
            await terminate(cast("Any", reason))

        object.__setattr__(made, "init", init_after)
        object.__setattr__(made, "terminate", terminate_after)
        object.__setattr__(made, "handle_message", self._around_handler("message", made.handle_message))
        object.__setattr__(made, "handle_call", self._around_handler("call", made.handle_call))
        return made

    def _around_handler(
        self, moment: Moment, handle: Callable[[object], Awaitable[object]]
    ) -> Callable[[object], Awaitable[object]]:
        async def handle_after(message: object) -> object:
            await self._happen(moment)
            return await handle(message)

        return handle_after

    def _around_serve(
        self, serve: Callable[[ChildContext], Awaitable[None]], fault: Fault | None
    ) -> Callable[[ChildContext], Awaitable[None]]:
        async def serve_after(context: ChildContext) -> None:
            await _carry_out(fault)
            try:
                await serve(context)
            finally:
                await self._happen("stop")

        return serve_after

    async def _around_task(self, task: Coroutine[object, object, object], fault: Fault | None) -> None:
        try:
            await _carry_out(fault)
            await task
        finally:
            task.close()  # if it has not begun
            await self._happen("stop")


class _Around(AbstractAsyncContextManager[object]):
    """A context manager with places for faults."""

    def __init__(
        self,
        inner: AbstractAsyncContextManager[object],
        before: Callable[[], Awaitable[None]],
        after: Callable[[], Awaitable[None]],
    ) -> None:
        self._inner = inner
        self._before = before
        self._after = after

    async def __aenter__(self) -> object:
        await self._before()
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            await self._after()
        finally:
            handled = await self._inner.__aexit__(kind, error, trace)
        return handled


def _is_error(fault: Fault) -> TypeGuard[BaseException | type[BaseException]]:
    return isinstance(fault, BaseException) or (inspect.isclass(fault) and issubclass(fault, BaseException))


async def _carry_out(fault: Fault | None) -> None:
    if fault is None:
        return
    if _is_error(fault):
        raise fault
    await cast("Callable[[], Awaitable[object]]", fault)()
