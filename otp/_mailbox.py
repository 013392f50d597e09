"""The mailbox: a deque with one wake-up.

Measured on trio, what costs is the scheduler pass and not the container: a memory channel needs a pass per
message and moves 0.14 million of them a second, a deque emptied in batches 4.6 million. So sending only appends, and
wakes the receiver if it is parked; the receiver takes what is there, up to `BATCH` messages or about `SLICE` seconds,
before it lets others run.

What must not wait behind a backlog (stop now, continue, inspect) is put at the *front*, behind others of its kind. That
is its lane: it overtakes all messages, and the receiver needs no second look per message.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, final

import outcome
import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from ._call import Addressee, Request, Turn
from ._entries import Entry, Halt, Last, Notice
from ._errors import MailboxFull, NoMailbox, NotAlive, OtpError
from ._exit import Shutdown
from ._statistics import MailboxStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence

    from ._exit import ExitReason

BATCH: Final = 64
"""How many messages an actor handles at most before it lets other tasks run."""
SLICE: Final = 0.001
"""After how many seconds, about, it lets other tasks run although the batch is not done."""

# The states of a box, in the order in which they follow each other.
_NONE: Final = 0  # its owner takes no messages (or does not yet)
_NEW: Final = 1  # open, but nothing was ever put in
_OPEN: Final = 2
_STOPPING: Final = 3  # what is in it will be handled, nothing more is accepted
_CLOSED: Final = 4
_ENDED: Final = 5  # and its owner has cleaned up, too

_EMPTY: Final[deque[object]] = deque(maxlen=0)  # shared by all boxes without messages; nothing is ever put in


class OverflowPolicy(Protocol):
    """What is done with a message that there is no room for, if it is not simply refused."""

    @property
    def count(self) -> int:
        """How many messages were dropped or diverted."""
        ...

    def take(self, message: object) -> None:
        """Find a place for it, or for another in its stead.

        Raises:
            MailboxFull: if there is none.
        """
        ...


@final
class Box:
    """The unread messages of one incarnation, its receiver's parking place, and the reason why it is closed."""

    # Two limits: `limit` is what the hot path of send compares with, and is 0 as long as there is no deque and once
    # the box is closed. That makes all that is rare (first message, full, closed) one branch, and an idle actor
    # that never got a message carries no deque (600 bytes).
    __slots__ = (
        "_full",
        "_overflow",
        "_senders",
        "limit",
        "owner",
        "parked",
        "queue",
        "reason",
        "running",
        "state",
        "target",
    )

    def __init__(self, target: Addressee) -> None:
        self.target = target
        self.queue: deque[object] = _EMPTY
        self.limit = 0
        self.parked: Task | None = None
        self.owner: Task | None = None
        self.running: Request | None = None
        self.reason: ExitReason | None = None
        self.state = _NONE
        self._full = 0
        self._overflow: OverflowPolicy | None = None
        self._senders: dict[Task, object] | None = None  # who waits for room, with what, in order

    def open(self, limit: int, overflow: OverflowPolicy | None = None) -> None:
        """Accept up to `limit` messages from now on. What is one too many is for `overflow`; None refuses it."""
        if self.state == _NONE:
            self.state = _NEW
            self._full = limit
            self._overflow = overflow
            if self.queue:
                self._allocate()

    def inherit(self, messages: list[object]) -> None:
        """Begin with what the last incarnation has left."""
        self.queue = deque(messages)
        for message in messages:
            if isinstance(message, Request):
                message.target = self.target

    def disinherit(self) -> list[object]:
        """Give back what was left to it: its owner has come up, and takes no messages."""
        left, self.queue = list(self.queue), _EMPTY
        return left

    @enable_ki_protection
    def put(self, message: object) -> None:
        """Append a message, and wake the receiver if it is parked.

        Raises:
            NotAlive: if the receiver has ended or is stopping.
            MailboxFull: if there is no room.
        """
        if len(self.queue) >= self.limit:
            self.put_slowly(message)
            return
        self.queue.append(message)
        task = self.parked
        if task is not None:
            self.parked = None
            reschedule(task)

    @enable_ki_protection
    async def put_wait(self, message: object) -> None:
        """Append a message, waiting for room as long as it takes; those who wait are served in turn.

        A checkpoint in any case. If it is cancelled the message was not sent.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.owner is current_task():  # who waits for itself would wait for ever
            self.admit()
            if self.state == _OPEN and len(self.queue) >= self.limit:
                raise MailboxFull(self.target.path, self._full)
        if self.state == _OPEN and (self._senders or len(self.queue) >= self.limit):
            if self._senders is None:
                self._senders = {}
            senders, task = self._senders, current_task()

            def abort(_: RaiseCancelT) -> Abort:
                del senders[task]
                return Abort.SUCCEEDED

            senders[task] = message
            await wait_task_rescheduled(abort)
        else:
            self.put(message)
            await trio.lowlevel.cancel_shielded_checkpoint()

    def put_self(self, message: object) -> None:
        """Append a message of the receiver to itself: also while stopping, when others are not let in any more."""
        if self.state == _STOPPING:
            self.queue.append(message)
        else:
            self.put(message)

    def put_front(self, messages: list[object]) -> None:
        """Put messages before all others, keeping their order among themselves; the limit does not apply."""
        if messages:
            self._allocate()
            self.queue.extendleft(reversed(messages))
            self._wake()

    def put_next(self, entry: Entry) -> None:
        """Put an entry before all messages, behind others of its kind that are there already.

        Raises:
            NotAlive: if the receiver has ended.
            NoMailbox: if it is not one that takes messages.
        """
        self._allocate()
        if self.state not in (_OPEN, _STOPPING):
            raise self.refusal()
        insert_next(self.queue, entry)
        self._wake()

    def put_notice(self, notice: Notice | Entry) -> None:
        """Append something that the receiver has asked for: the limit does not apply. Dropped if it takes no more."""
        self._allocate()
        if self.state == _OPEN:
            self.queue.append(notice)
            self._wake()

    def take_back(self, notices: Callable[[object], bool]) -> None:
        """Remove those entries that `notices` says."""
        if any(notices(entry) for entry in self.queue):
            kept = [entry for entry in self.queue if not notices(entry)]
            self.queue.clear()
            self.queue.extend(kept)

    @enable_ki_protection
    def admit(self) -> None:
        """Take in the messages of as many waiting senders as there is room for; the receiver calls it now and then.

        Taken over here, and not by the senders when they run again: trio runs them in any order.
        """
        senders = self._senders
        while senders and len(self.queue) < self.limit:
            task = next(iter(senders))
            self.queue.append(senders.pop(task))
            reschedule(task)

    def __call__(self, _: RaiseCancelT) -> Abort:
        """The receiver was cancelled while it was parked: the box itself is what trio calls then.

        (A method would be one more object for each idle actor, and one for each time that it parks.)
        """
        self.parked = None
        return Abort.SUCCEEDED

    def halt(self, reason: ExitReason) -> None:
        """Make the receiver end after what it is doing now."""
        if self.state < _CLOSED:
            self._allocate()
            self.queue.appendleft(Halt(reason))
            self._wake()

    def stop_intake(self, reason: ExitReason) -> None:
        """Accept nothing more from others; what is queued will be handled, then the receiver ends with `reason`."""
        if self.state in (_NEW, _OPEN):
            self._allocate()
            self.state = _STOPPING
            self.limit = 0
            self.queue.append(Last(reason))
            self._wake()
            self._refuse_senders()

    def end_turns(self) -> None:
        """Accept nothing more, and tell those who wait for their turn; others, as soon as it is known what of."""
        self.stop_intake(Shutdown())
        for entry in self.queue:
            if isinstance(entry, Request) and type(entry.message) is Turn:
                entry.fail(self.not_alive())

    def close(self, reason: ExitReason, *, kept: bool = False) -> list[object]:
        """The receiver has ended: refuse everything, tell all callers, and return the unread messages.

        With `kept` the calls that nobody has begun are among them, and their callers go on waiting. (Not turns, and
        questions of tools: those are for this incarnation, and who waits for a turn may be what holds up its end.)
        """
        self.state = _CLOSED
        self.reason = reason
        self.limit = 0
        unread: list[object] = []
        if self.running is not None:
            self.running.fail(self.not_alive())
            self.running = None
        for message in self.queue:
            if isinstance(message, Request):
                if kept and type(message.message) is not Turn:
                    unread.append(message)
                else:
                    message.fail(self.not_alive())
            elif not isinstance(message, Entry | Notice):
                unread.append(message)
        self.queue = _EMPTY
        self._refuse_senders()
        return unread

    def end(self) -> None:
        """The owner has cleaned up, too."""
        self.state = _ENDED

    @property
    def closing(self) -> bool:
        """Whether nothing is accepted any more."""
        return self.state >= _STOPPING

    @property
    def ended(self) -> bool:
        """Whether the owner is gone."""
        return self.state == _ENDED

    def not_alive(self) -> NotAlive:
        """The error for who sends to, or waits for, a receiver that is not there (any more)."""
        error = NotAlive(self.target.path, self.reason)
        error.__cause__ = getattr(self.reason, "exception", None)
        return error

    @property
    def takes_messages(self) -> bool:
        """Whether its owner is one that receives messages at all."""
        return self._full > 0

    def statistics(self) -> MailboxStatistics:
        """The mailbox in numbers."""
        return MailboxStatistics(
            unread=len(self.queue),
            limit=self._full,
            senders_waiting=len(self._senders) if self._senders else 0,
            overflowed=0 if self._overflow is None else self._overflow.count,
        )

    def put_slowly(self, message: object) -> None:
        """The rare branch of put: the first message, for which the deque is made, or one that there is no room for."""
        if self.state == _NEW:
            self._allocate()
            self.put(message)
        elif self.state == _OPEN and self._overflow is not None:
            self._overflow.take(message)
        else:
            raise self.refusal()

    def refusal(self) -> OtpError:
        """Why nothing (more) is accepted."""
        if self.state == _OPEN:
            return MailboxFull(self.target.path, self._full)
        if self.state == _NONE and self.target.begun:
            return NoMailbox(self.target.path)
        # (Also if its task has yet to begin: what kind of child it is nobody knows before.)
        return self.not_alive()

    def _allocate(self) -> None:
        if self.state == _NEW:
            if not self.queue:
                self.queue = deque()
            self.limit = self._full
            self.state = _OPEN

    @enable_ki_protection
    def _wake(self) -> None:
        task = self.parked
        if task is not None:
            self.parked = None
            reschedule(task)

    @enable_ki_protection
    def _refuse_senders(self) -> None:
        while self._senders:
            task, _ = self._senders.popitem()
            reschedule(task, outcome.Error(self.not_alive()))


def insert_next(queue: MutableSequence[object], entry: Entry) -> None:
    """Put `entry` before all messages in `queue`, behind others of its kind."""
    place = 0
    for other in queue:
        if not (isinstance(other, Entry) and other.jumps_queue):
            break
        place += 1
    queue.insert(place, entry)
