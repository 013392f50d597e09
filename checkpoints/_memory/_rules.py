"""What the memory backends share: the rule of the fence, and a queue of things that expire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._errors import ForeignLease

if TYPE_CHECKING:
    from otp.engines import MemoryTable, MemoryTables, Token

T = TypeVar("T")


def lease_name(token: Token) -> str:
    """Return what identifies the lease: epochs can be compared within one, and only there."""
    return f"{token.kind}:{token.key}"


def may_open(lease: str | None, owner: str | None, epoch: int, token: Token, what: str) -> bool:
    """Return whether the token may become the holder of a head with this lease, owner and epoch."""
    if lease is not None and lease != lease_name(token):
        raise ForeignLease(what, lease, lease_name(token))
    return epoch < token.epoch or (epoch == token.epoch and owner == token.owner)


class Expiring(Generic[T]):
    """Things in the order in which they were put away, so that expired ones are found without a search.

    Rolled back with the tables. What expires earlier than the one before it waits for that one.
    """

    def __init__(self, c: MemoryTables, table: str, lane: str = "") -> None:
        self._table: MemoryTable[Any, Any] = c.table(table)
        self._lane = lane

    def put(self, at: float, item: T) -> None:
        """Have `take` return the item from `at` on."""
        first, end = self._table.get(self._lane, (0, 0))
        self._table[self._lane, end] = (at, item)
        self._table[self._lane] = (first, end + 1)

    def take(self, now: float, limit: int) -> list[T]:
        """Remove and return up to `limit` expired ones."""
        first, end = self._table.get(self._lane, (0, 0))
        taken: list[T] = []
        while len(taken) < limit and first < end and self._table[self._lane, first][0] <= now:
            taken.append(self._table[self._lane, first][1])
            del self._table[self._lane, first]
            first += 1
        if taken:
            self._table[self._lane] = (first, end)
        return taken
