"""Keeps leases alive and takes them away in time: the trio side of `LeaseKeeper`, for all engines.

`Heartbeat` owns the held `Lease` objects, the keeper (under a lock, since a thread may drive the renewals)
and one system task, the watchdog, that cancels holders before their time runs out - also when nobody
renews any more. Subclasses send the renewals: from a task (`TaskHeartbeat`) or from a thread.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from ._errors import StoreError
from ._keeper import Beat, LeaseKeeper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from ._lease import Lease
    from ._token import Token

log = logging.getLogger("otp.engines")


class Heartbeat(ABC):
    """All methods but those marked are for the trio thread."""

    def __init__(self, *, lease: float, margin: float, stall_limit: float, clock: Callable[[], float]) -> None:
        self._keeper = LeaseKeeper(lease=lease, margin=margin, stall_limit=stall_limit)
        self._lock = threading.Lock()
        self._clock = clock
        self._leases: dict[Token, Lease] = {}
        self._changed = trio.Event()
        self._scope = trio.CancelScope()
        self._done = trio.Event()
        self._started = False
        self._watched = inf  # the deadline the watchdog sleeps for
        self.beats = 0
        self.beats_failed = 0
        self.late_max = 0.0  # from the moment a renewal was due until it was committed
        self._due = 0.0
        self.lost_count = 0

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the watchdog. A system task, since engines of several pods may be closed in any order."""
        self._started = True
        trio.lowlevel.spawn_system_task(self._run)

    async def stop(self) -> None:
        """End it; what is still held is lost for us: the store gives it to others when its time is over."""
        for lease in list(self._leases.values()):
            self.lost(lease.token, "the engine was closed")
        if self._started:
            self._scope.cancel()
            await self._done.wait()

    @abstractmethod
    def give_all_back(self) -> None:
        """See `Engine.give_all_back`. Any thread."""

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._watchdog()
        finally:
            self._done.set()

    async def _watchdog(self) -> None:
        while True:
            now = self._clock()
            with self._lock:
                over = self._keeper.expired(now)
                limit = self._keeper.next_expiry()
            for token in over:
                self._lose(token, "not renewed in time")
            changed = self._changed
            self._watched = limit
            with trio.move_on_after(max(0.0, limit - now)):
                await changed.wait()
            if changed.is_set():
                self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._leases)

    def figures(self) -> dict[str, Any]:
        """For `EngineStatistics`."""
        return {
            "beats": self.beats,
            "beats_failed": self.beats_failed,
            "beat_late_max": self.late_max,
            "leases_held": len(self._leases),
            "leases_lost": self.lost_count,
        }

    # -- what holders do ---------------------------------------------------------------------------

    def hold(self, lease: Lease) -> None:
        lease.check()
        with self._lock:
            sent = lease.deadline - self._keeper.lease
            self._keeper.hold(lease.token, sent=sent, now=self._clock())
        self._leases[lease.token] = lease
        if lease.deadline - self._keeper.margin < self._watched:
            self._changed.set()
        self._wake(sent + self._keeper.interval)

    def let_go(self, lease: Lease) -> None:
        if self._leases.get(lease.token) is lease:
            del self._leases[lease.token]
            with self._lock:
                self._keeper.let_go(lease.token)

    def settle(self, lease: Lease) -> None:
        with self._lock:
            self._keeper.settle(lease.token)

    def unsettle(self, lease: Lease) -> None:
        with self._lock:
            now = self._clock()
            self._keeper.unsettle(lease.token, now=now)
        self._wake(now)

    def lost(self, token: Token, why: str) -> None:
        """The store said so, in answer to something else than a renewal."""
        with self._lock:
            self._keeper.let_go(token)
        self._lose(token, why)

    def _lose(self, token: Token, why: str) -> None:
        lease = self._leases.pop(token, None)
        if lease is not None and lease.lose(why):
            self.lost_count += 1
            log.warning("lease of %s %r (epoch %d) lost: %s", token.kind, token.key, token.epoch, why)

    # -- what the driver of the renewals does (any thread) ------------------------------------------

    @abstractmethod
    def _wake(self, due: float) -> None:
        """Something is due at `due`, perhaps earlier than the driver thought. trio thread."""

    def _begin(self) -> Beat | None:
        now = self._clock()
        with self._lock:
            due = self._keeper.next_beat()
            beat = self._keeper.begin(now)
        if beat is not None:
            self._due = due
        return beat

    def _answer(self, beat: Beat, still: Collection[Token]) -> list[Token]:
        """Book the store's answer; the lost ones are to be given to `_report` in the trio thread."""
        self.beats += 1
        now = self._clock()
        self.late_max = max(self.late_max, now - self._due)
        with self._lock:
            lost = self._keeper.renewed(beat, still, now=now)
            for token in beat.tokens:
                deadline = self._keeper.deadline(token)
                lease = self._leases.get(token)
                if deadline is not None and lease is not None:
                    lease.renewed(deadline)
        return lost

    def _report(self, lost: Sequence[Token]) -> None:
        for token in lost:
            self._lose(token, "another holder has it")

    def _failed(self, beat: Beat, error: BaseException) -> None:
        self.beats_failed += 1
        with self._lock:
            self._keeper.failed(beat, now=self._clock())
        log.warning("heartbeat: %d leases could not be renewed, trying again: %s", len(beat.entries), error)


class TaskHeartbeat(Heartbeat):
    """Renews from a task of the same loop: for stores that live in this process, and under virtual time.

    A loop that stalls stops it by nature, so there is no stall limit to watch.
    """

    def __init__(
        self,
        renew: Callable[[Sequence[Token]], Awaitable[Collection[Token]]],
        *,
        lease: float,
        margin: float,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(lease=lease, margin=margin, stall_limit=inf, clock=clock)
        self._renew = renew
        self._woken = trio.Event()
        self._planned = inf

    def _wake(self, due: float) -> None:
        if due < self._planned:
            self._woken.set()

    async def _run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watchdog)
                    nursery.start_soon(self._beat)
        finally:
            self._done.set()

    def give_all_back(self) -> None:
        """Nothing: the store lives in this process, and ends with it."""

    async def _beat(self) -> None:
        while True:
            woken = self._woken = trio.Event()
            with self._lock:
                due = self._planned = self._keeper.next_beat()
            with trio.move_on_after(max(0.0, due - self._clock())):
                await woken.wait()
            beat = self._begin()
            if beat is None:
                continue
            try:
                still = await self._renew(beat.tokens)
            except StoreError as error:
                self._failed(beat, error)
            except Exception as error:  # in a system task it would end everything
                log.exception("heartbeat: the extension function failed")
                self._failed(beat, error)
            else:
                self._report(self._answer(beat, still))
