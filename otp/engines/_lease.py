"""The right to work on one unit (a job, a name), for a limited time.

A `Token` is the store's side of it. A `Lease` is the holder's: when it will run out if nobody renews it, and the
scopes to cancel when it is lost. The store decides; the holder's own deadline only makes sure that it stops *before*
another one can start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ._errors import LeaseLost

if TYPE_CHECKING:
    from types import TracebackType

    from ._token import Token


class Lease:
    """Held by this process until `deadline`, unless renewed before (the heartbeat does), let go or lost.

    `deadline` is on the engine's holder clock (`Engine.monotonic`) and counted from *before* the request
    was sent, so it is never later than the moment at which the store lets somebody else in.

    Attributes:
        token: What the store knows it by.
        guards: The scopes to cancel when it is lost; see `guard`.
    """

    __slots__ = ("_deadline", "_why", "guards", "token")

    def __init__(self, token: Token, *, deadline: float) -> None:
        self.token = token
        self._deadline = deadline  # written by the heartbeat, perhaps from its thread: one float, atomic
        self._why: str | None = None
        self.guards: set[trio.CancelScope] = set()  # for Guarded

    @property
    def deadline(self) -> float:
        """When it runs out, on the holder's clock, as far as is known now."""
        return self._deadline

    @property
    def lost(self) -> bool:
        """True from the moment on at which the holder has to stop; never becomes False again."""
        return self._why is not None

    def check(self) -> None:
        """Raise LeaseLost if the lease is lost (no question to the store: its own statements compare)."""
        if self._why is not None:
            raise LeaseLost(self.token, self._why)

    def guard(self) -> Guarded:
        """`with lease.guard():` - the body is cancelled when the lease is lost, and LeaseLost is raised.

        LeaseLost is raised only if the body was really interrupted: a body that got through has its
        result, and the fence of its finishing statement decides what it is worth. May be used several
        times and by several tasks.
        """
        return Guarded(self)

    def renewed(self, deadline: float) -> None:
        """For the engine: the store has extended it. Any thread."""
        self._deadline = deadline

    def lose(self, why: str) -> bool:
        """For the engine: mark as lost and cancel all guards. False if it was lost before. Loop only."""
        if self._why is not None:
            return False
        self._why = why
        for scope in self.guards:
            scope.cancel()
        return True

    def __repr__(self) -> str:
        state = f"lost: {self._why}" if self._why is not None else f"until {self._deadline:.3f}"
        return f"<Lease {self.token.kind} {self.token.key!r} epoch {self.token.epoch} {state}>"


class Guarded:
    """The context manager of `Lease.guard`."""

    __slots__ = ("_lease", "_scope")

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._scope = trio.CancelScope()

    def __enter__(self) -> None:
        self._lease.check()
        self._scope.__enter__()
        self._lease.guards.add(self._scope)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._lease.guards.discard(self._scope)
        swallowed = self._scope.__exit__(kind, value, traceback)
        if self._scope.cancelled_caught:
            self._lease.check()
        return swallowed
