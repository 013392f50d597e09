"""The record of work that was given up: the same in every engine, for queues and inboxes."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from ._envelope import Envelope


@frozen(kw_only=True)
class Failure:
    """One attempt that failed: its number, when, whose it was, and the end of the error's text."""

    attempt: int
    at: float
    owner: str
    error: str


@frozen(kw_only=True)
class DeadLetter:
    """One parked job or inbox entry. It stays until somebody requeues or drops it.

    Times are engine seconds. `error` is the text of the last traceback (or ""), `reason` one line.
    `owner` and `epoch` are those of the last holder: a requeue keeps the id and goes on with the epoch, so
    that a zombie of the old life stays fenced out.
    """

    id: str
    kind: Literal["queue", "inbox"]
    source: str  # the queue's or inbox's name
    envelope: Envelope
    attempts: int
    releases: int
    reason: str
    error: str
    first_at: float  # when it was first stored
    last_at: float  # when it was given up
    owner: str
    epoch: int
    history: tuple[Failure, ...] = ()  # the first failed attempt and the last ones
