"""P3, the durable inbox: a message is stored before it is handled, handled in order by one owner, and marked after.

The actor leads where its inbox's name lease is held and stands by elsewhere (`LeaseHeld`). Replay after a restart is no phase of its own: a
helper pulls the head of the inbox and has it handled in the actor's turn, so entries, messages and calls come one at a time, and what
was left unprocessed comes before what is new.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import Generic, Literal, TypeVar

import trio

from checkpoints import BadEntry, Entry, Inbox, InboxReader, UnknownEntry
from otp import Backoff
from otp.engines import LeaseLost, StoreError, StoreUnavailable

from ._events import EntryApplied, EntryFailed
from ._intake import RELEASE_TIME
from ._lease_held import LeaseHeldActor, StandBack
from ._outage import Outage

T = TypeVar("T")

BACKOFF = Backoff(initial=0.5, cap=60.0, jitter=0.2)
"""How long a failing head waits, unless the actor is told otherwise."""

OnFailure = Literal["block", "dead", "stop"]


class DurableInbox(LeaseHeldActor, Generic[T]):
    """An actor whose messages survive it. Subclass it and write `handle_entry`.

    ::

        child(lambda: Ledger(inbox), id="ledger")
        await inbox.post(Posting(amount=5), id="order-17")      # by anyone, anywhere; no lease, no actor needed

    One process leads, under a lease on the inbox's name; the others stand by, started and ready, and take over when it lets go
    (milliseconds) or dies (the lease's time). Its state is made in `init`, for each leadership anew; see `LeaseHeldActor`.

    Args:
        inbox: what to handle. Its engine must be open while the child runs.
        on_failure: what follows when `handle_entry` has failed ``max_attempts`` times for the head of the inbox. ``"block"``: nothing
            changes, it is tried again with backoff and everything behind it waits, so that the order is kept at any price;
            ``"dead"``: the entry goes to the inbox's dead letters and the next is handled; ``"stop"``: the child crashes and its
            supervisor decides. Failures before that are retried with backoff, and are no crash in any case.
        max_attempts: see there.
        backoff: how long the head waits after a failure, by its attempt.

    Attributes:
        inbox: the inbox.
    """

    def __init__(
        self,
        inbox: Inbox[T],
        *,
        on_failure: OnFailure = "block",
        max_attempts: int = 20,
        backoff: Backoff = BACKOFF,
    ) -> None:
        """Check the settings; nothing is acquired before the child is started."""
        if on_failure not in ("block", "dead", "stop"):
            raise ValueError(f"on_failure must be 'block', 'dead' or 'stop', not {on_failure!r}")
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise ValueError(f"max_attempts must be a whole number >= 1, not {max_attempts!r}")
        super().__init__(inbox.engine, inbox.name)
        self.inbox = inbox
        self._on_failure = on_failure
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._rng = random.Random()

    @abstractmethod
    async def handle_entry(self, entry: Entry[T]) -> None:
        """Handle the head of the inbox.

        What it changes in the inbox's own database belongs into ``async with entry.commit() as tx:``, last and short: the user's rows
        and the processed mark are stored together, or neither. An entry that was not committed so is marked when this returns,
        and effects elsewhere, which may happen again after a crash, carry ``entry.id`` as their dedup id.

        An exception is a failed attempt of this entry, not a crash of the actor. Cancelled when the lease is lost.
        """

    async def _prepare(self) -> None:
        self._reader: InboxReader[T] = await self.inbox.open(self.lease)
        await super()._prepare()
        self.nursery.start_soon(self._feed)

    async def _feed(self) -> None:
        """Pull the head and have it handled, one by one, until the intake is closed."""
        reader, intake = self._reader, self.intake
        outage = Outage(self.context)
        await self.in_turn(trio.lowlevel.checkpoint)  # not before init is done: an attempt is written for what is pulled
        while not intake.closed:
            entry: Entry[T] | None = None
            with intake.waiting():
                try:
                    entry = await reader.next()
                    if entry is None:
                        await reader.wait()
                    outage.over()
                except StoreUnavailable as error:
                    await outage.wait(error)
                except UnknownEntry as unknown:
                    await self._unknown(unknown)
                except BadEntry as bad:
                    await self._unreadable(bad)
            if entry is not None:
                pause = await self.in_turn(lambda entry=entry: self._handle(entry))
                with intake.waiting():
                    await trio.sleep(pause)
        self.stop()

    async def _handle(self, entry: Entry[T]) -> float:
        """Handle one entry; return for how long to let the inbox rest."""
        try:
            await self.handle_entry(entry)
            if not entry.processed:
                await self._reader.mark(entry)
        except (LeaseLost, StoreUnavailable):
            raise  # says nothing about the entry; `LeaseHeld` deals with it
        except trio.Cancelled:
            await self._give_back(entry)
            raise
        except Exception as error:
            return await self._failed(entry, error)
        self._emit(EntryApplied, entry)
        return 0.0

    async def _give_back(self, entry: Entry[T]) -> None:
        """We interrupted the handler, so the attempt does not count; if that cannot be written any more, it does."""
        with trio.move_on_after(RELEASE_TIME / 2, shield=True):
            try:
                await self._reader.release(entry)
            except StoreError:
                pass  # lost, or out of reach: whoever is next finds the attempt written, and nothing else

    async def _failed(self, entry: Entry[T], error: Exception) -> float:
        await self._reader.failed(entry, error)
        over = entry.attempt >= self._max_attempts and self._on_failure != "block"
        decision = self._on_failure if over else "retry"
        self._emit(EntryFailed, entry, error=repr(error), decision=decision)
        if decision == "dead":
            await self._reader.bury(entry, reason=f"attempt {entry.attempt} was the last: {error!r}", error=error)
            return 0.0
        if decision == "stop":
            raise error
        return self._backoff.delay(entry.attempt, self._rng)

    async def _unknown(self, unknown: UnknownEntry) -> None:
        """The head needs a newer program: stand back for one, if there is one; in the end decide as for a failure."""
        if unknown.grace_over and self._on_failure == "dead":
            await self._reader.bury(unknown.entry, reason=str(unknown))
        elif unknown.grace_over and self._on_failure == "stop":
            raise unknown
        else:
            raise StandBack(str(unknown)) from unknown

    async def _unreadable(self, bad: BadEntry) -> None:
        """No program will ever read the head."""
        if self._on_failure == "dead":
            await self._reader.bury(bad.entry, reason=str(bad), error=bad.__cause__ or bad)
            return
        if self._on_failure == "stop":
            raise bad
        self.context.condition("inbox", ok=False, detail=str(bad))
        await trio.sleep(self._backoff.cap)

    def _emit(self, kind: type, entry: Entry[T], **details: object) -> None:
        self.context.emit(
            kind(
                path=self.context.path,
                inbox=self.inbox.name,
                seq=entry.seq,
                attempt=entry.attempt,
                epoch=self.epoch,
                **details,
            )
        )
