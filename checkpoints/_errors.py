"""What can go wrong here. `LeaseLost` and the outages of a store come from `otp.engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._rows import StoredEntry


class AlreadyHeld(RuntimeError):
    """This process holds the name already.

    Two workers of one process under one durable name are a mistake in the program: they would wait for each
    other for as long as the process lives. A worker that restarts releases its lease first, or loses it.
    """

    def __init__(self, name: str, epoch: int) -> None:
        super().__init__(
            f"the name {name!r} is already held by this engine object (epoch {epoch}): "
            f"release it first, or give the second worker a name of its own"
        )
        self.name = name
        self.epoch = epoch


class ForeignLease(ValueError):
    """A checkpoint or inbox is opened under another lease than before.

    Epochs of two leases cannot be compared, so neither could be told to be the older. A checkpoint belongs to one
    unit of work: its key goes with the job's id or with the actor's name, and always with the same lease.
    """

    def __init__(self, what: str, known: str, given: str) -> None:
        super().__init__(
            f"{what} belongs to the lease {known!r} and cannot be opened under {given!r}: their epochs cannot be "
            f"compared. Give each unit of work a key of its own"
        )
        self.known = known
        self.given = given


class StepTooLarge(ValueError):
    """A step's data is over the limit. Nothing was written."""

    def __init__(self, key: str, step: str, size: int, limit: int) -> None:
        super().__init__(
            f"step {step!r} of checkpoint {key!r} takes {size} bytes, the limit is {limit}: "
            f"save less (a reference or a cursor), or raise max_bytes"
        )
        self.key = key
        self.step = step
        self.size = size
        self.limit = limit


class StepNotSaved(KeyError):
    """The checkpoint holds no such step."""

    def __init__(self, key: str, step: str, occurrence: int) -> None:
        super().__init__(key, step, occurrence)
        self.key = key
        self.step = step
        self.occurrence = occurrence

    def __str__(self) -> str:
        return f"checkpoint {self.key!r} has no step {self.step!r}, occurrence {self.occurrence}"


class InboxFull(Exception):
    """The inbox holds `limit` unprocessed entries. Nothing was written: the sender slows down or gives up."""

    def __init__(self, inbox: str, depth: int, limit: int) -> None:
        super().__init__(f"inbox {inbox!r} is full: {depth} unprocessed entries, the limit is {limit}")
        self.inbox = inbox
        self.depth = depth
        self.limit = limit


class NotHead(ValueError):
    """An entry was finished while an earlier one is unprocessed. Nothing was written: entries go strictly in order."""

    def __init__(self, inbox: str, seq: int, head: int) -> None:
        super().__init__(f"entry {seq} of inbox {inbox!r} cannot be finished before entry {head}, which is the head")
        self.inbox = inbox
        self.seq = seq
        self.head = head


class EntryGone(ValueError):
    """The entry was marked or buried before. Nothing was written: its effects are not applied a second time."""

    def __init__(self, inbox: str, seq: int) -> None:
        super().__init__(f"entry {seq} of inbox {inbox!r} is not there any more: it was marked or buried before")
        self.inbox = inbox
        self.seq = seq


class UnknownEntry(Exception):
    """The head's payload has a topic or version that this program does not know. It costs no attempt.

    During a rolling deploy old processes meet new messages. The head is not skipped (that would break the order):
    wait and ask again, or stand back for a newer process; when `grace_over`, apply the policy (`bury` or stop).

    Attributes:
        entry: the entry as it is stored.
        waited: seconds of engine time since an unknowing reader met it first, over all processes.
        grace_over: whether that is longer than the inbox's `unknown_grace`.

    """

    def __init__(self, entry: StoredEntry, waited: float, *, grace_over: bool) -> None:
        super().__init__(
            f"entry {entry.seq} of inbox {entry.inbox!r} has a payload that is not known here: "
            f"{entry.envelope.topic!r} version {entry.envelope.version}; met {waited:.0f} s ago"
        )
        self.entry = entry
        self.waited = waited
        self.grace_over = grace_over


class BadEntry(Exception):
    """The head's payload cannot be read at all: damaged, or not what its topic says. No waiting will mend it.

    Attributes:
        entry: the entry as it is stored; `bury` takes it.

    """

    def __init__(self, entry: StoredEntry, cause: Exception) -> None:
        super().__init__(f"entry {entry.seq} of inbox {entry.inbox!r} cannot be read: {cause}")
        self.entry = entry
