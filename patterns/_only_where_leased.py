"""Any child, but only where the lease of a durable name is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from otp import child, host

from ._lease_held import LeaseHeld

if TYPE_CHECKING:
    from collections.abc import Callable

    from otp import ChildSpec, Start
    from otp.engines import Engine, Lease


class OnlyWhereLeased(LeaseHeld):
    """Runs any child, but only where the lease of a durable name is held; made by `only_where_leased`."""

    def __init__(self, engine: Engine[Any], durable_name: str, guest: ChildSpec) -> None:
        super().__init__(engine, durable_name)
        self._guest = guest

    async def lead(self, lease: Lease) -> None:
        """Live one life of the guest."""
        guest = attrs.evolve(self._guest, id=f"epoch-{lease.token.epoch}")
        await host(self.context, guest, stop=self.intake.end, lend_mailbox=True)


def only_where_leased(
    engine: Engine[Any], durable_name: str, start: Start, **options: Any
) -> Callable[[], OnlyWhereLeased]:
    """Make the start of a child that runs in one process at a time: where the lease of `durable_name` is held.

    ::

        child(only_where_leased(store, "feed", poll_feed), id="feed")

    Each time the lease is acquired `start` is called for a fresh incarnation; its init runs then, under its own
    `init_timeout`. It is asked to stop when the service drains or the child is stopped, and cancelled when the lease is
    lost, upon which the child stands by again. How it ends by itself is how the child ends, also a crash.

    Args:
        engine: where the lease is kept; open while the child runs.
        durable_name: what is leased. Not the child's id, nor its registered name.
        start: an async function, a factory of an actor or of an async context manager, or a `Supervisor`: as for
            `child`.
        options: `shutdown`, `init_timeout` and `mailbox` of the incarnation; as for `child`. It is never given longer
            to stop than the child itself.

    Raises:
        TypeError, ValueError: as `child` does for `start` and the options.
    """
    for option in options.keys() - {"shutdown", "init_timeout", "mailbox"}:
        raise TypeError(f"{option} is no option here: give it to the child() around this")
    guest = child(start, id="guest", **options)
    return lambda: OnlyWhereLeased(engine, durable_name, guest)
