"""Leases of names in memory."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from .._rows import Holder
from ._inbox import give_back_attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otp.engines import Engine, MemoryTable, MemoryTables, Token


@frozen
class _Lease:
    owner: str
    epoch: int
    until: float


def _leases(c: MemoryTables) -> MemoryTable[str, _Lease]:
    return c.table("hf_lease")


def _is_held(found: _Lease | None, token: Token) -> bool:
    return found is not None and (found.owner, found.epoch) == (token.owner, token.epoch)


def extend(c: MemoryTables, tokens: Sequence[Token], until: float) -> set[Token]:
    """Renew those that are still held, for the engine's heartbeat. A lease that ran out unclaimed may go on."""
    table = _leases(c)
    still = {token for token in tokens if _is_held(table.get(token.key), token)}
    for token in still:
        table[token.key] = evolve(table[token.key], until=until)
    return still


class MemoryNames:
    """See `NameBackend`."""

    def __init__(self, engine: Engine[MemoryTables]) -> None:
        engine.lease_kind("name", extend)
        self._engine = engine

    async def acquire(self, name: str, owner: str, seconds: float) -> int | None:
        def fn(c: MemoryTables) -> int | None:
            now = self._engine.now(c)
            found = _leases(c).get(name)
            if found is not None and found.until > now and found.owner != owner:
                return None
            epoch = 1 if found is None else found.epoch + 1
            _leases(c)[name] = _Lease(owner, epoch, now + seconds)
            return epoch

        return await self._engine.write(fn)

    async def release(self, token: Token) -> bool:
        def fn(c: MemoryTables) -> bool:
            if not _is_held(_leases(c).get(token.key), token):
                return False
            _leases(c)[token.key] = _Lease("", token.epoch, 0.0)
            give_back_attempt(c, token)
            return True

        return await self._engine.write(fn)

    async def holder(self, name: str) -> Holder | None:
        def fn(c: MemoryTables) -> Holder | None:
            now = self._engine.now(c)
            found = _leases(c).get(name)
            if found is None or found.until <= now:
                return None
            return Holder(name, found.owner, found.epoch, found.until - now)

        return await self._engine.read(fn)

    async def wait(self, name: str) -> None:
        def probe(c: MemoryTables, now: float) -> float:
            found = _leases(c).get(name)
            return -inf if found is None or not found.owner else found.until - now

        await self._engine.watch(probe)
