"""What an engine has to offer so that leases, checkpoints and inboxes can be kept in it.

Each method is one atomic step of the engine: an SQL transaction, a Lua script over the keys of one hash tag, an atomic
batch with an expected sequence. None hands out anything that lives longer than itself, so nothing here assumes SQL.
Wherever a token is given, the step compares its owner and epoch with the ones that the structure stores; where they
differ it raises `LeaseLost` and has written nothing.

`tx` joins a transaction of the same engine. An engine whose `capabilities.transactions` is false is never given one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otp.engines import DeadLetter, Envelope, Token, Transaction

    from ._rows import CheckpointView, Counts, Holder, InboxStatistics, NewEntry, Posted, StepRow, StoredEntry


class NameBackend(Protocol):
    """Leases of names. Rows are never deleted and epochs never reset."""

    async def acquire(self, name: str, owner: str, seconds: float) -> int | None:
        """Take the name if it is free, has run out, or is this owner's; return the new epoch (the last one + 1)."""
        ...

    async def release(self, token: Token) -> bool:
        """Let the name go if it is still this token's. Return whether it was.

        In the same write, an attempt that is open at the head of the inbox of that name, under that token, is taken
        back uncounted: its handler was interrupted.
        """
        ...

    async def holder(self, name: str) -> Holder | None:
        """Return who holds the name now."""
        ...

    async def wait(self, name: str) -> None:
        """Return as soon as `acquire` might succeed: when the holder lets go, or its lease runs out."""
        ...


class CheckpointBackend(Protocol):
    """Checkpoints: a head with (lease, owner, epoch), and one row a step."""

    async def open(self, key: str, token: Token) -> Sequence[StepRow]:
        """Write the token into the head and return the steps in the order of `seq`, damaged ones too.

        Refused with `LeaseLost` if the head has a higher epoch, or this epoch of another owner; with `ForeignLease` if
        it belongs to another lease. A closed head is opened by the same rule and keeps its epoch.
        """
        ...

    async def save(
        self,
        key: str,
        token: Token,
        step: str,
        occurrence: int,
        envelope: Envelope,
        checksum: int,
        tx: Transaction | None,
    ) -> tuple[int, float]:
        """Write the step in place of an earlier save of it; a closed head is open again. Return `seq` and the time."""
        ...

    async def discard(self, key: str, token: Token, from_seq: int) -> None:
        """Delete the steps from `from_seq` on."""
        ...

    async def clear(self, key: str, token: Token, keep: float, tx: Transaction | None) -> None:
        """Delete the steps and close the head; remove a few heads that were closed longer than `keep` seconds ago."""
        ...

    async def prune(self, closed_for: float, abandoned_for: float | None, limit: int) -> int:
        """Delete up to `limit` heads that have been closed, or untouched, for so long. Return how many."""
        ...

    async def peek(self, key: str) -> tuple[CheckpointView, Sequence[StepRow]] | None:
        """Return the head, without steps, and the rows."""
        ...


class InboxBackend(Protocol):
    """Inboxes: a head with (lease, owner, epoch, counter, depth), one row an entry, and the ids seen."""

    async def post(self, name: str, entry: NewEntry, max_depth: int, tx: Transaction | None) -> Posted:
        """Append the entry under the next number of the counter, unless its id is known. `InboxFull` at `max_depth`."""
        ...

    async def open(self, name: str, token: Token) -> None:
        """Write the token into the head, by the same rule as `CheckpointBackend.open`."""
        ...

    async def read(self, name: str, token: Token, limit: int) -> Sequence[StoredEntry]:
        """Return the first unprocessed entries in order. Fenced, so that a zombie learns of it."""
        ...

    async def begin(self, name: str, token: Token, seq: int) -> Counts:
        """Count an attempt of the head, unless one is open in this epoch already, and return its counts.

        `NotHead`, `EntryGone` if it is not the head.
        """
        ...

    async def note_unknown(self, name: str, token: Token, seq: int) -> float:
        """Remember that the entry was met and not known; return the seconds since this was first noted."""
        ...

    async def finish(self, name: str, token: Token, seq: int, dedup_window: float, tx: Transaction | None) -> None:
        """Delete the head as processed; its id is remembered for the window. `NotHead`, `EntryGone` if it is not."""
        ...

    async def end_attempt(self, name: str, token: Token, seq: int, error: str, *, counted: bool) -> int:
        """End the open attempt of an entry that stays: failed (counted) or given back. Return the attempts counted."""
        ...

    async def bury(self, name: str, token: Token, seq: int, reason: str, error: str, tx: Transaction | None) -> None:
        """Move the head to the dead letters. Its id goes on being recognised for as long as it lies there."""
        ...

    async def wait(self, name: str, token: Token) -> None:
        """Return as soon as there is an unprocessed entry, or the token is not the head's any more."""
        ...

    async def statistics(self, name: str, max_depth: int) -> InboxStatistics:
        """Return the inbox in figures."""
        ...

    async def dead_list(self, name: str, limit: int, after: tuple[float, str] | None) -> Sequence[DeadLetter]:
        """Return dead letters by (last_at, id), those behind `after`."""
        ...

    async def dead_show(self, name: str, id_: str) -> DeadLetter | None:
        """Return one dead letter."""
        ...

    async def dead_requeue(self, name: str, id_: str, max_depth: int, tx: Transaction | None) -> int | None:
        """Append it again under its old id, as one step. Return its new place, None if there is no such letter."""
        ...

    async def dead_drop(self, name: str, id_: str, dedup_window: float, tx: Transaction | None) -> bool:
        """Delete it; its id is remembered for the window. Return whether it was there."""
        ...
