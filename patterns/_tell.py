"""Tell what happened: to the subscribers of the event bus, and to the log."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otp import ChildContext

    from ._events import PatternEvent

log: Final = logging.getLogger("patterns")


def tell(
    context: ChildContext, kind: type[PatternEvent], *, cause: BaseException | None = None, **details: Any
) -> None:
    """Make an event of `kind` of the child of `context`, if anybody wants it.

    The traceback of `cause` follows in the log at DEBUG, as for the crashes of children; it is stored with the work,
    too.
    """
    logged = log.isEnabledFor(kind.level)
    if not logged and not context.runtime.events.wants(kind):
        return
    event = kind(path=context.path, **details)
    if logged:
        log.log(kind.level, "%s: %s", event.path, event, extra={"event": event})
        if cause is not None and log.isEnabledFor(logging.DEBUG):
            log.debug("traceback of the above", exc_info=cause, extra={"event": event})
    context.emit(event)


def in_words(error: BaseException) -> str:
    """An exception in one line, with the place where it was raised."""
    text = " ".join(str(error).split())
    described = f"{type(error).__name__}: {text}" if text else type(error).__name__
    traceback = error.__traceback__
    if traceback is None:
        return described
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f"{described} (at {Path(code.co_filename).name}:{traceback.tb_lineno} in {code.co_qualname})"
