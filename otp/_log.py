"""A readable log of what happens in a tree: one line per event, to the standard library's logging.

The logger is ``otp``. Starts and clean ends are INFO; crashes, what the supervisor makes of them, and stops that took
too long WARNING; giving up (a child or oneself) and what is stuck ERROR. The whole traceback of a crash follows at
DEBUG. So does what becomes of guests (one per job, perhaps), as their host tells what follows from it. Each record
carries the event itself as ``record.event``, for handlers that write JSON. A line is never more than one line, whatever
an exception has to say.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import _events as events  # pyright: ignore[reportPrivateUsage]  # private to otp
from ._exit import KILLED, Crashed, ExitReason, describe, is_normal_class

if TYPE_CHECKING:
    from collections.abc import Callable

_logger: Final = logging.getLogger("otp")

_LEVELS: Final[dict[type, int]] = {
    events.ChildStarted: logging.INFO,
    events.ChildIgnored: logging.INFO,
    events.ChildExited: logging.INFO,  # at least: crashes and kills are warnings
    events.SupervisorDecided: logging.INFO,  # the same
    events.ChildStartFailed: logging.WARNING,
    events.ConditionChanged: logging.WARNING,
    events.MessagesDropped: logging.WARNING,
    events.MailboxOverflowed: logging.WARNING,
    events.ChildStuck: logging.ERROR,
    events.ActorCrashed: logging.DEBUG,
}


def log_events(bus: events.EventBus) -> Callable[[], None]:
    """Write the events of `bus` to the logger ``otp`` from now on.

    Which kinds are wanted is decided now, by the level of the logger: those that it would drop cost nothing.
    :func:`open_supervisor` calls it unless it is told ``log=False``.

    Returns:
        A function that ends it.
    """
    level = min(_logger.getEffectiveLevel(), logging.WARNING)  # what may be a warning is always wanted
    always = (events.ChildExited, events.SupervisorDecided)
    kinds = [kind for kind, least in _LEVELS.items() if least >= level or kind in always]
    return bus.subscribe(_log, *kinds)


def _log(event: object) -> None:
    match event:
        case events.ChildStarted():
            _write(logging.INFO, event, f"{event.path} #{event.incarnation} started")
        case events.ChildIgnored():
            _write(logging.INFO, event, f"{event.path} #{event.incarnation} is not needed: its init said so")
        case events.ChildExited():
            clean = is_normal_class(event.reason) or (event.asked and event.reason == KILLED and not event.late)
            if clean and not _logger.isEnabledFor(logging.INFO):
                return  # (it is put into words only to be dropped, and in a large tree there are many)
            word = "stopped too late" if event.late else "stopped" if event.asked else "ended"
            level = logging.INFO if clean else logging.WARNING
            _write(level, event, f"{event.path} #{event.incarnation} {word}: {explain(event.reason)}", event.reason)
        case events.ChildStartFailed():
            text = f"{event.path} #{event.incarnation} failed to start: {explain(event.reason)}"
            _write(logging.WARNING, event, text, event.reason)
        case events.SupervisorDecided():
            _log_decision(event)
        case events.ChildStuck():
            text = (
                f"{event.path} #{event.incarnation} is stuck: {event.after} {event.waited:.1f} s ago, then cancelled, "
                f"and still running"
            )
            _write(logging.ERROR, event, text)
        case events.MessagesDropped():
            _write(logging.WARNING, event, f"{event.path} #{event.incarnation} left {event.count} messages unread")
        case events.MailboxOverflowed():
            if event.count & (event.count - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: it overflows when there is much
                text = f"{event.path} #{event.incarnation} has {event.what} {event.count} messages: its mailbox is full"
                _write(logging.WARNING, event, text)
        case events.ActorCrashed():
            doing = "between two messages" if event.message is None else f"while handling {_shown(event.message)}"
            asked = "" if event.caller is None else f", called by {event.caller}"
            text = f"{event.path} #{event.incarnation} crashed {doing}{asked}; its state: {_shown(event.state)}"
            _write(logging.DEBUG, event, text)
        case events.ConditionChanged():
            said = "ok" if event.ok else "NOT ok"
            detail = f" ({event.detail})" if event.detail else ""
            level = logging.INFO if event.ok else logging.WARNING
            _write(level, event, f"{event.path}: {event.name} is {said}{detail}")
        case _:
            pass


_WORDS: Final = {
    "restart": "restart",
    "retry": "try again to restart",
    "join": "leave it to the restart that waits already",
    "leave": "leave it stopped",
    "forget": "forget it",
    "park": "park it, its budget is used up",
    "drop": "drop it, its budget is used up",
    "auto shutdown": "shut down, since that child was significant",
    "roll back": "stop what had started",
    "give up": "give up",
}


def _log_decision(event: events.SupervisorDecided) -> None:
    decision = event.decision
    word = f"restart in {decision.delay:.3g} s" if decision.verdict == "wait" else _WORDS[decision.verdict]
    text = (
        f"{event.path}: {decision.child} {decision.reason}: {word} "
        f"[{decision.used} of {decision.limit} restarts in {decision.period:g} s]"
    )
    if decision.verdict in ("give up", "roll back", "park", "drop"):
        level = logging.ERROR
    elif decision.verdict in ("leave", "forget", "auto shutdown") and is_normal_class(decision.reason):
        level = logging.INFO
    else:
        level = logging.WARNING
    _write(level, event, text)


def explain(reason: ExitReason) -> str:
    """An exit reason in one line; of a crash with the place where it was raised."""
    if not isinstance(reason, Crashed):
        return str(reason)
    traceback = reason.exception.__traceback__
    if traceback is None:
        return str(reason)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    where = f"{Path(code.co_filename).name}:{traceback.tb_lineno} in {code.co_qualname}"
    return f"crashed ({describe(reason.exception)}; at {where})"


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  (who is half made has crashed, perhaps, just because of that)
        return f"<a {type(value).__name__} whose repr failed: {describe(error)}>"


def _write(level: int, event: object, text: str, reason: ExitReason | None = None) -> None:
    if isinstance(event, events.ChildEvent) and event.guest:
        level = logging.DEBUG
    if not text.isprintable():  # ids, keys and errors may come from outside, and must not be able to forge a line
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    _logger.log(level, text, extra={"event": event})
    if isinstance(reason, Crashed) and _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("traceback of the above", exc_info=reason.exception, extra={"event": event})
