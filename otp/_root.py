"""The root of a tree, and the front door: `async with open_supervisor(...)`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

import trio

from . import _checks as checks
from ._current import CURRENT
from ._errors import NotAlive
from ._exit import Crashed
from ._life import Life, Outcome
from ._log import log_events
from ._run_child import run_child
from ._runtime import Runtime
from ._spec import Supervisor, child
from ._supervisor import SupervisorTask
from ._unwrap import unwrap

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from ._statistics import SupervisorStatistics
    from ._supervisor_ref import SupervisorRef


@asynccontextmanager
async def open_supervisor(
    supervisor: Supervisor, *, name: str = "app", runtime: Runtime | None = None, log: bool = True
) -> AsyncGenerator[SupervisorRef]:
    """Run a supervision tree for as long as the `async with` block lasts.

    ::

        async with open_supervisor(Supervisor([child(Ledger), child(poll_feed)])) as supervisor:
            total = await supervisor.ref("Ledger").call(GetTotal())

    The block is entered when all children have started. However it is left, the tree is stopped first, in order, each
    child within its own shutdown time: at its end, by an exception (`KeyboardInterrupt` too), or because a scope
    around it was cancelled. After that no task of the tree is left, and then the exception goes on. (In OTP a
    supervisor that is killed may leave orphans; here there is no way to do that.)

    Args:
        supervisor: The root, as a value.
        name: The first part of every path in the tree; not empty, without a slash.
        runtime: What the tree shares, for who wants to subscribe to its events before it starts; default: a new one.
        log: Whether to write what happens in the tree to the logger ``otp``, see :func:`log_events`.

    Raises:
        FailedToStart: if a child did not start; those before it have been stopped again.
        GaveUp: if the root supervisor gave up. The block is cancelled then.
        BaseExceptionGroup: of both, if the tree failed while the block raised an error of its own.
        TypeError, ValueError: if an argument is not allowed.
    """
    checks.instance("supervisor", supervisor, Supervisor, "a Supervisor")
    checks.text("name", name, without="/")
    checks.instance("runtime", runtime, Runtime | None, "a Runtime or None")
    root = _Root(supervisor, name, Runtime() if runtime is None else runtime)
    unsubscribe = log_events(root.runtime.events) if log else None
    before = CURRENT.get()
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as outside:
            outside.start_soon(root.run, outside.cancel_scope)
            try:
                await root.settled.wait()
                if root.outcome is None:
                    CURRENT.set(root.life)
                    yield root.supervisor
            finally:
                root.stop()  # the nursery waits for it, and cannot be kept from that
    except BaseExceptionGroup as group:
        # Nothing but the body can raise in that nursery, so there is one exception in it.
        error = group.exceptions[0]
    except BaseException as alone:  # noqa: BLE001  (raised again below)
        error = alone
    finally:
        CURRENT.set(before)
        if unsubscribe is not None:
            unsubscribe()
    _raise_first(root.runtime.interrupted, root.failure(), error)


def _raise_first(interrupted: BaseException | None, failure: BaseException | None, body: BaseException | None) -> None:
    """Raise what the caller should see of what the tree and the block's body ended with."""
    if interrupted is not None:
        raise interrupted
    if failure is None:
        if body is not None:
            raise body
    elif body is None or isinstance(unwrap(body), trio.Cancelled | NotAlive):
        # The body merely noticed that the tree was going down.
        raise failure
    elif not isinstance(body, Exception):
        raise body
    else:
        raise BaseExceptionGroup("a supervision tree ended while its block raised", [failure, body])


@final
class _Root:
    """What the root supervisor has for a parent: the task it runs in, and where its outcome is kept."""

    path = ""
    has_guests = False

    def __init__(self, supervisor: Supervisor, name: str, runtime: Runtime) -> None:
        self.runtime = runtime
        self.life = Life(child(supervisor, id=name), 1, self, runtime)
        self.settled = trio.Event()
        self.outcome: Outcome | None = None
        self._stopping = False

    async def run(self, outside: trio.CancelScope) -> None:
        """Run the tree. When it ends although nobody asked for that, cancel what is going on `outside`."""
        self.runtime.on_interrupt.append(lambda: outside.cancel(reason="Ctrl-C, or sys.exit in a child"))
        self.runtime.root = self
        self.runtime.now = trio.lowlevel.current_clock().current_time
        # A cancellation from outside must not reach the children: it would stop all of them at once. It reaches the
        # body of the `async with`, and that stops the tree in order.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self.nursery:
                self.nursery.start_soon(self.runtime.calls.run)
                self.nursery.start_soon(self.runtime.timers.run)
                await run_child(lambda: self.life)
                self.nursery.cancel_scope.cancel(reason="the tree has ended")
        if not self._stopping:
            outside.cancel(reason="the supervision tree has ended")

    @trio.lowlevel.enable_ki_protection  # Ctrl-C before the tree is asked would wait for it for ever
    def stop(self) -> None:
        """Stop the tree in order; comes back at once."""
        self._stopping = True
        self.runtime.up = False
        self.life.ask_to_stop()

    def failure(self) -> BaseException | None:
        """What the tree failed with, if it failed."""
        return self.outcome.exception if isinstance(self.outcome, Crashed) else None

    def statistics(self) -> SupervisorStatistics | None:
        """The tree in numbers."""
        return None if self._task is None else self._task.statistics()

    def parked(self) -> Iterable[str]:
        """The children that are parked."""
        return () if self._task is None else self._task.parked()

    def stuck(self) -> Iterable[str]:
        """The children that are stuck."""
        return () if self._task is None else self._task.stuck()

    @property
    def _task(self) -> SupervisorTask | None:
        """What runs the root supervisor, from when it runs."""
        behaviour = self.life.behaviour
        return behaviour if isinstance(behaviour, SupervisorTask) else None

    @property
    def supervisor(self) -> SupervisorRef:
        """The root supervisor."""
        supervisor = self.life.supervisor
        assert supervisor is not None
        return supervisor

    @property
    def ref(self) -> SupervisorRef:
        """As the parent of the root, which has none: itself."""
        return self.supervisor

    def child_begins(self, life: Life) -> None:
        """A supervisor has no limit of its own: its children have theirs."""

    def child_up(self, life: Life) -> None:  # noqa: ARG002
        """All children have started."""
        self.runtime.up = True
        self.settled.set()

    def child_ending(self, life: Life, by: float) -> None:
        """It is a supervisor: that waits for its children, and says who is stuck."""

    def child_hurried(self, life: Life, since: float) -> None:
        """Nor has it a time of its own that could become less."""

    def child_ended(self, life: Life, outcome: Outcome) -> None:  # noqa: ARG002
        """The tree has ended."""
        self.runtime.root = None
        self.runtime.up = False
        self.outcome = outcome
        self.settled.set()
