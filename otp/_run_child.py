"""How a child is run, and how each way to end becomes an exit reason.

All children, whatever they are, run inside :func:`run_child`, which turns each way to end into one :data:`ExitReason`.
Nothing escapes from there: an exception that got into the nursery would make trio cancel the siblings, and whether they
go on is for the supervisor to decide.

A supervisor is a child like any other, and runs children: it is handed how.
"""

from __future__ import annotations

import inspect
import math
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NoReturn

import trio

from ._child import Behaviour, ChildContext
from ._current import CURRENT
from ._errors import InitTimeout, NeverStarted
from ._exit import KILLED, Crashed, ExitReason, Ignore, Killed, Normal, Shutdown, Stop
from ._spec import Supervisor
from ._supervisor import SupervisorTask
from ._unread import close_mailbox
from ._unwrap import unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._life import Life, Outcome


async def run_child(take: Callable[[], Life | None]) -> None:
    """Live one life: tell the supervisor that the child is up, and what it ended with. Raises nothing.

    `take` says which life it is when the task begins to run; if it says none, that is all.
    """
    life = take()
    if life is None:
        return
    CURRENT.set(life)
    runtime, spec = life.runtime, life.spec
    outcome: Outcome = KILLED
    # One function, however long: an idle child is the frames that it waits in, and there are many of them.
    try:
        if spec.name is not None:
            runtime.registry.register(spec.name, life.ref)
        if life.stop_asked:
            outcome = Shutdown()
        else:
            made = runtime.make(spec)
            if isinstance(made, Supervisor):
                made = SupervisorTask(made, run_child)
            if not inspect.iscoroutine(made):
                life.winds_down = True
                life.parent.child_begins(life)
            with life.scope:
                if isinstance(made, Behaviour):
                    life.behaviour = made
                    await made.serve(ChildContext(life))
                elif inspect.iscoroutine(made):
                    life.started()
                    await made
                elif isinstance(made, AbstractAsyncContextManager):
                    async with made:
                        life.started()
                        await ChildContext(life).stopping.wait()
                else:
                    _refuse(life, made)
            outcome = _reason(life)
    except BaseException as raised:  # (this is the one place where a child's errors end)
        match unwrap(raised):
            case trio.Cancelled() if trio.current_effective_deadline() == -math.inf:
                # Not by our own scope, so the nursery itself goes down: that of the supervisor was cut short.
                raise
            case Ignore() as ignore:
                outcome = Crashed(ignore) if life.up else "ignored"
            case Stop() as stop:
                outcome = stop.exit_reason()
            case error:
                outcome = Crashed(error)
                # (A Cancelled that is none of ours was brought here from another task: a mistake like any other.)
                if not isinstance(error, Exception | trio.Cancelled):
                    # Ctrl-C or sys.exit hit whatever task was running: not this child's failure but the program's end.
                    runtime.interrupt(error)
    finally:
        # Names are free and callers are answered before anybody hears of the exit: who hears of it may start anew.
        if spec.name is not None:
            runtime.registry.release(spec.name, life.ref)
        reason = Normal() if outcome == "ignored" else outcome
        close_mailbox(life, reason)
        life.end(reason)
        if life.has_conditions:
            runtime.conditions.clear(life.path)
        runtime.stopping.pop(life, None)
        life.parent.child_ended(life, outcome)
        life.over()


def _refuse(life: Life, made: object) -> NoReturn:
    raise TypeError(
        f"the start of child {life.path!r} returned {made!r}; allowed are a coroutine, a Behaviour "
        f"such as an Actor, an async context manager, or a Supervisor"
    )


def _reason(life: Life) -> ExitReason:
    """The exit reason of a child that did not raise: it returned, or its scope was cancelled."""
    if life.failure is not None:
        raise life.failure
    too_late = life.stop_asked and trio.current_time() > life.stop_deadline
    if life.scope.cancelled_caught:
        if not life.up:
            if not life.stop_asked:
                raise InitTimeout(life.path, life.spec.init_timeout)
            return Shutdown()
        # A plain task is stopped by cancelling it, so that alone is no force.
        forced = life.winds_down or life.spec.shutdown == "brutal" or too_late
        return Killed() if forced else Shutdown()
    if life.cut_short or too_late:
        return Killed()
    if life.exit_reason is not None:
        return life.exit_reason
    if life.stop_asked and life.winds_down:
        return Shutdown()
    if not life.up:
        raise NeverStarted(life.path)
    return Normal()
