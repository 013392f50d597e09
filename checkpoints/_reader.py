"""Durable inboxes, from the side of the one reader: next, handle, mark."""

from __future__ import annotations

import traceback
from collections import deque
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from attrs import evolve, field, frozen

from otp.engines import BadPayload, Engine, Lease, Topics, Transaction, UnknownPayload

from ._errors import BadEntry, UnknownEntry
from ._rows import StoredEntry
from ._when import when_committed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from ._backend import InboxBackend

T = TypeVar("T")

# Entries are read so many at a time; only the head's attempt is ever written.
_READ_AHEAD: Final = 32
# The end of a traceback says most.
_LONGEST_ERROR: Final = 16_384


@frozen(eq=False)
class Entry(Generic[T]):
    """The head of an inbox, given out for handling.

    Attributes:
        payload: the message.
        attempt: how often a handler was given it, this time included; from 1.
        stored: the entry as it is stored: seq, id, sender, headers (in the envelope), times, counts, last error.

    """

    payload: T
    attempt: int
    stored: StoredEntry
    _reader: InboxReader[T] = field(repr=False)

    @property
    def seq(self) -> int:
        """Its place in the inbox."""
        return self.stored.seq

    @property
    def id(self) -> str:
        """The id to give to effects elsewhere, so that a second one is recognised there."""
        return self.stored.id

    @property
    def sender(self) -> str | None:
        """Who sent it, if they said so."""
        return self.stored.sender

    @property
    def processed(self) -> bool:
        """Whether it was marked or buried, and that is committed: it will not be handed out again."""
        return self._reader.is_processed(self)

    def commit(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Transaction]:
        """`async with entry.commit() as tx:` - the processed mark and your own rows, in one transaction.

        Handle first, then open this, write what follows from it by `tx.execute` (or by `tx=` of other things in the
        same engine), and let it end: that commits. The fence is compared and the mark written at its *begin*; from
        then on nobody else can become the reader before this is over, so keep it short and wait for nothing else in it.

        Args:
            timeout: seconds until it is rolled back; by default as for `Engine.transaction`.

        Raises:
            LeaseLost: a newer reader has opened the inbox. Nothing was written.
            EntryGone: the entry was processed before. Nothing was written.
            StoreError: nothing was written, or (StoreUnavailable in the last moment) all of it: `next` tells.

        """
        return self._reader.commit(self, timeout=timeout)


