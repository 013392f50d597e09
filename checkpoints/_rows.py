"""What is stored, as values: the same for every engine."""

from __future__ import annotations

import zlib
from typing import Final

from attrs import frozen

from otp.engines import Envelope, Failure


@frozen
class Holder:
    """Who holds a name, for people to read.

    Attributes:
        name: the durable name.
        owner: the process instance that holds it.
        epoch: how often the name has been taken so far, this time included.
        remaining: seconds until the lease runs out, unless it is renewed.

    """

    name: str
    owner: str
    epoch: int
    remaining: float


@frozen
class SavedStep:
    """One saved step of a checkpoint.

    Attributes:
        step: its name.
        occurrence: which pass through the step, from 0.
        seq: its place among all saves of this checkpoint, which only grows; a step that is saved again moves to the
            end.
        envelope: the data as stored; `Checkpoint.load` turns it into a value.
        epoch: the incarnation that saved it.
        saved_at: engine time of the save, in seconds.

    """

    step: str
    occurrence: int
    seq: int
    envelope: Envelope
    epoch: int
    saved_at: float


@frozen
class DamagedStep:
    """A step that was found damaged, or that rests on a damaged one, when the checkpoint was opened."""

    step: str
    occurrence: int
    seq: int
    reason: str


@frozen
class StepRow:
    """A step as the engine returns it, with the checksum that was computed when it was saved."""

    saved: SavedStep
    checksum: int

    def is_intact(self, key: str) -> bool:
        """Return whether the row is what was saved."""
        saved = self.saved
        return (
            saved.envelope.intact and step_checksum(key, saved.step, saved.occurrence, saved.envelope) == self.checksum
        )


def step_checksum(key: str, step: str, occurrence: int, envelope: Envelope) -> int:
    """Return the checksum of everything that a resume relies on: whose step this is and how its data is to be read.

    The envelope's own checksum covers its body only; a row that carries the data of another step would pass it.
    """
    headers = sorted(envelope.headers.items())
    head = repr((key, step, occurrence, envelope.topic, envelope.version, envelope.codec, headers))
    return zlib.crc32(envelope.body, zlib.crc32(head.encode()))


@frozen
class CheckpointView:
    """A checkpoint as `Checkpoints.peek` finds it, without a lease: for people and for tests.

    Attributes:
        key: its key.
        lease: the lease it belongs to, as kind and key.
        owner: who opened it last.
        epoch: the highest epoch that it has seen.
        closed: whether it was cleared.
        steps: the intact steps in the order of their saving.

    """

    key: str
    lease: str
    owner: str
    epoch: int
    closed: bool
    steps: tuple[SavedStep, ...]


@frozen
class Posted:
    """What became of a post.

    Attributes:
        seq: the entry's place in the inbox; of the first post with this id when it is a duplicate.
        id: the entry's id: the sender's dedup id, or one that was made for it.
        duplicate: whether the inbox had this id already. Nothing was written then.

    """

    seq: int
    id: str
    duplicate: bool


@frozen
class StoredEntry:
    """An inbox entry as it is stored.

    Attributes:
        inbox: the inbox's name.
        seq: its place: entries are handled strictly in this order.
        id: dedup id of its effects elsewhere; the sender's own if it gave one.
        deduplicated: whether the sender gave the id, so that a second post with it is recognised.
        sender: who sent it, if they said so.
        envelope: the payload as stored.
        posted_at: engine time of the post, in seconds.
        attempts: how often a handler was given it so far.
        releases: how often it was given back without costing an attempt.
        error: what the last failed attempt said, "" if none did.
        history: the failed attempts: the first one and the last ones.

    """

    inbox: str
    seq: int
    id: str
    deduplicated: bool
    sender: str | None
    envelope: Envelope
    posted_at: float
    attempts: int = 0
    releases: int = 0
    error: str = ""
    history: tuple[Failure, ...] = ()


@frozen
class InboxStatistics:
    """An inbox in figures.

    Attributes:
        name: the inbox.
        depth: unprocessed entries.
        max_depth: how many of them are allowed.
        posted: entries that were ever accepted.
        dead: dead letters.
        head: place of the first unprocessed entry, None if there is none.
        oldest_age: seconds since the head was posted, 0 if there is none.
        owner: who opened the inbox last, None if nobody did.
        epoch: the highest epoch that the inbox has seen.

    """

    name: str
    depth: int
    max_depth: int
    posted: int
    dead: int
    head: int | None
    oldest_age: float
    owner: str | None
    epoch: int


@frozen
class NewEntry:
    """An entry that is about to be posted."""

    id: str
    deduplicated: bool
    sender: str | None
    envelope: Envelope
    history: tuple[Failure, ...] = ()


@frozen
class Counts:
    """What changes of an entry while it is being handled."""

    attempts: int
    releases: int
    error: str


_HISTORY: Final = 10


def with_failure(history: tuple[Failure, ...], failure: Failure) -> tuple[Failure, ...]:
    """Return the history with one more failure: the first and the last say most, and a row must not grow for ever."""
    return (*history[:1], *history[1:][-(_HISTORY - 2) :], failure)
