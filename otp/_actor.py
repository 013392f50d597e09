"""The actor: state that one message at a time may touch."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import trio
from trio.lowlevel import checkpoint, current_task, wait_task_rescheduled

from ._call import Request
from ._child import Behaviour, ChildContext, life_of
from ._exit import Crashed, ExitReason, Killed, Normal, Shutdown, Stop
from ._helpers import Helpers
from ._mailbox import BATCH, SLICE, Halt
from ._unwrap import unwrap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._life import Life
    from ._ref import Ref

WIND_DOWN: Final = 0.75
"""Which part of its shutdown time an actor may spend on the messages it still has. The rest is for `terminate`."""

T = TypeVar("T")

_logger = logging.getLogger("otp")


@final
class Turn:
    """A call of an actor's helper to the actor: what to do in its turn."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[], Awaitable[object]]) -> None:
        self.fn = fn


class Actor(Behaviour):
    """A child with a mailbox: it handles one message or call at a time, so its state needs no lock.

    Override what you need::

        class Counter(Actor):
            async def init(self) -> None:
                self.total = 0

            async def handle_message(self, message: object) -> None:
                self.total += 1

            async def handle_call(self, request: object) -> int:
                return self.total

    An exception in any of these is a crash: the actor ends, its callers are told, and its supervisor decides. State
    belongs into `init`, or into `__init__` of what the factory makes; either way each incarnation begins anew.

    When the supervisor asks the actor to stop, it accepts nothing more from others and still handles what it has, in
    three quarters of its `shutdown` time; then a handler that is still running is cancelled and the exit counts as
    :class:`Killed`. Either way `terminate` runs in the time that is left. What it sends itself after it was asked
    to stop is not handled any more: the next incarnation goes on from what was stored.
    """

    _life: Life

    @property
    def context(self) -> ChildContext:
        """The actor's place in the tree; from `init` on."""
        return ChildContext(self._life)

    @property
    def me(self) -> Ref:
        """The actor's own ref, to be given to others; from `init` on."""
        return self._life.ref

    @property
    def nursery(self) -> Helpers:
        """Where the actor can run helper tasks beside its handlers; from `init` on.

        They are cancelled when the actor ends, before `terminate`. If one of them fails, so does the actor.
        """
        life = self._life
        if life.helpers is None:
            life.helpers = Helpers(life)
        return life.helpers

    # -- what an actor overrides --------------------------------------------------------------------------

    async def init(self) -> None:
        """Prepare, before the first message. The supervisor starts the next child when this is done.

        An exception here is a failed start (and `terminate` does not run). Raise :exc:`Ignore` if the actor is not
        needed. To resume work that was interrupted, load it and `send_self` the message that goes on with it: what is
        sent here to itself is handled before everything that others have sent meanwhile.
        """

    async def handle_message(self, message: Any) -> None:
        """Handle one message that somebody sent. By default it is dropped with a warning."""
        _logger.warning("%s got a message that it does not handle: %r", self._life.path, message)

    async def handle_call(self, request: Any) -> Any:
        """Handle one call; what this returns is the answer. By default calls crash the actor.

        An exception crashes the actor, and the caller gets :exc:`NotAlive` with it as the cause; an error that the
        caller should deal with is a value to return.
        """
        raise NotImplementedError(f"{type(self).__qualname__} does not handle calls: it got {request!r}")

    async def terminate(self, reason: ExitReason) -> None:
        """Clean up. Runs for every `reason`, also after a crash or a cancelled handler, if `init` had been done.

        It is shielded from cancellation for what is left of the `shutdown` time, at least a quarter of it when the
        actor was asked to stop, then it is cut short. With ``shutdown="brutal"`` it runs up to its first wait.
        """

    # -- what an actor can do -----------------------------------------------------------------------------

    def send_self(self, message: object) -> None:
        """Send a message to itself.

        In `init` it goes to the front of the mailbox, in the order sent; later to the back. The mailbox's limit
        applies (:exc:`MailboxFull`) except in `init`.
        """
        life = self._life
        if life.up:
            life.box.put_self(message)
        elif life.early is None:
            life.early = [message]
        else:
            life.early.append(message)

    async def in_turn(self, fn: Callable[[], Awaitable[T]]) -> T:
        """For a helper task: run `fn` between two messages, as if it were a handler, and return what it returns.

        So a helper can wait beside the handlers, for something outside of the actor, and touch its state when it came
        without a lock. What it raises is the actor's crash.

        Raises:
            MailboxFull: if there is no room for waiting in line.
            NotAlive: if the actor ends before it was its turn.
        """
        return cast("T", await self.me.call(Turn(fn), timeout=math.inf))

    def stop(self, reason: ExitReason | None = None) -> None:
        """End after the current handler, with `reason` (default: :class:`Normal`); unread messages are dropped.

        In `init`: end as soon as that is done. A :class:`Crashed` reason crashes the actor with that exception.
        """
        life = self._life
        reason = Normal() if reason is None else reason
        if life.up:
            life.box.halt(reason)
        else:
            life.early = [Halt(reason)]

    # -- the life of an actor -----------------------------------------------------------------------------

    async def serve(self, context: ChildContext) -> None:
        """Init, handle messages, terminate. Called by the supervisor; override the four methods above instead."""
        life = self._life = life_of(context)
        life.box.open(life.spec.mailbox)
        life.box.owner = current_task()
        life.on_stop = self._wind_down
        ending: ExitReason = Killed()
        # One function, however long: an idle actor is the frames that it waits in, and there are many of them.
        try:
            await self._prepare()
            if life.early is not None:
                life.box.put_front(life.early)
                life.early = None
            life.started()
            try:
                ending = await self._receive(life)
            except BaseException as error:
                ending = _ending(life, error)
                raise
            finally:
                life.answer_by = math.inf  # the caller of a call that was cut short knows
                life.close_mailbox(ending)  # first of all: callers learn at once, not after the cleanup
                life.begin_to_end()
                with context.cleanup():
                    try:
                        if life.helpers is not None:
                            await life.helpers.cancel()
                    finally:  # also when there is no time left, not even for the helpers
                        await self.terminate(ending)
        finally:
            if life.helpers is not None:
                # Whoever hears that the actor has ended may rely on it: nothing of it runs any more.
                with trio.CancelScope(shield=True):
                    await life.helpers.cancel()
        if isinstance(ending, Crashed):
            raise ending.exception
        life.exit_reason = ending

    async def _prepare(self) -> None:
        """What a behaviour built on actors has to do around the user's `init`; that alone by default."""
        await self.init()

    async def _receive(self, life: Life) -> ExitReason:
        """Handle messages until told to stop; return why."""
        box = life.box
        handle = self.handle_message
        while True:
            box.admit()
            if box.queue:
                await checkpoint()
            else:
                box.parked = box.owner
                await wait_task_rescheduled(box.unpark)
            queue = box.queue
            handled = 0
            look_at = 1
            enough = 0.0
            while queue:
                message = queue.popleft()
                if type(message) is Request:
                    await self._answer(life, message)
                elif type(message) is Halt:
                    return message.reason
                else:
                    await handle(message)
                # Look at the clock after 1, 2, 4, ... messages: that is cheap for fast handlers, and with slow ones
                # the slice is at most overdrawn by as much again. In virtual time only the count matters.
                handled += 1
                if handled == look_at and queue:
                    if handled == 1:
                        enough = trio.current_time() + SLICE
                    elif handled == BATCH or trio.current_time() >= enough:
                        break
                    look_at *= 2

    async def _answer(self, life: Life, request: Request) -> None:
        """Handle a call, unless nobody waits for the answer any more."""
        if request.task is None or request.deadline <= trio.current_time():
            life.runtime.skipped_calls += 1
            return
        life.box.running = request
        life.answer_by = request.deadline
        message = request.message
        answer = await (message.fn() if type(message) is Turn else self.handle_call(message))
        life.answer_by = math.inf
        life.box.running = None
        if not request.reply(answer):
            life.runtime.late_replies += 1

    def _wind_down(self) -> None:
        """The supervisor asks to stop: handle what is there, in time."""
        life = self._life
        now = trio.current_time()
        life.scope.deadline = now + (life.stop_deadline - now) * WIND_DOWN
        life.box.stop_intake(Shutdown())


def _ending(life: Life, raised: BaseException) -> ExitReason:
    """What an actor ends with whose handler raised, or was cancelled."""
    error: BaseException | None = unwrap(raised)
    if isinstance(error, trio.Cancelled):
        error = life.failure
    if error is None:
        return Killed()
    return error.exit_reason() if isinstance(error, Stop) else Crashed(error)
