"""Which child is running: a context variable, so that it is known in every task that the child has started."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._life import Life

CURRENT: Final[ContextVar[Life | None]] = ContextVar("otp.current", default=None)
"""The life that is running, or None outside of the tree."""


def current_life() -> Life:
    """The life that is running.

    Raises:
        RuntimeError: if the caller is not in a supervised task.
    """
    life = CURRENT.get()
    if life is None:
        raise RuntimeError("not in a supervised task: there is no current child here")
    return life
