"""A child that works only where its lease is held; everywhere else it stands by.

In a rolling deploy two pods have the same actor for a while, always. So an actor with a durable name takes a lease on
that name, fenced by an epoch, and its copies in the other pods wait. Standing by counts as started and ready: if it did
not, a rollout with ``maxUnavailable: 0`` would wait for the new pod to be ready, and the new pod for the old one to go.

A lost lease, and a store that cannot be reached, bring the child back to standing by after a pause. The supervisor sees
nothing of that and counts no restart. Any other exception is a crash like that of any child; the lease is given back
first.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

import trio

from checkpoints import NameLeases
from otp import Backoff, Behaviour, ChildContext
from otp.engines import Engine, LeaseLost, StoreError, StoreUnavailable

from ._at_exit import given_back_at_exit
from ._blame import NOT_ITS_FAULT, is_blameless
from ._checks import check_instance
from ._events import LeaseEvent, StandingBy, SteppedDown, TookOver
from ._intake import RELEASE_TIME, Intake
from ._outage import Outage
from ._tell import in_words, tell

if TYPE_CHECKING:
    from otp.engines import Lease

PAUSES: Final = Backoff(initial=0.1, cap=5.0)
"""How long to wait before standing by again. Longer each time, unless it has led for a while meanwhile."""
_RNG: Final = random.Random()


class StandBack(Exception):
    """Raised while leading, to let another process have a go: give the lease back, pause, and stand by again."""


class LeaseHeld(Behaviour):
    """Base of the children that lead where the lease of their durable name is held. Subclass it and write `lead`.

    Args:
        engine: where the lease is kept; open while the child runs.
        durable_name: what is leased. Not the child's id, nor its registered name. Two children of one process cannot
            have the same (`AlreadyHeld`).

    Raises:
        TypeError: `engine` is no engine. (A name that is no good is refused when it is acquired.)

    Attributes:
        durable_name: the durable name.
        context: the child's place in the tree; from `lead` on.
        intake: closed when the child shall take no more work; from `lead` on.
    """

    context: ChildContext
    intake: Intake

    def __init__(self, engine: Engine[Any], durable_name: str) -> None:
        self.durable_name = durable_name
        self._names = NameLeases(check_instance("engine", engine, Engine))
        self._leading: trio.CancelScope | None = None
        self._held: Lease | None = None

    @abstractmethod
    async def lead(self, lease: Lease) -> None:
        """Work under the lease until the work is done or the intake is closed.

        Cancelled when the lease is lost, and half a second before the deadline of a drain or stop. The lease is
        released when this has ended; at that deadline in any case.
        """

    async def serve(self, context: ChildContext) -> None:
        """Stand by, lead, and stand by again, until the work is done or the child is stopped. For the supervisor."""
        self.context = context
        self.intake = Intake(context)
        context.started()
        with given_back_at_exit(context, self._names.engine):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.intake.watch)
                await self._stand_by_and_lead()
                nursery.cancel_scope.cancel(reason="the lease-held child has ended")
        if self.intake.closed:
            await self.intake.stopped()

    async def _stand_by_and_lead(self) -> None:
        outage = Outage(self.context)
        pauses = 0
        while (lease := await self._stand_by(outage)) is not None:
            if self.intake.closed:
                await self._release(lease)
                return
            led_since = trio.current_time()
            try:
                with self.context.drains():  # a drain waits for the release, too
                    await self._lead(lease)
                    if self.intake.over.is_set():
                        await self.intake.stopped()  # so that the drain ends at its deadline, with us as not done
            except StandBack:
                pauses = 1 if trio.current_time() - led_since > PAUSES.reset_after else pauses + 1
                with self.intake.waiting():
                    await trio.sleep(PAUSES.delay(pauses, _RNG))
            else:
                return

    async def _stand_by(self, outage: Outage) -> Lease | None:
        """Return the lease, once it is ours; None when the intake is closed before."""
        announced = False
        while not self.intake.closed:
            with self.intake.waiting():
                try:
                    # Acquiring it is the last thing that waits here, so that no cancellation can lose it.
                    lease = await self._names.acquire(self.durable_name)
                    outage.over()
                    if lease is not None:
                        return lease
                    if not announced:
                        announced = True
                        self._tell(StandingBy)
                    await self._names.wait(self.durable_name)
                except StoreUnavailable as error:
                    await outage.wait(error)
        return None

    async def _lead(self, lease: Lease) -> None:
        """Lead once, and step down whatever happens.

        Raises StandBack if the lease was lost, or for what says nothing against leading again; otherwise what `lead`
        raised.
        """
        self._held = lease
        self._tell(TookOver, epoch=lease.token.epoch)
        why, failure = "cancelled", None
        ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                self._leading = nursery.cancel_scope
                nursery.start_soon(self._hand_back_in_time, lease, ended)
                try:
                    with lease.guard():
                        await self.lead(lease)
                    why = "stopped" if self.intake.closed else "done"
                except Exception as error:  # noqa: BLE001  (raised below: the nursery would wrap it)
                    failure = _judged(error, lease)
                    why = str(failure) if failure is not error else in_words(error)
                finally:
                    ended.set()
                nursery.cancel_scope.cancel(reason="no longer leading")
            if failure is not None:
                raise failure
        finally:
            self._leading = None
            await self._step_down(lease, why)

    def hand_back(self, why: str) -> None:
        """Cancel the leadership that is, if there is one; its lease is released when it has ended."""
        if self._leading is not None:
            self._leading.cancel(reason=why)

    async def _hand_back_in_time(self, lease: Lease, ended: trio.Event) -> None:
        """At the end of a drain, end the leadership; if it does not obey, give its lease back all the same."""
        await self.intake.over.wait()
        with trio.move_on_after(RELEASE_TIME / 2, shield=True) as patience:
            self.hand_back("the time to finish was over")  # cancels this task as well, hence the shield
            await ended.wait()
        if patience.cancelled_caught:
            await self._step_down(lease, "it does not obey its cancellation")

    async def _step_down(self, lease: Lease, why: str) -> None:
        if self._held is not lease:
            return
        self._held = None
        self._tell(SteppedDown, epoch=lease.token.epoch, reason=why + await self._release(lease))

    async def _release(self, lease: Lease) -> str:
        """Give the lease back; what is to be added to the reason."""
        try:
            await self._names.release(lease)  # shielded and bounded by itself
        except StoreError as error:
            return f"; not released, so it runs out: {error}"
        return ""

    def _tell(self, kind: type[LeaseEvent], **details: Any) -> None:
        tell(self.context, kind, name=self.durable_name, **details)


def _judged(error: Exception, lease: Lease) -> Exception:
    """What `error`, which ended a leadership, means for the next: StandBack if that is all it means."""
    if isinstance(error, LeaseLost) and error.token == lease.token:
        why = str(error)
    elif lease.lost:
        why = f"the lease was lost, and then: {in_words(error)}"  # it says nothing: it was raised while we cancelled
    elif is_blameless(error, (*NOT_ITS_FAULT, StandBack)):
        why = str(error)
    else:
        return error
    back = StandBack(why)
    back.__cause__ = error
    return back
