"""A child within a child: run one more life inside the own one, without a supervisor in between.

For a behaviour that decides *when* something else lives: while a lease is held, or for one job of a queue. The guest
has its own context, mailbox and path (``"app/jobs/<id>"``) and is started, stopped and cleaned up like any child. It is
not restarted: how it ends is how the hosting block ends, and what follows from that is the host's business, or that of
the host's supervisor. Its events say that it is a guest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from ._child import ChildContext, life_of
from ._exit import Crashed, ExitReason, Normal
from ._life import Life, Outcome
from ._lifecycle import tell_end, tell_up
from ._run_child import run_child

if TYPE_CHECKING:
    from ._spec import ChildSpec
    from ._supervisor_ref import SupervisorRef


@final
class _House:
    """What the guest sees as its parent: the host's place in the tree, and a nursery of its own."""

    has_guests = True

    def __init__(self, host: ChildContext, nursery: trio.Nursery) -> None:
        self._host = host
        self.nursery = nursery
        self.outcome: Outcome | None = None

    @property
    def path(self) -> str:
        return self._host.path

    @property
    def ref(self) -> SupervisorRef:
        return self._host.supervisor

    def child_begins(self, life: Life) -> None:
        """Its own scope watches the time of its init."""
        life.scope.deadline = trio.current_time() + life.spec.init_timeout

    def child_up(self, life: Life) -> None:
        """Nobody waits for it: the host is up, and knows by itself what its guest is for."""
        tell_up(life, trio.current_time())

    def child_ending(self, life: Life, by: float) -> None:
        """Whether the host is stuck is for the host's supervisor to see."""

    def child_hurried(self, life: Life, since: float) -> None:
        """The same."""

    def child_ended(self, life: Life, outcome: Outcome) -> None:
        self.outcome = outcome
        tell_end(life, outcome, trio.current_time())
        self.nursery.cancel_scope.cancel(reason=f"{life.path} has ended")


async def host(
    context: ChildContext, spec: ChildSpec, *, stop: trio.Event | None = None, lend_mailbox: bool = False
) -> ExitReason:
    """Live one life of the child `spec` inside the child of `context`, and return how it ended.

    Cancelling this cancels the guest; its cleanup runs within the `shutdown` time of `spec`.

    Args:
        context: the host's.
        spec: the guest's. Its `restart` does not matter here.
        stop: asks the guest to stop when it is set, in the way its kind and `shutdown` say.
        lend_mailbox: what is sent to the host, by its ref or name, is for the guest while that lives.

    Returns:
        The guest's exit reason, if that is not a crash. Asking to be ignored in its init counts as `Normal`.

    Raises:
        Exception: what the guest crashed with, with its traceback.
    """
    host_life = life_of(context)
    try:
        async with trio.open_nursery() as nursery:
            house = _House(context, nursery)
            guest = Life(spec, next(context.runtime.guest_numbers), house, context.runtime)
            if lend_mailbox:
                host_life.ref.forward_to(guest.box)
            if stop is not None:
                nursery.start_soon(_ask_to_stop_after, stop, guest)
            # A task of its own: the current context is a context variable, and the host's must stay the host's.
            nursery.start_soon(run_child, lambda: guest)
    finally:
        if lend_mailbox:
            host_life.ref.forward_to(host_life.box)
    match house.outcome:
        case Crashed(exception):
            raise exception
        case None | "ignored":
            return Normal()
        case reason:
            return reason


async def _ask_to_stop_after(stop: trio.Event, guest: Life) -> None:
    await stop.wait()
    guest.ask_to_stop()
