"""What others get to see of an actor: on request, and in the report of its crash.

State and messages may hold what nobody should read in a log, or be too large for one. So both are shown as the actor's
own `describe_state` and `describe_message` say (OTP's ``format_status``). If one of them fails, a note stands in for
what it should have made: a mistake in how something is shown must not hide the crash, nor be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import trio

from ._call import Request, Turn
from ._current import CURRENT
from ._entries import Entry, Notice
from ._events import ActorCrashed, PoisonMessage
from ._exit import Crashed, ExitReason, Stop, describe
from ._statistics import MailboxStatistics
from ._timers import Timer
from ._unwrap import unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._life import Life

OWN: Final = "_life"
"""The attribute of an actor that is none of its state."""


class Describable(Protocol):
    """What is needed of an actor to show it."""

    def describe_state(self) -> object:
        """How its state is shown."""

    def describe_message(self, message: Any, /) -> object:
        """How a message or request is shown."""


@attrs.frozen(kw_only=True)
class Inspection:
    """An actor at one moment between two messages, as its own hooks show it: what :meth:`Ref.inspect` returns."""

    path: str
    """Where it is in the tree."""
    incarnation: int
    """Which life of the child."""
    state: object
    """What `describe_state` made of it; by default its attributes."""
    mailbox: MailboxStatistics
    """How full its mailbox is."""


def inspection(actor: Describable, life: Life) -> Inspection:
    """Look at an actor."""
    return Inspection(
        path=life.path,
        incarnation=life.incarnation,
        state=_shown("describe_state", actor.describe_state),
        mailbox=life.box.statistics(),
    )


def tell_crash(actor: Describable, life: Life, entry: object, raised: BaseException, ending: ExitReason) -> None:
    """The receiver of an actor was left by an exception, in the middle of `entry`, or of nothing (None)."""
    if isinstance(unwrap(raised), Stop):
        return  # that is no accident
    request = entry if isinstance(entry, Request) else None
    message = entry.message if isinstance(entry, Request | Timer) else entry
    if isinstance(message, Entry | Turn):
        message = None
    where: dict[str, Any] = {
        "path": life.path,
        "incarnation": life.incarnation,
        "at": trio.current_time(),
        "guest": life.guest,
    }
    bus = life.runtime.events
    if message is not None and not isinstance(message, Notice) and bus.wants(PoisonMessage):
        bus.emit(PoisonMessage(**where, message=message, reason=ending))
    if isinstance(ending, Crashed) and bus.wants(ActorCrashed):
        bus.emit(
            ActorCrashed(
                **where,
                reason=ending,
                state=_shown("describe_state", actor.describe_state),
                message=None if message is None else _shown("describe_message", actor.describe_message, message),
                caller=None if request is None else _caller(request),
            )
        )


def _shown(name: str, hook: Callable[..., object], *args: object) -> object:
    try:
        return hook(*args)
    except Exception as error:  # noqa: BLE001  (it is shown)
        return f"<{name} failed: {describe(error)}>"


def _caller(request: Request) -> str | None:
    if request.task is None:
        return None
    life = request.task.context.get(CURRENT)
    return request.task.name if life is None else life.path
