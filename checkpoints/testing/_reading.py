"""Helpers for reading inboxes in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ._stage import COIN, PATIENCE, Coin, Stage

if TYPE_CHECKING:
    from checkpoints import Entry, InboxReader
    from otp.engines import Engine


class Reading(Stage):
    """What tests of inboxes do again and again."""

    coin = COIN

    async def reader(self, engine: Engine[Any], epoch: int, name: str = "ledger") -> InboxReader[Coin]:
        """Open the inbox as the incarnation `epoch` of its reader."""
        return await self.inbox(engine, name).open(self.lease_of(engine, epoch, name))

    async def head(self, reader: InboxReader[Coin]) -> Entry[Coin]:
        """Return the head as soon as there is one."""
        with trio.fail_after(PATIENCE):
            while (entry := await reader.next()) is None:
                await reader.wait()
            return entry

    async def drain(self, reader: InboxReader[Coin]) -> list[Entry[Coin]]:
        """Read and mark all that is there."""
        entries: list[Entry[Coin]] = []
        while (entry := await reader.next()) is not None:
            entries.append(entry)
            await reader.mark(entry)
        return entries
