"""Take the one exception out of a group of one.

Every trio nursery wraps what its tasks raise, so a ``ValueError`` three nurseries down arrives as a group in a group in
a group. As the reason of a crash the ``ValueError`` itself reads better, and code can match on it. A nursery that is
cancelled wraps that, too, once for each of its tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio

if TYPE_CHECKING:
    from types import TracebackType


def unwrap(error: BaseException) -> BaseException:
    """The single exception within `error`, however deep, or `error` itself when there are several or no group.

    What was cancelled counts only if there is nothing else: then the result is one :exc:`trio.Cancelled`.

    The traceback of the result begins with the frames of the groups around it: where the nurseries were left, then
    where it was raised. Its cause and context stay its own.
    """
    while (inner := _only(error)) is not None:
        inner.__traceback__ = _chain(error.__traceback__, inner.__traceback__)
        error = inner
    return error


def _only(error: BaseException) -> BaseException | None:
    if not isinstance(error, BaseExceptionGroup):
        return None
    group = cast("BaseExceptionGroup[BaseException]", error)
    try:
        cancelled, failed = group.split(trio.Cancelled)
    except Exception:  # noqa: BLE001  (a class of theirs that cannot be split; what it is then is all there is to say)
        return None
    if cancelled is not None and failed is not None:
        return failed
    return group.exceptions[0] if failed is None or len(group.exceptions) == 1 else None


def _chain(outer: TracebackType | None, inner: TracebackType | None) -> TracebackType | None:
    """The entries of `outer`, followed by those of `inner` (unless they are there already: groups are seen twice)."""
    if outer is None:
        return inner
    last = outer
    while last is not inner and last.tb_next is not None:
        last = last.tb_next
    if last is not inner:
        last.tb_next = inner
    return outer
