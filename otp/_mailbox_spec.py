"""What a child spec says about a mailbox: how much it holds, and what becomes of the rest."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import field, frozen

from . import _checks as checks


@frozen
class Divert:
    """What does not fit into a mailbox goes to whoever holds the name ``to``, as an ``Overflow`` (Ergo's fallback)."""

    to: str

    def __attrs_post_init__(self) -> None:
        checks.text("to", self.to)


WhenFull: TypeAlias = Literal["refuse", "drop_oldest", "drop_newest"] | Divert
"""What becomes of one message more than fits; see ``Mailbox``."""


@frozen
class Mailbox:
    """How many unread messages an actor may have, and what becomes of more, and of those it leaves.

    Args:
        limit: How many may wait. ``send_wait`` waits for room, whatever ``when_full`` says. (OTP has no limit.)
        when_full: What ``send`` and ``call`` do then. ``"refuse"`` raises ``MailboxFull``. ``"drop_oldest"`` takes the
            message in and drops the one that has waited longest, ``"drop_newest"`` drops the message itself; a call
            that is dropped raises ``MailboxFull`` in its caller. ``Divert(name)`` hands it to another actor, which
            answers it if it is a call. What is dropped or diverted is counted, and told as ``MailboxOverflowed``.
        kept: Whether what is unread when an incarnation ends is for the next one (Ergo's ``PreserveMailbox``), calls
            included: their callers go on waiting, since nobody has begun to answer. The message that was being handled
            is not given again; ``PoisonMessage`` tells which it was. When there will be no next incarnation, the
            callers are told and the rest is dropped.

    Raises:
        ValueError: if ``limit`` is not a whole number >= 1, or ``when_full`` none of these.
        TypeError: if ``kept`` is not a bool.
    """

    limit: int = 10_000
    when_full: WhenFull = field(default="refuse", kw_only=True)
    kept: bool = field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        checks.whole("limit", self.limit, least=1)
        if not isinstance(self.when_full, Divert):
            checks.choice(
                "when_full", self.when_full, ("refuse", "drop_oldest", "drop_newest"), otherwise=" or a Divert"
            )
        checks.instance("kept", self.kept, bool, "True or False")


DEFAULT_MAILBOX = Mailbox()


def as_mailbox(given: int | Mailbox) -> Mailbox:
    """A number is the limit of an otherwise plain mailbox."""
    if isinstance(given, Mailbox):
        return given
    checks.whole("mailbox", given, least=1)
    return Mailbox(given)