class InboxReader(Generic[T]):
    """The one reader of an inbox, made by `Inbox.open`.

    Replay after a restart is the same loop as any other day:

        while True:
            entry = await reader.next()
            if entry is None:
                await reader.wait()
                continue
            await handle(entry)
            await reader.mark(entry)

    Used by one task.

    Attributes:
        lease: the lease it was opened with.

    """

    def __init__(
        self,
        engine: Engine[Any],
        backend: InboxBackend,
        topics: Topics,
        lease: Lease,
        name: str,
        dedup_window: float,
        unknown_grace: float,
    ) -> None:
        self.lease = lease
        self._engine = engine
        self._backend = backend
        self._topics = topics
        self._token = lease.token
        self._name = name
        self._dedup_window = dedup_window
        self._unknown_grace = unknown_grace
        self._ahead: deque[StoredEntry] = deque()
        self._processed = 0

    def is_processed(self, entry: Entry[T]) -> bool:
        """Return whether this reader has marked or buried the entry, and that is committed."""
        return entry.seq <= self._processed  # strictly in order, so one number says it

    def _note_processed(self, seq: int, behind: Sequence[StoredEntry]) -> None:
        self._processed = seq
        self._ahead = deque(behind)

    async def next(self) -> Entry[T] | None:
        """Return the head: the first unprocessed entry, None if there is none.

        Its attempt is written before it is handed out, so a handler that kills the process is counted. Asking again
        before the entry is finished returns it again and counts nothing.

        Raises:
            LeaseLost: a newer reader has opened the inbox, or the lease is lost.
            UnknownEntry: the head needs a newer program. Not counted, not skipped.
            BadEntry: the head cannot be read by any program. Not counted, not skipped.

        """
        self.lease.check()
        if not self._ahead:
            self._ahead.extend(await self._backend.read(self._name, self._token, _READ_AHEAD))
            if not self._ahead:
                return None
        stored = self._ahead[0]
        try:
            payload: T = self._topics.decode(stored.envelope)
        except UnknownPayload as error:
            waited = await self._backend.note_unknown(self._name, self._token, stored.seq)
            raise UnknownEntry(stored, waited, grace_over=waited > self._unknown_grace) from error
        except BadPayload as error:
            raise BadEntry(stored, error) from error
        counts = await self._backend.begin(self._name, self._token, stored.seq)
        stored = evolve(stored, attempts=counts.attempts, releases=counts.releases, error=counts.error)
        return Entry(payload, counts.attempts, stored, self)

    async def wait(self) -> None:
        """Return as soon as `next` has something to say: there is an entry, or the reader is fenced out."""
        if not self._ahead and not self.lease.lost:
            await self._backend.wait(self._name, self._token)

    async def mark(self, entry: Entry[T], *, tx: Transaction | None = None) -> None:
        """Mark the head as processed. Its effects elsewhere have happened before; they are at least once.

        Args:
            entry: what `next` returned.
            tx: a transaction of the same engine that the mark is part of. `Entry.commit` is the short form.

        Raises:
            LeaseLost: a newer reader has opened the inbox, or the lease is lost. Nothing was written.
            EntryGone: it was processed before. Nothing was written.

        """
        self.lease.check()
        await self._finish(entry, tx)

    @asynccontextmanager
    async def commit(self, entry: Entry[T], *, timeout: float | None = None) -> AsyncGenerator[Transaction]:
        """See `Entry.commit`."""
        self.lease.check()
        if not self._engine.capabilities.transactions:
            raise TypeError(f"{self._engine.url} has no transactions of several statements: use reader.mark(entry)")
        async with self._engine.transaction(timeout=timeout) as tx:
            await self._finish(entry, tx)
            yield tx

    async def _finish(self, entry: Entry[T], tx: Transaction | None) -> None:
        behind = self._forget_ahead(entry.seq)
        await self._backend.finish(self._name, self._token, entry.seq, self._dedup_window, tx)
        when_committed(tx, lambda: self._note_processed(entry.seq, behind))

    async def failed(self, entry: Entry[T], error: BaseException | str) -> int:
        """Say that handling failed. The entry stays the head; what becomes of it is the caller's policy.

        Returns:
            The failed attempts so far: block (wait and ask `next` again), `bury`, or stop.

        Raises:
            LeaseLost: a newer reader has opened the inbox. Nothing was written.

        """
        return await self._end_attempt(entry, error_text(error), counted=True)

    async def release(self, entry: Entry[T]) -> None:
        """Give the head back without costing an attempt: we were interrupted by a drain, not by a failure.

        Raises:
            LeaseLost: a newer reader has opened the inbox. Nothing was written.

        """
        await self._end_attempt(entry, "", counted=False)

    async def bury(
        self,
        entry: Entry[T] | StoredEntry,
        *,
        reason: str,
        error: BaseException | str = "",
        tx: Transaction | None = None,
    ) -> None:
        """Move the head to the dead letters, so that the next entry becomes the head.

        Args:
            entry: what `next` returned, or the `entry` of an UnknownEntry or BadEntry.
            reason: one line for people.
            error: what went wrong; an exception is kept with its traceback.
            tx: a transaction of the same engine that this is part of.

        Raises:
            LeaseLost: a newer reader has opened the inbox. Nothing was written.
            EntryGone: it was marked or buried before.

        """
        behind = self._forget_ahead(entry.seq)
        await self._backend.bury(self._name, self._token, entry.seq, storable(reason), error_text(error), tx)
        when_committed(tx, lambda: self._note_processed(entry.seq, behind))

    async def _end_attempt(self, entry: Entry[T], error: str, *, counted: bool) -> int:
        self._ahead.clear()  # the counts in it are old now
        return await self._backend.end_attempt(self._name, self._token, entry.seq, error, counted=counted)

    def _forget_ahead(self, seq: int) -> list[StoredEntry]:
        """Empty the read-ahead; return what is good in it again once `seq` is finished, and that committed.

        Until then, and whenever the store fails, only the store knows what the head is.
        """
        behind = [stored for stored in self._ahead if stored.seq > seq]
        self._ahead.clear()
        return behind


def error_text(error: BaseException | str) -> str:
    """Return what is kept of an error."""
    text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    return storable(text[-_LONGEST_ERROR:])


def storable(text: str) -> str:
    """Return the text as every store takes it: without NUL, and without the lone surrogates of odd file names."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")
