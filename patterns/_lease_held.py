"""A child that works only where its lease is held; everywhere else it stands by.

In a rolling deploy two pods have the same actor for a while, always. So an actor with a durable name takes a lease on that name,
fenced by an epoch, and its copies in the other pods wait. Standing by counts as started and ready: if it did not, a rollout with
``maxUnavailable: 0`` would wait for the new pod to be ready, and the new pod for the old one to go.

A lost lease, and a store that cannot be reached, bring the child back to standing by after a pause. The supervisor sees nothing of
that and counts no restart. Any other exception is a crash like that of any child; the lease is given back first.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any

import attrs
import trio

from checkpoints import NameLeases
from otp import Actor, Behaviour, ChildContext, ChildSpec, child, host
from otp.engines import Engine, Lease, LeaseLost, StoreError, StoreUnavailable

from ._events import StandingBy, SteppedDown, TookOver
from ._intake import RELEASE_TIME, Intake
from ._outage import BACKOFF, Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp import Start


class StandBack(Exception):
    """Raised while leading, to let another process have a go: give the lease back and wait a little before standing by again."""


class LeaseHeld(Behaviour):
    """Base of the children that lead where the lease of their durable name is held. Subclass it and write `lead`."""

    def __init__(self, engine: Engine[Any], durable_name: str) -> None:
        """Lead under ``durable_name`` in ``engine``, which must be open while the child runs."""
        self.durable_name = durable_name
        self._names = NameLeases(engine)
        self._rng = random.Random()
        self._leading: trio.CancelScope | None = None
        self._held: Lease | None = None

    @abstractmethod
    async def lead(self, lease: Lease) -> None:
        """Work under the lease until the work is done or the intake is closed. Cancelled when the lease is lost."""

    async def serve(self, context: ChildContext) -> None:
        """Stand by, lead, and stand by again, until the work is done or the child is stopped."""
        self.context = context
        self.intake = Intake(context)
        context.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.intake.watch)
            await self._stand_by_and_lead()
            if self.intake.closed:
                # A drain comes before the ordered stop: ending now would be an exit that the supervisor has to deal with.
                await context.stopping.wait()
            nursery.cancel_scope.cancel(reason="the lease-held child has ended")

    async def _stand_by_and_lead(self) -> None:
        outage = Outage(self.context)
        pauses = 0
        while not self.intake.closed:
            lease: Lease | None = None
            with self.intake.waiting():
                try:
                    lease = await self._acquire()
                    outage.over()
                except StoreUnavailable as error:
                    await outage.wait(error)
            if lease is None:
                continue
            led_since = trio.current_time()
            try:
                await self._lead(lease)
            except (LeaseLost, StandBack, StoreUnavailable):
                # Longer each time, unless it led for a while: two processes must not toss the lease to and fro.
                pauses = 1 if trio.current_time() - led_since > BACKOFF.reset_after else pauses + 1
                with self.intake.waiting():
                    await trio.sleep(BACKOFF.delay(pauses, self._rng))
            else:
                return

    async def _acquire(self) -> Lease:
        """Return the lease. Acquiring it is the last thing done here, so that a cancellation cannot lose it."""
        announced = False
        while (lease := await self._names.acquire(self.durable_name)) is None:
            if not announced:
                announced = True
                self.context.emit(StandingBy(path=self.context.path, name=self.durable_name))
            await self._names.wait(self.durable_name)
        return lease

    async def _lead(self, lease: Lease) -> None:
        """Lead once, and step down whatever happens."""
        self._held = lease
        self.context.emit(TookOver(path=self.context.path, name=self.durable_name, epoch=lease.token.epoch))
        why, failure = "cancelled", None
        ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                self._leading = nursery.cancel_scope
                nursery.start_soon(self._hand_back_in_time, lease, ended)
                try:
                    with self.context.drains(), lease.guard():
                        await self.lead(lease)
                    why = "stopped" if self.intake.closed else "done"
                except Exception as error:
                    why, failure = _in_words(error), error  # not through the nursery, which would wrap it
                finally:
                    ended.set()
                nursery.cancel_scope.cancel(reason="no longer leading")
            if failure is not None:
                raise failure
        finally:
            await self._step_down(lease, why)

    def hand_back(self, why: str) -> None:
        """Cancel the leadership that is, if there is one; its lease is released when it has ended."""
        if self._leading is not None:
            self._leading.cancel(reason=why)

    async def _hand_back_in_time(self, lease: Lease, ended: trio.Event) -> None:
        """At the end of a drain, end the leadership; if it does not obey, give its lease back all the same."""
        await self.intake.wait_hand_back()
        with trio.move_on_after(RELEASE_TIME / 2, shield=True) as patience:
            self.hand_back("the time to drain was over")  # cancels this task as well, hence the shield
            await ended.wait()
        if patience.cancelled_caught:
            await self._step_down(lease, "it did not obey its cancellation")

    async def _step_down(self, lease: Lease, why: str) -> None:
        if self._held is not lease:
            return
        self._held = None
        try:
            await self._names.release(lease)  # shielded and bounded by itself
        except StoreError as error:
            why = f"{why}; not released, it runs out by itself: {error}"
        self.context.emit(
            SteppedDown(path=self.context.path, name=self.durable_name, epoch=lease.token.epoch, reason=why)
        )


class LeaseHeldActor(Actor):
    """An actor that leads where the lease of its durable name is held.

    Each leadership is a fresh incarnation: a copy of the object that the factory made, whose state is made in `init`, which runs
    after the lease was acquired. Messages and calls to the child reach whoever leads here; a standby takes none (`NoMailbox`).

    Attributes:
        lease: of this leadership; from `init` on.
    """

    lease: Lease
    _seat: _Seat

    def __init__(self, engine: Engine[Any], durable_name: str) -> None:
        """Lead under ``durable_name`` in ``engine``, which must be open while the child runs."""
        self._engine = engine
        self.durable_name = durable_name

    @property
    def epoch(self) -> int:
        """The epoch of this leadership: higher than any before it."""
        return self.lease.token.epoch

    @property
    def intake(self) -> Intake:
        """Closed when the child shall take no more work."""
        return self._seat.intake

    async def serve(self, context: ChildContext) -> None:
        """Stand by and lead; a copy of this object leads."""
        await _Seat(self, self._engine, self.durable_name).serve(context)

    async def _serve_leading(self, context: ChildContext) -> None:
        await super().serve(context)


class _Seat(LeaseHeld):
    """What stands by in an actor's place."""

    def __init__(self, actor: LeaseHeldActor, engine: Engine[Any], durable_name: str) -> None:
        super().__init__(engine, durable_name)
        self._actor = actor

    async def lead(self, lease: Lease) -> None:
        leader = copy(self._actor)
        leader.lease, leader._seat = lease, self
        spec = attrs.evolve(self.context.spec, id=f"epoch-{lease.token.epoch}", name=None, start=lambda: _Leader(leader))
        await host(self.context, spec, stop=self.context.stopping, lend_mailbox=True)


