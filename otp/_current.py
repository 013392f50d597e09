"""Which child is running, and what a ref and its callers know of a child.

It is a context variable, so that it is known in every task that the child has started.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

from ._call import Addressee

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._call import CallDeadlines
    from ._mailbox import Box
    from ._spec import ChildSpec


class CallClock(Protocol):
    """The time that calls in one tree go by."""

    @property
    def now(self) -> Callable[[], float]:
        """Reads trio's clock."""
        ...

    @property
    def calls(self) -> CallDeadlines:
        """Watches those with the default timeout."""
        ...


class Incarnation(Addressee, Protocol):
    """One incarnation of a child, as it is known below :class:`Life`, which is what it is."""

    @property
    def spec(self) -> ChildSpec:
        """What it was started from."""
        ...

    @property
    def box(self) -> Box:
        """Its mailbox."""
        ...

    @property
    def answer_by(self) -> float:
        """Until when the caller waits whose call is being handled."""
        ...

    @property
    def runtime(self) -> CallClock:
        """What the tree shares."""
        ...


CURRENT: Final[ContextVar[Incarnation | None]] = ContextVar("otp.current", default=None)
"""The incarnation that is running, or None outside of the tree."""
