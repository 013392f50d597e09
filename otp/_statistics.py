"""A tree in numbers: values that are read at one moment and never change."""

from __future__ import annotations

import attrs

from ._exit import ExitReason
from ._protocol import Decision, Status
from ._spec import Strategy


@attrs.frozen(kw_only=True)
class MailboxStatistics:
    """A mailbox in numbers, read at one moment."""

    unread: int
    """Messages and calls that wait to be handled."""
    limit: int
    """How many may wait."""
    senders_waiting: int
    """Tasks that wait in `send_wait` for room."""
    overflowed: int
    """Messages that this incarnation's box has dropped or diverted because it was full."""


@attrs.frozen(kw_only=True)
class ChildStatistics:
    """One child at one moment."""

    id: str
    """Its id under its supervisor."""
    status: Status
    """What its supervisor knows of it: running, starting, stopping, restarting (waiting for it), stopped or parked."""
    stuck: bool
    """True if it was to end, was then cancelled, and still has not ended; see :class:`ChildStuck`."""
    incarnation: int | None
    """Which life it is in; None when it is not alive."""
    reason: ExitReason | None
    """What its last life ended with; None when it is alive, or has never been."""
    mailbox: MailboxStatistics | None
    """How full its mailbox is; None if it takes no messages or is not alive."""
    children: SupervisorStatistics | None
    """Its own children, if it is a supervisor and alive."""


@attrs.frozen(kw_only=True)
class SupervisorStatistics:
    """One supervisor at one moment, with everything below it."""

    path: str
    """Where it is in the tree."""
    strategy: Strategy
    """Whom it restarts when a child needs it."""
    restarts: int
    """Restarts within the window now; one more than `intensity` makes it give up."""
    intensity: int
    """How many restarts it allows within the window."""
    period: float
    """How long the window is, in seconds."""
    decisions: tuple[Decision, ...]
    """The last 50 decisions, oldest first: when, about which child, why, and what. Crashes are in writing."""
    children: tuple[ChildStatistics, ...]
    """In start order."""


@attrs.frozen(kw_only=True)
class RuntimeStatistics:
    """A whole tree at one moment."""

    late_replies: int
    """Answers that came when their caller had gone, so far."""
    skipped_calls: int
    """Calls not handled because their caller had gone or their deadline had passed, so far."""
    waiting_calls: int
    """Calls with the default timeout that wait for their answer."""
    names: int
    """Registered names."""
    draining: tuple[str, ...]
    """Paths of the children that a drain waits for, or would wait for."""
    root: SupervisorStatistics | None
    """The root supervisor, while it is alive."""
    guests: tuple[SupervisorStatistics, ...]
    """The supervisors that live inside another child, see :func:`host`; the first to start is the first."""
