"""P3, the durable inbox: a message is stored before it is handled, handled in order by one owner, and marked after.

The actor leads where its inbox's name lease is held and stands by elsewhere (`LeaseHeldActor`). Replay after a
restart is
no phase of its own: a helper pulls the head of the inbox and has it handled in the actor's turn, so entries, messages
and calls come one at a time, and what was left unprocessed comes before what is new.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import trio

from checkpoints import BadEntry, Inbox, UnknownEntry
from otp import Backoff, MailboxFull, NotAlive
from otp.engines import LeaseLost, StoreError, StoreUnavailable

from ._blame import is_blameless
from ._checks import check_count, check_instance
from ._events import EntryApplied, EntryEvent, EntryFailed
from ._intake import RELEASE_TIME
from ._lease_held import StandBack
from ._lease_held_actor import LeaseHeldActor
from ._outage import Outage
from ._tell import in_words, tell

if TYPE_CHECKING:
    from checkpoints import Entry, InboxReader

T = TypeVar("T")

BACKOFF: Final = Backoff(initial=0.5, cap=60.0, jitter=0.2)
"""How long a failing head waits, unless the actor is told otherwise."""
FULL_MAILBOX_PAUSE: Final = 0.05
_RNG: Final = random.Random()

OnFailure = Literal["block", "dead", "stop"]


class DurableInbox(LeaseHeldActor, Generic[T]):
    """An actor whose messages survive it. Subclass it and write `handle_entry`.

    ::

        class Ledger(DurableInbox[Posting]):
            async def handle_entry(self, entry: Entry[Posting]) -> None:
                async with entry.commit() as tx:        # the processed mark and one's own rows: short, last
                    await tx.execute(SQL, entry.payload.amount)

        child(lambda: Ledger(inbox), id="ledger")
        await inbox.post(Posting(amount=5), id="order-17")      # by anyone, anywhere; no lease, no actor needed

    One process leads, under a lease on the inbox's name; the others stand by, started and ready, and take over when it
    lets go (milliseconds) or dies (the lease's time). Its state is made in `init`, for each leadership anew; see
    `LeaseHeldActor`. When the service drains the entry in the handler is finished, and no other is begun.

    A head that only a newer program can read makes the actor stand back, so that a newer process can lead.

    Args:
        inbox: what to handle. Its engine must be open while the child runs.
        on_failure: what follows when `handle_entry` has failed `max_attempts` times for the head of the inbox, or when
            the head can be read by no program. ``"block"``: it is tried again with backoff and everything behind it
            waits, so that the order is kept at any price; ``"dead"``: the entry goes to the inbox's dead letters and
            the next is handled; ``"stop"``: the child crashes and its supervisor decides. Failures before that are
            tried again with backoff, and are no crash in any case.
        max_attempts: see there.
        backoff: how long the head waits after a failure, by its attempt. Default: 0.5 s, doubled each time, at most a
            minute.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

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
        self.inbox: Inbox[T] = check_instance("inbox", inbox, Inbox)
        if on_failure not in ("block", "dead", "stop"):
            raise ValueError(f"on_failure must be 'block', 'dead' or 'stop', not {on_failure!r}")
        super().__init__(inbox.engine, inbox.name)
        self._on_failure = on_failure
        self._max_attempts = check_count("max_attempts", max_attempts)
        self._backoff: Backoff = check_instance("backoff", backoff, Backoff)

    @abstractmethod
    async def handle_entry(self, entry: Entry[T]) -> None:
        """Handle the head of the inbox.

        What it changes in the inbox's own database belongs into ``async with entry.commit() as tx:``, last and short:
        the user's rows and the processed mark are stored together, or neither. An entry that was not committed so is
        marked when this returns, and effects elsewhere, which may happen again after a crash, carry `entry.id` as
        their dedup id.

        An exception is a failed attempt of this entry, not a crash of the actor; but one raised after the commit is,
        since the entry is done and the actor's state may not be. A store that is away costs no attempt.

        Cancelled when the lease is lost, and at the end of a drain or stop; then the attempt does not count.
        """

    async def _prepare(self) -> None:
        self._reader: InboxReader[T] = await self.inbox.open(self.lease)
        await super()._prepare()

    async def _work_until_closed(self) -> None:
        """Pull the head and have it handled, one by one, until the intake is closed."""
        outage = Outage(self.context)
        pause = 0.0
        while not self.intake.closed:
            entry: Entry[T] | None = None
            with self.intake.waiting():
                await trio.sleep(pause)
                pause = 0.0
                try:
                    entry = await self._next(outage)
                except StoreUnavailable as error:
                    await outage.wait(error)
            if entry is not None:
                try:
                    pause = await self._have_it_handled(entry)
                except NotAlive:
                    return  # the actor is ending
        await self._end_in_turn()

    async def _next(self, outage: Outage) -> Entry[T]:
        """Wait for the head. The last thing that waits here writes its attempt: so no cancellation can lose it."""
        while True:
            try:
                entry = await self._reader.next()
            except UnknownEntry as unknown:
                await self._unknown(unknown)
                continue
            except BadEntry as bad:
                await self._unreadable(bad)
                continue
            outage.over()
            if entry is not None:
                return entry
            await self._reader.wait()

    async def _have_it_handled(self, entry: Entry[T]) -> float:
        """Have `entry` handled between two messages; return for how long to let the inbox rest."""
        begun = False

        async def handle() -> float:
            nonlocal begun
            begun = True
            return await self._handle(entry)

        try:
            while True:
                try:
                    return await self.in_turn(handle)
                except MailboxFull:
                    await trio.sleep(FULL_MAILBOX_PAUSE)
        finally:
            if not begun:
                await self._give_back(entry)

    async def _handle(self, entry: Entry[T]) -> float:
        try:
            await self.handle_entry(entry)
            if not entry.processed:
                await self._reader.mark(entry)
        except BaseException as error:
            if trio.current_effective_deadline() == -math.inf:
                await self._give_back(entry)
                await trio.lowlevel.checkpoint()  # what a handler raises while it is cancelled says nothing
            if entry.processed or not isinstance(error, Exception):
                raise
            if isinstance(error, LeaseLost) and error.token == self.lease.token:
                raise
            if is_blameless(error):
                await self._give_back(entry)
                raise
            return await self._failed(entry, error)
        self._tell(EntryApplied, entry)
        return 0.0

    async def _give_back(self, entry: Entry[T]) -> None:
        """We interrupted the handler, so the attempt does not count; if that cannot be written any more, it does."""
        if entry.processed:
            return
        with trio.move_on_after(RELEASE_TIME / 2, shield=True):
            try:
                await self._reader.release(entry)
            except StoreError:
                pass  # lost, or out of reach: whoever is next finds the attempt written, and nothing else

    async def _failed(self, entry: Entry[T], error: Exception) -> float:
        await self._reader.failed(entry, error)
        over = entry.attempt >= self._max_attempts and self._on_failure != "block"
        decision = self._on_failure if over else "retry"
        self._tell(EntryFailed, entry, cause=error, error=in_words(error), decision=decision)
        if decision == "dead":
            reason = f"attempt {entry.attempt} was the last: {type(error).__name__}: {error}"
            await self._reader.bury(entry, reason=reason, error=error)
            return 0.0
        if decision == "stop":
            raise error
        return self._backoff.delay(entry.attempt, _RNG)

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
        elif self._on_failure == "stop":
            raise bad
        else:
            self.context.condition("inbox", ok=False, detail=str(bad))
            await trio.sleep(self._backoff.cap)
            self.context.condition("inbox", ok=True)

    def _tell(
        self, kind: type[EntryEvent], entry: Entry[T], *, cause: BaseException | None = None, **details: Any
    ) -> None:
        tell(
            self.context,
            kind,
            cause=cause,
            inbox=self.inbox.name,
            seq=entry.seq,
            attempt=entry.attempt,
            epoch=self.epoch,
            **details,
        )
