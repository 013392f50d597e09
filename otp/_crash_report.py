"""The report of an actor's crash: what it was handling, for whom, and its state, as its own hooks show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ._call import Request, Turn
from ._current import CURRENT
from ._entries import Entry, Notice
from ._events import ActorCrashed, PoisonMessage
from ._exit import Crashed, ExitReason, Stop
from ._inspect import Describable, shown
from ._timers import Timer
from ._unwrap import unwrap

if TYPE_CHECKING:
    from ._life import Life


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
                state=shown("describe_state", actor.describe_state),
                message=None if message is None else shown("describe_message", actor.describe_message, message),
                caller=None if request is None else _caller(request),
            )
        )


def _caller(request: Request) -> str | None:
    if request.task is None:
        return None
    life = request.task.context.get(CURRENT)
    return request.task.name if life is None else life.path
