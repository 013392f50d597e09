"""The idle timeout: tell an actor that nothing came for some time.

The waiting *is* the actor's wait for its next message, only with a limit. So there is no timer that each message would
have to cancel, and messages do not look whether there is one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import wait_task_rescheduled

from ._entries import Entry, Handlers

if TYPE_CHECKING:
    from ._mailbox import Box


@final
class Idle(Entry):
    """Wait for `seconds`; if nothing comes, call `handle_idle`. In front of all messages in `box` when it is armed."""

    __slots__ = ("_before", "_box", "_deadline", "_seconds")

    jumps_queue = True

    def __init__(self, seconds: float, box: Box) -> None:
        self._seconds = seconds
        self._box = box
        self._deadline = math.inf
        self._before: Entry | None = None  # what has its turn first, and may come to nothing

    async def act(self, actor: Handlers) -> None:
        """Wait. What is in the queue already, or comes meanwhile, ends it, if the actor is handed something by it.

        It is not by a question of a tool, a call whose caller has gone, or a timer that was cancelled.
        """
        box = self._box
        if self._before is not None and self._before.heard:
            return
        if self._deadline == math.inf:
            self._deadline = trio.current_time() + self._seconds
        box.admit()
        while not box.queue and trio.current_time() < self._deadline:
            with trio.CancelScope(deadline=self._deadline):
                box.parked = box.owner
                await wait_task_rescheduled(box)
        if not box.queue:
            await actor.handle_idle()
        elif isinstance(first := box.queue[0], Entry) and type(first) is not Idle:  # (of two, the later counts)
            self._before = first
            box.queue.insert(1, self)  # and then this waits for the rest of its time, if that was nothing
