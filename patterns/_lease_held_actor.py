"""An actor that leads where the lease of its durable name is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from otp import Actor, Behaviour, NotAlive, host

from ._checks import check_instance
from ._lease_held import LeaseHeld

if TYPE_CHECKING:
    from otp import ChildContext
    from otp.engines import Engine, Lease

    from ._intake import Intake


class LeaseHeldActor(Actor):
    """An actor that leads where the lease of its durable name is held. Subclass it like any actor.

    Each leadership is a fresh incarnation: the child's factory is called again, and `init` runs, under its own
    `init_timeout`, after the lease was acquired. Messages and calls to the child reach whoever leads here; a standby
    takes none (`NoMailbox`). When the service drains the leader handles what it has and ends, so that another process
    takes over at once.

    A lost lease and a store that is away end the leadership, without `terminate` being an occasion to write anything:
    the child stands by again, after a pause. Any other exception is a crash.

    Args:
        engine: where the lease is kept; open while the child runs.
        durable_name: what is leased. Not the child's id, nor its registered name.

    Attributes:
        durable_name: the durable name.
        lease: of this leadership; from `init` on.
    """

    lease: Lease
    _seat: Seat

    def __init__(self, engine: Engine[Any], durable_name: str) -> None:
        self._engine = engine
        self.durable_name = durable_name

    @property
    def epoch(self) -> int:
        """The epoch of this leadership: higher than any before it."""
        return self.lease.token.epoch

    @property
    def intake(self) -> Intake:
        """Closed when the child shall take no more work; from `init` on."""
        return self._seat.intake

    async def serve(self, context: ChildContext) -> None:
        """Stand by; where the lease is held, another object of the same factory leads. For the supervisor."""
        await Seat(self._engine, self.durable_name).serve(context)

    async def serve_leading(self, context: ChildContext, seat: Seat, lease: Lease) -> None:
        """Live the life of an actor, under the lease."""
        self._seat, self.lease = seat, lease
        await super().serve(context)

    def hand_back(self, why: str) -> None:
        """Cancel this leadership and release its lease."""
        self._seat.hand_back(why)

    async def _prepare(self) -> None:
        await super()._prepare()
        self.nursery.start_soon(self._work_until_closed)

    async def _work_until_closed(self) -> None:
        """A helper: take work from outside, if there is any, until the intake is closed; then end."""
        await self.intake.end.wait()
        await self._end_in_turn()

    async def _end_in_turn(self) -> None:
        """End, when what is already in the mailbox is handled."""

        async def end() -> None:
            self.stop()

        try:
            await self.in_turn(end)
        except NotAlive:
            pass  # it is ending already


class Seat(LeaseHeld):
    """What stands by in an actor's place."""

    async def lead(self, lease: Lease) -> None:
        """Have a fresh actor lead."""
        # Not asked to stop when the drain begins, as the actor sees that by itself and then has all the drain's time.
        spec = attrs.evolve(
            self.context.spec, id=f"epoch-{lease.token.epoch}", name=None, start=lambda: _Leader(self, lease)
        )
        await host(self.context, spec, stop=self.context.stopping, lend_mailbox=True)


class _Leader(Behaviour):
    """The actor in its seat."""

    def __init__(self, seat: Seat, lease: Lease) -> None:
        self._seat = seat
        self._lease = lease
        made = seat.context.spec.make()
        self._actor: LeaseHeldActor = check_instance("what start returns", made, LeaseHeldActor)

    async def serve(self, context: ChildContext) -> None:
        await self._actor.serve_leading(context, self._seat, self._lease)
