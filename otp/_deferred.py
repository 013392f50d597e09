"""Deferred replies: answer a call later than in the `handle_call` that got it, or have somebody else answer it.

Whoever waits for the answer waits on the :class:`Request`, and does not care who fills it in. What has to be seen to is
only that the caller learns it when the actor that owes the answer ends before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from . import _checks as checks
from ._life import Life, Part
from ._names import box_of

if TYPE_CHECKING:
    from ._call import Request
    from ._ref import Ref

_SAME: Final = object()


@final
class Deferred:
    """The type of :data:`DEFERRED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DEFERRED"


DEFERRED: Final = Deferred()
"""What `handle_call` returns when the answer is given another time, by the :class:`ReplyTo` that it took.

OTP's ``{noreply, State}``.
"""


@final
class ReplyTo:
    """The right to answer one call, from anywhere: a later handler, a helper task, another actor.

    It is what gen_server's ``From`` is for. Only the first answer counts. Those that come later, or when the caller has
    gone, hurt nobody; they are counted as `late_replies` in the runtime's statistics. If none is ever given the caller
    times out, and when the actor that owes it ends the caller learns it at once (:exc:`NotAlive`).
    """

    __slots__ = ("_life", "_request")

    def __init__(self, request: Request, life: Life) -> None:
        self._request = request
        self._life = life  # of the actor that got the call

    def __repr__(self) -> str:
        return f"<ReplyTo for {self._request.message!r}{'' if self.waiting else ' (nobody waits)'}>"

    @property
    def waiting(self) -> bool:
        """Whether the caller still waits, and has no answer yet."""
        return self._request.open

    @property
    def deadline(self) -> float:
        """Until when, on trio's clock, the caller waits; it may leave earlier. See `ChildContext.call_deadline`."""
        return self._request.deadline

    def reply(self, value: object) -> bool:
        """Answer with `value`.

        Returns:
            Whether the caller gets it: False if it has gone or has its answer already.
        """
        return self._counted(self._request.reply(value))

    def reply_error(self, error: Exception) -> bool:
        """Answer by raising `error` in the caller. The actor goes on.

        Returns:
            Whether the caller gets it, as for :meth:`reply`.
        """
        checks.instance("error", error, Exception, "an exception")
        return self._counted(self._request.fail(error))

    def forward(self, target: Ref | str, request: object = _SAME) -> None:
        """Have another actor answer: it gets the call as if it had been called itself (Ergo's ``Forward``).

        The caller and its deadline stay as they are, and from then on it is the end of `target` that the caller hears
        of. If nobody waits any more, nothing is forwarded.

        Args:
            target: a ref, or a registered name.
            request: what `target` is asked; by default what this actor was asked.

        Raises:
            NotAlive: if `target` has ended, is restarting or is being stopped. The call then stays here, as it does for
            every other error.
            MailboxFull: if it has no room.
            NoMailbox: if it is not one that takes messages.
        """
        waiting = self._request
        if not waiting.open:
            return
        box = box_of(target)
        before = waiting.message, waiting.target
        waiting.target = box.target
        if request is not _SAME:
            waiting.message = request
        try:
            box.put(waiting)
        except BaseException:
            waiting.message, waiting.target = before
            raise
        if self._life.box.running is waiting:
            self._life.box.running = None

    def _counted(self, taken: bool) -> bool:  # noqa: FBT001
        if not taken:
            self._life.runtime.late_replies += 1
        return taken


@final
class Owed(Part):
    """The calls that an actor has put off and not answered yet."""

    __slots__ = ("_requests", "_sweep_at")

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self._requests: list[Request] = []
        self._sweep_at = 16

    def add(self, request: Request) -> None:
        """The handler of `request` is done, and has not answered it."""
        request.target = self.life
        # A request does not know that it is in here, as that would be paid for by every call. So those that have been
        # answered are swept out now and then: when there may be as many of them as there are others.
        requests = self._requests
        requests.append(request)
        if len(requests) >= self._sweep_at:
            requests[:] = self._waiting()
            self._sweep_at = max(16, 2 * len(requests))

    def __len__(self) -> int:
        return len(self._waiting())

    def mailbox_closed(self) -> None:
        """The actor ends: the callers are told."""
        for request in self._waiting():
            request.fail(self.life.box.not_alive())
        self._requests.clear()

    def _waiting(self) -> list[Request]:
        return [request for request in self._requests if request.open and request.target is self.life]
