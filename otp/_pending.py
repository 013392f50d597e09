"""Calls that are not waited for at once: ask now, look at the answer later, or at those of many as they come.

OTP's ``send_request`` and its request id collections. What a :class:`Request` does for the one task that waits in
`call`, it does here for a handle: the first to say something about it (the answer, the callee's end) is the one that
counts, and whoever gave up has taken it out.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final

import trio
from trio.lowlevel import current_task

from ._call import DEFAULT_TIMEOUT, Request
from ._errors import CallingSelf, CallTimeout, OtpError

if TYPE_CHECKING:
    from types import TracebackType

    from ._mailbox import Box

R = TypeVar("R")

_NOTHING: Final = object()


@final
class _Asked(Request):
    """A request whose answer is for a handle."""

    __slots__ = ("_handle",)

    def __init__(self, handle: PendingCall[Any], message: object, box: Box) -> None:
        super().__init__(message, box.target, current_task(), math.inf, math.inf)
        self._handle: PendingCall[Any] | None = handle

    def reply(self, value: object) -> bool:
        handle = self.give_up()
        if handle is not None:
            handle.settle(value, None)
        return handle is not None

    def fail(self, error: BaseException) -> bool:
        handle = self.give_up()
        if handle is not None:
            handle.settle(None, error)
        return handle is not None

    def give_up(self) -> PendingCall[Any] | None:
        """Nobody waits for it from now on; returns who did."""
        self._take()
        handle, self._handle = self._handle, None
        return handle


@final
class PendingCall(Generic[R]):
    """A call under way, made by :meth:`Ref.request`. Any task of the same tree may wait for it.

    OTP's request id, with ``wait_response`` (:meth:`wait`), ``receive_response`` (:meth:`receive`) and
    ``check_response`` (:meth:`result`).

    That the callee is not there, has no room or ends is no error of the asking but the outcome: it is raised where the
    answer would be returned. A handle that is dropped without a word does no harm: nobody looks at the answer then.
    """

    __slots__ = ("_collection", "_error", "_event", "_path", "_request", "_value")

    def __init__(self, message: object, box: Box | None, missing: OtpError | None = None) -> None:
        self._value: object = _NOTHING
        self._error: BaseException | None = missing
        self._event: trio.Event | None = None
        self._collection: PendingCalls | None = None
        self._request: _Asked | None = None
        self._path = ""
        if box is not None:
            self._path = box.target.path
            request = self._request = _Asked(self, message, box)
            try:
                box.put(request)
            except OtpError as error:
                request.fail(error)

    def __repr__(self) -> str:
        state = "done" if self.done else "pending" if self._pending else "abandoned"
        return f"<PendingCall to {self._path or 'nobody'}: {state}>"

    @property
    def done(self) -> bool:
        """Whether the outcome is known: :meth:`result` returns or raises it."""
        return self._value is not _NOTHING or self._error is not None

    def result(self) -> R:
        """The answer, without waiting; as often as you like.

        Raises:
            trio.WouldBlock: if the outcome is not known yet, or never will be as the call was abandoned.
            NotAlive: if the callee was not there, or ended before it had answered; its ``__cause__`` is of what.
            MailboxFull: if it had no room for the request.
            NoMailbox: if it is not one that takes messages.
            Exception: what the callee passed to :meth:`ReplyTo.reply_error`.
        """
        if self._error is not None:
            raise self._error
        if self._value is _NOTHING:
            raise trio.WouldBlock
        return cast("R", self._value)

    async def wait(self, *, timeout: float = DEFAULT_TIMEOUT) -> R:
        """Wait for the answer and return it. After a timeout, or when cancelled, it can be waited for again.

        Args:
            timeout: seconds to wait; ``math.inf`` for no limit.

        Raises:
            CallTimeout: if it has not come by then. The call goes on.
            CallingSelf: if an actor waits in a handler for itself.
            ValueError: if `timeout` is not a number >= 0.
            trio.WouldBlock: if the call was abandoned.
            NotAlive: and so on, as :meth:`result`.
        """
        _check(timeout)
        await trio.lowlevel.checkpoint_if_cancelled()
        request = self._request
        if request is not None:
            if request.target.task is current_task():
                raise CallingSelf(self._path)
            if self._event is None:
                self._event = trio.Event()
            with trio.move_on_after(timeout):
                await self._event.wait()
            if self._pending:
                raise CallTimeout(self._path, timeout)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return self.result()

    async def receive(self, *, timeout: float = DEFAULT_TIMEOUT) -> R:
        """Wait for the answer and return it. After a timeout, or when cancelled, the call is abandoned.

        So the callee knows until when somebody waits, as it does with :meth:`Ref.call`, and skips what comes too late.
        Arguments and errors are those of :meth:`wait`.
        """
        _check(timeout)
        request = self._request
        if request is not None:
            request.deadline = request.expires = trio.current_time() + timeout
        try:
            return await self.wait(timeout=timeout)
        finally:
            if not self.done:
                self.abandon()

    def abandon(self) -> None:
        """Do not wait for it any more: a request not begun is skipped, an answer is dropped. Who waits stops waiting.

        Nothing happens if it is done.
        """
        if self._request is not None:
            self._request.give_up()
            self._over()
            if self._collection is not None:
                self._collection.discard(self)

    @property
    def _pending(self) -> bool:
        return self._request is not None

    # -- for this module ----------------------------------------------------------------------------------

    def settle(self, value: object, error: BaseException | None) -> None:
        """The outcome is there."""
        if error is None:
            self._value = value
        self._error = error
        self._over()
        if self._collection is not None:
            self._collection.arrived(self)

    def join(self, collection: PendingCalls) -> None:
        """Become part of a collection."""
        if self._collection is not None:
            raise ValueError("pending must not be in a collection already")
        if not (self.done or self._pending):
            raise ValueError("pending must not have been abandoned")
        self._collection = collection

    def leave(self) -> None:
        """Belong to no collection any more."""
        self._collection = None

    def _over(self) -> None:
        self._request = None
        if self._event is not None:
            self._event.set()


def _check(timeout: float) -> None:
    if not timeout >= 0:  # NaN, too
        raise ValueError(f"timeout must be a number of seconds >= 0, or math.inf, not {timeout!r}")


@final
class PendingCalls:
    """Many calls under way, each with a label, to be had in the order in which their answers come.

    ::

        with PendingCalls() as pending:
            for shard in shards:
                pending.add(shard.request(GetTotal()), label=shard.id)
            async for label, call in pending:
                totals[label] = call.result()

    Each is taken out when it is handed over. Leaving the block abandons what is left. (OTP's request id collections.)
    """

    __slots__ = ("_arrived", "_changed", "_labels")

    def __init__(self) -> None:
        self._labels: dict[PendingCall[Any], object] = {}
        self._arrived: deque[PendingCall[Any]] = deque()
        self._changed: trio.Event | None = None

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, pending: PendingCall[Any], *, label: object = None) -> None:
        """Take in a call, which may be done already.

        Raises:
            ValueError: if it is in a collection already, or was abandoned, so that nothing would ever come of it.
        """
        pending.join(self)
        self._labels[pending] = label
        if pending.done:
            self.arrived(pending)

    async def next(self) -> tuple[Any, PendingCall[Any]]:
        """Wait for the next one that is done; return its label and it. If this is cancelled nothing is lost.

        Raises:
            LookupError: if none is pending.
        """
        await trio.lowlevel.checkpoint()
        while self._labels and not self._arrived:
            if self._changed is None:
                self._changed = trio.Event()
            await self._changed.wait()
        return self.next_nowait()

    def next_nowait(self) -> tuple[Any, PendingCall[Any]]:
        """The next one that is done, without waiting.

        Raises:
            LookupError: if none is pending.
            trio.WouldBlock: if some are pending and none of them is done.
        """
        if not self._labels:
            raise LookupError("no call is pending here")
        if not self._arrived:
            raise trio.WouldBlock
        pending = self._arrived.popleft()
        pending.leave()
        return self._labels.pop(pending), pending

    def abandon(self) -> None:
        """Abandon all that are not done, and take out all."""
        for pending in list(self._labels):
            pending.abandon()
            self.discard(pending)

    def __aiter__(self) -> PendingCalls:
        return self

    async def __anext__(self) -> tuple[Any, PendingCall[Any]]:
        try:
            return await self.next()
        except LookupError:
            raise StopAsyncIteration from None

    def __enter__(self) -> PendingCalls:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abandon()

    def arrived(self, pending: PendingCall[Any]) -> None:
        """One is done."""
        self._arrived.append(pending)
        self._wake()

    def discard(self, pending: PendingCall[Any]) -> None:
        """Take out a call, whatever has become of it; nothing happens if it is not here."""
        if self._labels.pop(pending, _NOTHING) is not _NOTHING:
            pending.leave()
            if pending in self._arrived:
                self._arrived.remove(pending)
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