class _Leader(Behaviour):
    """The actor in its seat."""

    def __init__(self, actor: LeaseHeldActor) -> None:
        self._actor = actor

    async def serve(self, context: ChildContext) -> None:
        await self._actor._serve_leading(context)


class OnlyWhereLeased(LeaseHeld):
    """Runs any child, but only where the lease of a durable name is held; see `only_where_leased`."""

    def __init__(self, engine: Engine[Any], durable_name: str, guest: ChildSpec) -> None:
        """Host ``guest`` while leading."""
        super().__init__(engine, durable_name)
        self._guest = guest

    async def lead(self, lease: Lease) -> None:
        """Live one life of the guest."""
        await host(self.context, self._guest, stop=self.intake.end, lend_mailbox=True)


def only_where_leased(
    engine: Engine[Any], durable_name: str, start: Start, **options: Any
) -> Callable[[], OnlyWhereLeased]:
    """Make the start of a child that runs in one process at a time: where the lease of ``durable_name`` is held.

    ::

        child(only_where_leased(store, "feed", poll_feed), id="feed")

    Each time the lease is acquired, ``start`` is called for a fresh incarnation; its init runs then, under its own
    ``init_timeout``. Losing the lease cancels it and stands by again; its crash is the child's crash.

    Args:
        engine: where the lease is kept; open while the child runs.
        durable_name: what is leased. Not the child's id, nor its registered name.
        start: an async function, a factory of an actor or of an async context manager, or a `Supervisor`: as for `child`.
        options: ``shutdown``, ``init_timeout``, ``mailbox`` of the incarnation; as for `child`.
    """
    guest = child(start, id=durable_name, **options)
    return lambda: OnlyWhereLeased(engine, durable_name, guest)


def _in_words(error: Exception) -> str:
    expected = isinstance(error, (LeaseLost, StandBack, StoreUnavailable))
    return str(error) if expected else f"crashed: {error!r}"
