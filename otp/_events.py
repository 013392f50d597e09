"""What happens in a tree, as values, and the bus that hands them to whoever subscribed.

The log, metrics, the demo's live view and tests are all subscribers; nothing else in this package knows of them. An
event nobody asked for is never built: who emits one first looks whether its kind is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import attrs

from ._exit import Crashed, ExitReason
from ._protocol import Decision

OverflowOutcome: TypeAlias = Literal["dropped", "diverted"]
"""What became of a message that did not fit."""
StuckAfter: TypeAlias = Literal["asked to stop", "began to end", "began to start"]
"""Since when a child should have ended, or be up; see `ChildStuck`."""


@attrs.frozen(kw_only=True)
class ChildEvent:
    """What all events of one child have in common."""

    path: str
    """Where the child is in the tree, as in ``"app/ledger"``."""
    incarnation: int
    """Which life of the child: numbers grow and are never used twice under one supervisor."""
    at: float
    """When, on trio's clock."""
    guest: bool = False
    """True if it lives inside another child, which decides what follows from its end; see :func:`host`."""


@attrs.frozen(kw_only=True)
class ChildStarted(ChildEvent):
    """A child has finished its init and is up."""


@attrs.frozen(kw_only=True)
class ChildIgnored(ChildEvent):
    """A child said in its init that it is not needed (:exc:`Ignore`); that counts as a successful start."""


@attrs.frozen(kw_only=True)
class ChildStartFailed(ChildEvent):
    """A child ended before it had finished its init."""

    reason: ExitReason
    """With what; :class:`Crashed` with an `InitTimeout` if it took too long."""


@attrs.frozen(kw_only=True)
class ChildExited(ChildEvent):
    """A child that had been up has ended; its name is free and its task is gone."""

    reason: ExitReason
    """With what."""
    asked: bool
    """True if its supervisor had asked it to stop."""
    late: bool = False
    """True if it was asked, and had to be cancelled as its `shutdown` time was over; not if that is ``"brutal"``."""


@attrs.frozen(kw_only=True)
class ChildStuck(ChildEvent):
    """A child was to end and then cancelled, and still goes on 5 seconds later. The supervisor waits for it.

    Cancelled it was because its `shutdown` or `init_timeout` was over. So is an actor that has crashed, or ends by
    itself, and is not done with its cleanup, or with its helper tasks, within its `shutdown` time; and whoever is not
    done in that time after its supervisor was cut short. In OTP it would have been killed by then; here that is not
    possible.
    """

    after: StuckAfter = "asked to stop"
    """What has happened to it: it was asked to stop, began to end (by itself, or because its supervisor was
    cut short), or began to start and does not."""
    waited: float
    """Seconds since that."""


@attrs.frozen(kw_only=True)
class MessagesDropped(ChildEvent):
    """A child ended with messages unread in its mailbox, and they are lost. Of calls not counted, the callers know."""

    count: int
    """How many."""


@attrs.frozen(kw_only=True)
class ActorCrashed(ChildEvent):
    """An actor crashed: what it was doing, as its own `describe_state` and `describe_message` show it.

    It comes before the cleanup; :class:`ChildExited` comes after it, and says what the actor has ended with. (OTP's
    crash report.)
    """

    reason: Crashed
    """What it crashed with."""
    state: object
    """Its state at that moment."""
    message: object
    """The message, or the request, that it was handling; None if there was none, and a helper failed for instance."""
    caller: str | None
    """Who waits for the answer, if it is a request: the path of the child, or the name of the task."""


@attrs.frozen(kw_only=True)
class MessageEvent(ChildEvent):
    """What all events of one message to a child have in common."""

    message: object = attrs.field(repr=False)
    """The message, or what was asked if it was a call; perhaps something that should not be in a log."""


@attrs.frozen(kw_only=True)
class PoisonMessage(MessageEvent):
    """An actor crashed, or was cancelled, in the handler of this message: a dead letter, given to nobody again.

    Whoever wants to keep it subscribes to this. (Ergo drops it without a word.)
    """

    reason: ExitReason
    """What the actor ended with."""


@attrs.frozen(kw_only=True)
class MailboxOverflowed(MessageEvent):
    """A full mailbox has dropped or diverted a message, as its :class:`Mailbox` says.

    A subscriber may send to that mailbox in turn: what does not fit then is dropped and counted, and not told.
    """

    what: OverflowOutcome
    """Whether it is lost, or another actor has it."""
    count: int
    """How many it were, of this incarnation, with this one."""


@attrs.frozen(kw_only=True)
class SupervisorDecided:
    """A supervisor decided what to do about something: which child, why, and how far its window is used."""

    path: str
    """The supervisor's path."""
    decision: Decision
    """When, about which child, why, what, and how far the window that counts for it is used."""


@attrs.frozen(kw_only=True)
class ConditionChanged:
    """A readiness condition has changed: a child set it, or it was cleared when the child ended."""

    path: str
    """Of the child that the condition belongs to."""
    at: float
    """When, on trio's clock."""
    name: str
    """Which condition."""
    ok: bool
    """Whether the service may be ready as far as this goes."""
    detail: str
    """What the child said about it."""


Subscriber: TypeAlias = Callable[[object], None]
"""Called with each event, in the trio thread; it must not block and cannot await."""

_EVERYTHING: Final = object
_logger = logging.getLogger("otp")


class EventBus:
    """Hands each event to those who subscribed to its kind, at once and in the order of subscription.

    It is at ``runtime.events``. Any object can be an event. A subscriber that raises is removed and the error is
    logged: a broken metric must not take the tree down. All of it belongs to the trio thread.
    """

    __slots__ = ("_subscribers", "_wanted")

    def __init__(self) -> None:
        self._subscribers: list[tuple[Subscriber, tuple[type, ...]]] = []
        # Per kind: the subscribers for it. Filled on first use, emptied when the subscriptions change.
        self._wanted: dict[type, tuple[Subscriber, ...]] = {}

    def subscribe(self, subscriber: Subscriber, *kinds: type) -> Callable[[], None]:
        """Call `subscriber` with every event from now on, or only with those of the given kinds.

        Args:
            subscriber: Is called in the middle of what happened, so it must neither block nor raise.
            kinds: Classes; events of classes derived from them are meant, too.

        Returns:
            A function that ends the subscription; calling it again does nothing.
        """
        entry = (subscriber, kinds or (_EVERYTHING,))
        self._subscribers.append(entry)
        self._wanted.clear()

        def unsubscribe() -> None:
            if entry in self._subscribers:
                self._subscribers.remove(entry)
                self._wanted.clear()

        return unsubscribe

    def wants(self, kind: type) -> bool:
        """Whether anybody listens to events of this kind: ask before building one that costs something."""
        found = self._wanted.get(kind)
        return bool(self._for(kind) if found is None else found)

    def emit(self, event: object) -> None:
        """Hand `event` to its subscribers. Never raises for what a subscriber does."""
        if not self._subscribers:
            return
        for subscriber in self._for(type(event)):
            try:
                subscriber(event)
            except Exception:
                self._subscribers = [entry for entry in self._subscribers if entry[0] is not subscriber]
                self._wanted.clear()
                _logger.exception("the event subscriber %r raised and was removed", subscriber)

    def _for(self, kind: type) -> tuple[Subscriber, ...]:
        found = self._wanted.get(kind)
        if found is None:
            found = tuple(who for who, kinds in self._subscribers if issubclass(kind, kinds))
            self._wanted[kind] = found
        return found
