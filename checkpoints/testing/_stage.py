"""What the conformance tests play with: payloads, pods, and leases of any epoch."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

from checkpoints import Inbox
from otp.engines import Lease, Token, Topic

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from otp.engines import Engine

PATIENCE = 30.0  # seconds within which anything that must happen has happened, also on a machine under load


@frozen
class Coin:
    """A payload."""

    value: int


@frozen
class NewCoin:
    """The same payload one version later."""

    value: int
    currency: str


@frozen
class Note:
    """Another payload."""

    text: str


COIN = Topic("coin", Coin)
NEW_COIN = Topic("coin", NewCoin, version=2)
NOTE = Topic("note", Note)


@NEW_COIN.upcast(1)
def name_currency(old: dict[str, Any]) -> dict[str, Any]:
    """Give an old coin its currency."""
    return {**old, "currency": "groat"}


class Boom(Exception):
    """Thrown by a test."""


class Stage:
    """Base of the suites: what a test needs to set its scene.

    Attributes:
        transactions: whether the engine has transactions of several operations.
        damages: whether `damage_step` and `damage_entry` are implemented.
        lease: lease time of the engines that `make_engine` makes. Some tests wait until it has run out.

    """

    transactions = True
    damages = False
    lease = 1.0

    async def damage_step(self, engine: Engine[Any], key: str, step: str) -> None:
        """Change a byte of a saved step's data, behind the engine's back."""
        raise NotImplementedError

    async def damage_entry(self, engine: Engine[Any], name: str, seq: int) -> None:
        """Change a byte of an entry's payload, behind the engine's back."""
        raise NotImplementedError

    def need(self, flag: str) -> None:
        """Skip the test if the engine lacks this."""
        if not getattr(self, flag):
            pytest.skip(f"the engine's flag {flag!r} is off")

    @asynccontextmanager
    async def pods(self, make_engine: Callable[[], Engine[Any]], number: int = 1) -> AsyncGenerator[list[Engine[Any]]]:
        """Open so many engines on one store, each with an owner of its own: the pods of a deployment."""
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(make_engine()) for _ in range(number)]

    def lease_of(self, engine: Engine[Any], epoch: int, key: str = "ledger", kind: str = "name") -> Lease:
        """Make a lease by hand: checkpoints and inboxes compare tokens, wherever a lease comes from."""
        return Lease(Token(kind=kind, key=key, owner=engine.owner, epoch=epoch), deadline=inf)

    def inbox(self, engine: Engine[Any], name: str = "ledger", **options: Any) -> Inbox[Coin]:
        """Make a handle of the inbox the tests use."""
        return Inbox(engine, name, [COIN], **options)
