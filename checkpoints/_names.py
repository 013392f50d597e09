"""Leases of durable names: of all processes that want to be `ledger`, one is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import trio

from otp.engines import Engine, Lease, Token

from ._backends import backends_for
from ._check import check_name
from ._errors import AlreadyHeld

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ._rows import Holder

KIND = "name"
_RELEASE_TIMEOUT = 5.0

# Which names the object `engine` holds, over all NameLeases on it. `None` while one is being acquired.
_held_here: WeakKeyDictionary[Engine[Any], dict[str, Lease | None]] = WeakKeyDictionary()


class NameLeases:
    """Leases of names in one engine.

    A lease belongs to one incarnation: each acquisition takes the next epoch, also one by the same process. It is
    renewed by the engine's heartbeat until it is released or lost. Whoever loses it learns so from `lease.guard()`,
    and from every fenced write.

    Args:
        engine: where the leases are kept. It need not be open yet.

    Attributes:
        engine: the same.

    """

    def __init__(self, engine: Engine[Any]) -> None:
        self.engine = engine
        self._backend = backends_for(engine).names(engine)

    async def acquire(self, name: str) -> Lease | None:
        """Take the name if nobody else holds it.

        A lease that has run out counts as nobody's. So does one of this engine object that no task holds any more,
        because its release could not reach the store.

        Args:
            name: the durable name; any text that is not empty.

        Returns:
            The lease, renewed from now on, or None while another process holds the name (`wait` tells when to ask
            again).

        Raises:
            AlreadyHeld: this engine object holds the name, or is just acquiring it.
            StoreError: the store cannot be reached or cannot write.

        If the call is cancelled while the store is at it, the lease is returned all the same: no lease is held by
        nobody.

        """
        check_name("name", name)
        here = _held_here.setdefault(self.engine, {})
        known = here.get(name)
        if name in here and (known is None or not known.lost):
            raise AlreadyHeld(name, known.token.epoch if known else 0)
        here[name] = None
        lease: Lease | None = None
        try:
            asked = self.engine.monotonic()  # before the request: the store's lease begins later, never earlier
            epoch = await self._backend.acquire(name, self.engine.owner, self.engine.lease)
            if epoch is not None:
                token = Token(kind=KIND, key=name, owner=self.engine.owner, epoch=epoch)
                got = Lease(token, deadline=asked + self.engine.lease)
                self.engine.hold(got)  # refused if the engine is being closed: then we do not hold it
                lease = got
        finally:
            if lease is None:
                del here[name]
            else:
                here[name] = lease
        return lease

    async def release(self, lease: Lease) -> bool:
        """Let the name go, so that a standby takes over at once. It is no longer renewed, whatever happens.

        Runs to its end also when cancelled, for at most 5 seconds. An entry of the inbox of that name that is being
        handled under this lease was interrupted: its attempt does not count.

        Returns:
            Whether the lease was still ours. Releasing a lost or released lease changes nothing.

        """
        self.engine.let_go(lease)
        here = _held_here.get(self.engine, {})
        if here.get(lease.token.key) is lease:
            del here[lease.token.key]
        if lease.lost:
            return False  # nothing to give back: the store lets others in by itself
        with trio.move_on_after(_RELEASE_TIMEOUT, shield=True):
            return await self._backend.release(lease.token)
        return False

    async def wait(self, name: str) -> None:
        """Stand by: return as soon as `acquire` might succeed.

        That is milliseconds after the holder released the name, or when its lease has run out because it was killed.
        Several may be woken and one of them gets it.
        """
        check_name("name", name)
        await self._backend.wait(name)

    async def holder(self, name: str) -> Holder | None:
        """Return who holds the name now, None if nobody does. For people: it may have changed when you read it."""
        check_name("name", name)
        return await self._backend.holder(name)

    @asynccontextmanager
    async def held(self, name: str) -> AsyncGenerator[Lease]:
        """Hold the name for a block: stand by until it is ours, release it at the end.

        The block runs under `lease.guard()`: it is cancelled when the lease is lost, and LeaseLost is raised.
        """
        while (lease := await self.acquire(name)) is None:
            await self.wait(name)
        try:
            with lease.guard():
                yield lease
        finally:
            await self.release(lease)
