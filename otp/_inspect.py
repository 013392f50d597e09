"""What others get to see of an actor: on request here, in the report of its crash in `_crash_report`.

State and messages may hold what nobody should read in a log, or be too large for one. So both are shown as the actor's
own `describe_state` and `describe_message` say (OTP's ``format_status``). If one of them fails, a note stands in for
what it should have made: a mistake in how something is shown must not hide the crash, nor be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from ._exit import describe
from ._statistics import MailboxStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._mailbox import Box

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


def inspection(actor: Describable, box: Box) -> Inspection:
    """Look at an actor and its mailbox."""
    return Inspection(
        path=box.target.path,
        incarnation=box.target.incarnation,
        state=shown("describe_state", actor.describe_state),
        mailbox=box.statistics(),
    )


def shown(name: str, hook: Callable[..., object], *args: object) -> object:
    """What `hook`, the `name` of which is given, makes of it; or a note that it failed."""
    try:
        return hook(*args)
    except Exception as error:  # noqa: BLE001  (it is shown)
        return f"<{name} failed: {describe(error)}>"
