"""What lies in a mailbox beside plain messages.

An entry is not handed to `handle_message` but knows itself what is to be done with it. The receiver tells the two
apart with one look at the type (:data:`ENTRIES`), which is all that a plain message pays for everything in here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, final

import attrs

if TYPE_CHECKING:
    from ._exit import ExitReason

ENTRIES: Final[set[type]] = set()
"""The types of all entries."""


class Handlers(Protocol):
    """What entries need of the actor that they are for."""

    async def handle_message(self, message: Any, /) -> None:
        """Handle a message."""

    async def handle_continue(self, what: Any, /) -> None:
        """Go on with something."""

    async def handle_idle(self) -> None:
        """Nothing came for some time."""


class Entry:
    """Something in a mailbox that is not a plain message."""

    __slots__ = ()

    jumps_queue: ClassVar[bool] = False
    """Whether it is put in front of all messages, behind other entries that were put there before."""

    def __init_subclass__(cls) -> None:
        ENTRIES.add(cls)

    @property
    def heard(self) -> bool:
        """When it has had its turn: whether the actor got a message or call by it, which ends an idle timeout."""
        return True

    async def act(self, actor: Handlers) -> ExitReason | None:
        """Do what it stands for, in its turn. An exit reason makes the actor end."""
        raise NotImplementedError


class Halt(Entry):
    """End with `reason` now, after the current handler."""

    __slots__ = ("reason",)

    jumps_queue = True

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason

    async def act(self, actor: Handlers) -> ExitReason:  # noqa: ARG002
        """End."""
        return self.reason


@final
class Last(Halt):
    """End with `reason` when all is handled that is there, and what the handlers of that continue with."""

    __slots__ = ()

    jumps_queue = False


@final
class Continue(Entry):
    """Call `handle_continue`, before the next message."""

    __slots__ = ("what",)

    jumps_queue = True

    def __init__(self, what: object) -> None:
        self.what = what

    @property
    def heard(self) -> bool:
        """No: it was the actor's own wish."""
        return False

    async def act(self, actor: Handlers) -> None:
        """Go on."""
        await actor.handle_continue(self.what)


@attrs.frozen
class Notice:
    """A message that the runtime sends an actor because that has asked for it, such as :class:`Down`.

    It is handled by `handle_message` like any other. The limit of the mailbox does not apply to it, and it is for one
    incarnation only: it never reaches the next one.
    """
