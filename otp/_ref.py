"""A ref: the address of one incarnation of a child, by which others send to it and call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import trio
from trio.lowlevel import current_task, enable_ki_protection, reschedule, wait_task_rescheduled

from ._call import DEFAULT_TIMEOUT, Call, Query, Request, Turn
from ._current import CURRENT
from ._errors import CallingSelf, CallTimeout
from ._inspect import Describable, Inspection, inspection
from ._pending import PendingCall

if TYPE_CHECKING:
    from ._current import Incarnation
    from ._mailbox import Box
    from ._statistics import MailboxStatistics

R = TypeVar("R")


class Ref:
    """The address of one incarnation of a child.

    When that incarnation ends the ref is dead for good: sending raises :exc:`NotAlive`, at once. It is what a pid is in
    OTP. To reach whoever has a *role*, give the child a `name` and use the name each time (:func:`whereis`,
    :func:`send`, :func:`call`). A ref that is kept for longer keeps nothing of the child's state.

    Refs come from :func:`whereis`, ``SupervisorRef.ref(id)`` and ``context.ref``; they are compared by identity and
    belong to the trio run that they were made in: no other thread may use them.
    """

    __slots__ = ("__weakref__", "_box", "_life")

    def __init__(self, life: Incarnation) -> None:
        self._life = life
        self._box = life.box

    def __repr__(self) -> str:
        return f"<Ref {self.path} #{self.incarnation}{'' if self.alive else ' (ended)'}>"

    @property
    def path(self) -> str:
        """Where the child is in the tree, as in ``"app/ledger"``."""
        return self._life.path

    @property
    def id(self) -> str:
        """The child's id under its supervisor."""
        return self._life.spec.id

    @property
    def name(self) -> str | None:
        """The child's registered name, if it has one."""
        return self._life.spec.name

    @property
    def incarnation(self) -> int:
        """Which life of the child this is."""
        return self._life.incarnation

    @property
    def alive(self) -> bool:
        """Whether this incarnation has not ended yet. It may be starting, or stopping and take no more messages."""
        return not self._life.box.ended

    @enable_ki_protection
    def send(self, message: object) -> None:
        """Put a message into the child's mailbox and come back at once; it is handled later, or never.

        Messages from one sender are handled in the order in which they were sent. Nothing tells whether this one was
        handled: if the child ends before, it is lost (see `Mailbox` for one that is kept). What must not be lost
        belongs into a durable queue or inbox. In OTP a cast to nobody is silent, and a mailbox is never full.

        Raises:
            NotAlive: if the child has ended, is restarting or is being stopped.
            MailboxFull: if there is no room, and its `Mailbox` says nothing else; see :meth:`send_wait`.
            NoMailbox: if the child is not one that takes messages.
        """
        # The same as Box.put, written out: this is the line that everything else is measured against.
        box = self._box
        if len(box.queue) >= box.limit:
            box.put_slowly(message)
            return
        box.queue.append(message)
        task = box.parked
        if task is not None:
            box.parked = None
            reschedule(task)

    async def send_wait(self, message: object) -> None:
        """Like :meth:`send`, but wait for room while the mailbox is full. That is backpressure: prefer it for bulk.

        Senders that wait get in one after another. It lets other tasks run in any case. If it is cancelled the
        message was not sent.

        Raises:
            NotAlive: if the child has ended, is restarting or is being stopped, also when that happens meanwhile.
            MailboxFull: if an actor would wait in a handler for room in its own mailbox.
            NoMailbox: if the child is not one that takes messages.
        """
        await self._box.put_wait(message)

    @overload
    async def call(self, request: Call[R], *, timeout: float = DEFAULT_TIMEOUT) -> R: ...
    @overload
    async def call(self, request: object, *, timeout: float = DEFAULT_TIMEOUT) -> Any: ...
    @enable_ki_protection
    async def call(self, request: object, *, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """Send a request and wait for the answer, which is what the child's `handle_call` returns.

        The deadline travels along: the timeout, those of the cancel scopes around the call, and, within a
        `handle_call`, that of the call being handled, whichever is first. The child sees it as
        ``context.call_deadline`` and does not begin a request when it has passed or the caller has gone. (If a scope
        was given more time meanwhile, so that the caller still waits, the request is begun.)

        If it is cancelled, or times out, a request that was not begun is skipped; a handler that is at it goes on, and
        its answer is dropped. (In OTP a server does the work in any case.)

        Args:
            request: Any object; a :class:`Call` gives the answer a type.
            timeout: Seconds to wait; ``math.inf`` for no limit.

        Raises:
            CallTimeout: if no answer came in time.
            NotAlive: at once, if the child has ended, is restarting or is being stopped, and as soon as it ends while
                the request is queued or being handled; its ``__cause__`` is what the child died of.
            MailboxFull: if there is no room for the request.
            NoMailbox: if the child is not one that takes messages.
            CallingSelf: if an actor calls itself from a handler.
            ValueError: if `timeout` is not a number >= 0.
            Exception: what the child passed to :meth:`ReplyTo.reply_error`.
        """
        box = self._box
        task = current_task()
        if timeout != DEFAULT_TIMEOUT and not timeout >= 0:  # NaN, too
            raise ValueError(f"timeout must be a number of seconds >= 0, or math.inf, not {timeout!r}")
        if task is box.owner:
            raise CallingSelf(self.path)
        runtime = self._life.runtime
        expires = runtime.now() + timeout
        deadline = trio.current_effective_deadline()
        if expires < deadline:
            deadline = expires
        caller = CURRENT.get()
        if caller is not None and caller.answer_by < deadline and caller.box.owner is task:
            # A handler of a call makes a call in turn: its own caller's patience is the limit.
            deadline = caller.answer_by
            if deadline < expires:
                timeout = max(0.0, deadline - runtime.now())
                expires = deadline
        slot = Request(request, self._life, task, expires, deadline)
        box.put(slot)
        if timeout == DEFAULT_TIMEOUT:
            runtime.calls.watch(slot)
            return await wait_task_rescheduled(slot.abandon)
        with trio.CancelScope(deadline=expires):
            return await wait_task_rescheduled(slot.abandon)
        raise CallTimeout(self.path, timeout)

    @overload
    def request(self, request: Call[R]) -> PendingCall[R]: ...
    @overload
    def request(self, request: object) -> PendingCall[Any]: ...
    def request(self, request: object) -> PendingCall[Any]:
        """Send a request and come back at once, with a handle on the answer (OTP's ``send_request``).

        It never raises: that the child is not there, or has no room, is found in the handle like everything else that
        becomes of the call. The child need not begin it once the handle was abandoned; there is no other deadline.
        """
        return PendingCall(request, self._box)

    @enable_ki_protection
    async def inspect(self, *, timeout: float = DEFAULT_TIMEOUT) -> Inspection:
        """Look at the actor's state, as its `describe_state` shows it, between two messages.

        It overtakes what is waiting in the mailbox, but not the handler that is running. To the actor it is no message:
        an idle timeout goes on. If it is cancelled, nobody looks. (OTP: ``sys:get_status``.)

        Args:
            timeout: Seconds to wait; ``math.inf`` for no limit.

        Raises:
            CallTimeout: if the handler that is running takes longer.
            NotAlive: if the actor has ended, or ends before.
            NoMailbox: if the child is not an actor.
            CallingSelf: if an actor inspects itself from a handler.
            ValueError: if `timeout` is not a number >= 0.
        """
        if not timeout >= 0:  # NaN, too
            raise ValueError(f"timeout must be a number of seconds >= 0, or math.inf, not {timeout!r}")
        box = self._box
        task = current_task()
        if task is box.owner:
            raise CallingSelf(self.path)

        async def look(actor: Describable) -> Inspection:
            return inspection(actor, box)

        expires = trio.current_time() + timeout
        query = Query(Turn(look), box.target, task, expires, expires)
        box.put_next(query)
        with trio.CancelScope(deadline=expires):
            return cast("Inspection", await wait_task_rescheduled(query.abandon))
        raise CallTimeout(self.path, timeout)

    def forward_to(self, box: Box) -> None:
        """Let what is sent to this ref get into `box` from now on; see `host`."""
        self._box = box

    def mailbox(self) -> MailboxStatistics:
        """How full the child's mailbox is."""
        return self._box.statistics()
