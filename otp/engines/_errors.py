"""What a store can answer instead of a result.

Two families. `StoreError`: something about the store or about what we hold in it; `StoreUnavailable` is
the one worth waiting for, the others need a decision. `PayloadError`: a stored payload that this program
cannot read; `UnknownPayload` may be readable for a newer program, `BadPayload` never will be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._token import Token


class StoreError(Exception):
    """Base of everything an engine raises by itself."""


class StoreUnavailable(StoreError):
    """The store cannot do it now: outage, lock wait over, file gone or unreadable.

    Nothing of the operation was kept, except when the process died in mid-commit; then it is there
    entirely or not at all, so repeat it with the same id. `retry` is False when waiting will not help
    and a person has to act first (wrong file, no permission, corruption); the message says what to do.
    """

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class StoreFull(StoreUnavailable):
    """No space left for the write. Nothing of it was kept; it works again once there is space."""


class SchemaMismatch(StoreError):
    """The tables found are not those this program knows, and using them could do damage."""


class LeaseLost(StoreError):
    """The unit of work is not ours any more: another holder has it, or our time ran out.

    Nothing was written under the old lease. The one right reaction is to stop working on it.

    Attributes:
        token: Which.
        why: In words.
    """

    def __init__(self, token: Token, why: str = "another holder has it") -> None:
        super().__init__(f"lease of {token.kind} {token.key!r} (epoch {token.epoch}) lost: {why}")
        self.token = token
        self.why = why


class NotOpen(StoreError):
    """Used outside of `async with engine:`, or a transaction used after its end."""


class TransactionTimeout(StoreError):
    """An interactive transaction took longer than its timeout and was rolled back."""


class PayloadError(Exception):
    """A stored payload cannot be turned into a value. Never carries the payload itself: it may be secret.

    Attributes:
        topic: Its wire name.
        version: Of the schema that it was written by.
    """

    def __init__(self, message: str, *, topic: str, version: int) -> None:
        super().__init__(message)
        self.topic = topic
        self.version = version


class UnknownPayload(PayloadError):
    """The topic, its version or its codec is not known here; a newer (or fuller) program may know it."""


class BadPayload(PayloadError):
    """The bytes are damaged or do not fit the type: no program will read them."""
