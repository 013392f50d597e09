"""The receive loop of an actor: one message at a time, in batches, until it is told to stop or something is raised."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, cast

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint, wait_task_rescheduled

from ._call import Request, Turn
from ._crash_report import tell_crash
from ._deferred import DEFERRED, Owed
from ._entries import ENTRIES, Entry, Handlers
from ._exit import KILLED, Crashed, ExitReason, Stop
from ._inspect import Describable
from ._mailbox import BATCH, SLICE
from ._unwrap import unwrap

if TYPE_CHECKING:
    from ._life import Life


class Receiver(Handlers, Describable, Protocol):
    """What the loop needs of an actor."""

    async def handle_call(self, request: Any, /) -> Any:
        """Handle a call."""


async def receive(actor: Receiver, life: Life) -> ExitReason:
    """Handle messages until told to stop; return why."""
    box = life.box
    message: object = None
    try:
        while True:
            box.admit()
            if box.queue:
                await checkpoint()
            else:
                box.parked = box.owner
                await wait_task_rescheduled(box)
            queue = box.queue
            handle = actor.handle_message  # (only now: an actor that never got a message does not carry it)
            handled = 0
            look_at = 1
            enough = 0.0
            while queue:
                message = queue.popleft()
                if type(message) not in ENTRIES:
                    await handle(message)
                elif isinstance(message, Request):
                    await _answer(actor, life, message)
                else:
                    ending = await cast("Entry", message).act(actor)
                    if ending is not None:
                        return ending
                # Look at the clock after 1, 2, 4, ... messages: that is cheap for fast handlers, and with slow ones
                # the slice is at most overdrawn by as much again. In virtual time only the count matters.
                handled += 1
                if handled == look_at and queue:
                    if handled == 1:
                        enough = trio.current_time() + SLICE
                    elif handled == BATCH or trio.current_time() >= enough:
                        break
                    look_at *= 2
            message = None  # not to be kept alive, nor taken for what is being handled
    except BaseException as error:
        tell_crash(actor, life, message, error, ending_of(life, error))
        raise


async def _answer(actor: Receiver, life: Life, request: Request) -> None:
    """Handle a call, unless nobody waits for the answer any more."""
    if (request.task is None or request.deadline <= life.runtime.now()) and not await _wanted_after_all(request):
        life.runtime.skipped_calls += 1
        request.skip()
        return
    life.box.running = request
    life.answer_by = request.deadline
    message = request.message
    answer = await (message.fn(actor) if type(message) is Turn else actor.handle_call(message))
    life.answer_by = math.inf
    if answer is not DEFERRED:
        life.box.running = None
        if not request.reply(answer):
            life.runtime.late_replies += 1
    elif life.box.running is request:  # (unless it was forwarded)
        life.box.running = None
        if request.open:
            life.part(Owed).add(request)


async def _wanted_after_all(request: Request) -> bool:
    """Whether somebody waits for the answer although the deadline has passed that was known when the call was made.

    A cancel scope of the caller can be given more time meanwhile. If it was not, trio cancels the caller before it lets
    anybody else run. How much time that was is not known here: what is left is the timeout of the call itself.
    """
    if request.task is None or request.expires <= trio.current_time():
        return False
    await cancel_shielded_checkpoint()
    request.deadline = request.expires
    return request.open


def ending_of(life: Life, raised: BaseException) -> ExitReason:
    """What an actor ends with whose handler raised, or was cancelled."""
    error: BaseException | None = unwrap(raised)
    if isinstance(error, trio.Cancelled):
        error = life.failure
    if error is None:
        return KILLED
    return error.exit_reason() if isinstance(error, Stop) else Crashed(error)
