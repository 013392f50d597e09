"""The record of work that was given up: the same in every engine, for queues and inboxes."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from ._envelope import Envelope


@frozen(kw_only=True)
class Failure:
    """One attempt that failed."""

    attempt: int
    """Its number, from 1."""
    at: float
    """When it failed, in engine seconds."""
    owner: str
    """Whose it was: the process instance."""
    error: str
    """The end of the error's text."""


@frozen(kw_only=True)
class DeadLetter:
    """One parked job or inbox entry. It stays until somebody requeues or drops it.

    Times are engine seconds. `owner` and `epoch` are those of the last holder: a requeue keeps the id and goes on
    with the epoch, so that a zombie of the old life stays fenced out.
    """

    id: str
    """Of the job or entry."""
    kind: Literal["queue", "inbox"]
    """What it was given up by."""
    source: str
    """The queue's or inbox's name."""
    envelope: Envelope
    """What was to be done, as it was stored."""
    attempts: int
    """How many were charged."""
    releases: int
    """How often it was given back uncharged."""
    reason: str
    """Why it was given up, in one line."""
    error: str
    """The text of the last traceback, or ""."""
    first_at: float
    """When it was first stored."""
    last_at: float
    """When it was given up."""
    owner: str
    epoch: int
    history: tuple[Failure, ...] = ()
    """The first failed attempt and the last ones."""
