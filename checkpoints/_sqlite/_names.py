"""Leases of names in SQLite."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from .._rows import Holder
from ._schema import prepare
from ._sql import changed, row, rows
from ._take import give_back_attempt

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import apsw

    from otp.engines import Engine, Token

_ACQUIRE = """
INSERT INTO hf_lease (name, owner, epoch, until) VALUES (?1, ?2, 1, ?4)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = epoch + 1, until = excluded.until
WHERE until <= ?3 OR owner = excluded.owner
RETURNING epoch
"""
# The owner goes, too: a renewal that is under way must not bring the lease back to life.
_RELEASE = "UPDATE hf_lease SET until = 0, owner = '' WHERE name = ? AND owner = ? AND epoch = ?"
_EXTEND = "UPDATE hf_lease SET until = ? WHERE name = ? AND owner = ? AND epoch = ?"


def extend(c: apsw.Connection, tokens: Sequence[Token], until: float) -> set[Token]:
    """Renew those that are still held, for the engine's heartbeat. A lease that ran out unclaimed may go on."""
    return {token for token in tokens if changed(c, _EXTEND, until, token.key, token.owner, token.epoch)}


def give_back(c: apsw.Connection, owner: str, charged: Collection[Token]) -> None:
    """Release all that `owner` holds. For the engine of a process that must exit."""
    names = {token.key for token in charged}
    for name, epoch in rows(c, "SELECT name, epoch FROM hf_lease WHERE owner = ?", owner):
        if name in names:
            changed(c, _RELEASE, name, owner, epoch)
        else:
            _release(c, name, owner, epoch)


def _release(c: apsw.Connection, name: str, owner: str, epoch: int) -> bool:
    released = changed(c, _RELEASE, name, owner, epoch) == 1
    if released:
        give_back_attempt(c, name, owner, epoch)
    return released


class SqliteNames:
    """See `NameBackend`."""

    def __init__(self, engine: Engine[apsw.Connection]) -> None:
        prepare(engine)
        engine.lease_kind("name", extend, give_back)
        self._engine = engine

    async def acquire(self, name: str, owner: str, seconds: float) -> int | None:
        def fn(c: apsw.Connection) -> int | None:
            now = self._engine.now(c)
            found = row(c, _ACQUIRE, name, owner, now, now + seconds)
            return None if found is None else int(found[0])

        return await self._engine.write(fn)

    async def release(self, token: Token) -> bool:
        return await self._engine.write(lambda c: _release(c, token.key, token.owner, token.epoch))

    async def holder(self, name: str) -> Holder | None:
        def fn(c: apsw.Connection) -> Holder | None:
            now = self._engine.now(c)
            found = row(c, "SELECT owner, epoch, until FROM hf_lease WHERE name = ? AND until > ?", name, now)
            return None if found is None else Holder(name, found[0], found[1], found[2] - now)

        return await self._engine.read(fn)

    async def wait(self, name: str) -> None:
        def probe(c: apsw.Connection, now: float) -> float:
            found = row(c, "SELECT until FROM hf_lease WHERE name = ?", name)
            return -inf if found is None else float(found[0]) - now

        await self._engine.watch(probe)
