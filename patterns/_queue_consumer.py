"""P1, the queue consumer: pull jobs, work on them, acknowledge only after the work is done.

One claimer asks the queue for as many jobs as there are free handlers (prefetch = free slots: whatever is claimed is
leased to us, so more would only be kept from others). A fixed set of worker tasks runs the handlers, since starting a
task per job costs more than a whole no-op job. What becomes of a job in a handler is the subject of `_handling.py`.

At every moment each claimed job is in one place: returned by the claim and put into `_waiting` without a wait in
between, or in a `Handling`. Both are given back whatever ends the consumer.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from otp import Backoff, Behaviour, ChildContext
from otp.engines import StoreError, StoreUnavailable
from queues import Queue, Release

from ._at_exit import given_back_at_exit
from ._checks import check_count, check_instance, check_limit
from ._events import JobLost, JobReleased
from ._handling import Desk, Handling, tell_of
from ._intake import RELEASE_TIME, Intake
from ._outage import Outage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from otp.engines import Transaction
    from queues import Job, Outcome

P = TypeVar("P")

BACKOFF = Backoff(initial=1.0, cap=600.0, jitter=0.2)
"""How long a failed job waits, unless the consumer is told otherwise."""


class QueueConsumer(Behaviour, Generic[P]):
    """Handles the jobs of a queue, several at a time. Subclass it and write `handle_job`.

    ::

        class Resizer(QueueConsumer[Resize]):
            async def handle_job(self, job: Job[Resize]) -> None:
                await resize(job.payload.path, job.payload.width)

        child(lambda: Resizer(queue, concurrency=8), id="resize")

    When the service drains, or the child is asked to stop, it claims no more and gives back what no handler has
    begun; the handlers go on until half a second before the deadline in force (the drain's, or the end of the child's
    `shutdown` time). Then they are cancelled and their jobs given back, uncounted, also those whose handler does not
    obey.

    While the store is out of reach the child waits and tries again; it does not fail. It is not ready meanwhile.

    Args:
        queue: where the jobs come from. Its engine must be open while the child runs: give the engine a place
            before this child.
        concurrency: how many handlers run at once.
        handler_timeout: seconds one handler may take; longer counts as a failed attempt. The default is no limit,
            since the lease is renewed for as long as the process lives and its loop turns.
        backoff: how long a failed job waits, by its attempt. Default: 1 s, doubled each time, at most 10 minutes.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

    Attributes:
        queue: the queue.
        context: the child's place in the tree; from `init` on.
    """

    context: ChildContext

    def __init__(
        self,
        queue: Queue[P],
        *,
        concurrency: int = 1,
        handler_timeout: float = math.inf,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self.queue: Queue[P] = check_instance("queue", queue, Queue)
        self._concurrency = check_count("concurrency", concurrency)
        self._handler_timeout = check_limit("handler_timeout", handler_timeout)
        self._backoff: Backoff = check_instance("backoff", backoff, Backoff)
        self._waiting: deque[Job[P]] = deque()
        self._running: dict[Job[P], Handling[P]] = {}
        self._work = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    async def init(self) -> None:
        """Prepare, before the first job is claimed; a failure is a failed start. Does nothing by default."""

    @abstractmethod
    async def handle_job(self, job: Job[P]) -> Outcome | None:
        """Do the work of one job.

        Returning None (or `Done`) acknowledges it; `Retry`, `Reject` and `Release` say otherwise; an exception means
        a retry with backoff, and the last attempt's means the dead letters. It may run more than once for one job, so
        effects outside the queue's own database need the job's id as a dedup id; effects inside it belong in
        `commit`.

        `StoreUnavailable` (an outage), `WorkersClosed` and `UnknownPayload` (a newer program can go on) cost no
        attempt: the job is given back and comes again after a moment.

        Cancelled when the job's lease is lost, at the end of a drain or stop, and after the handler's timeout.
        """

    @asynccontextmanager
    async def commit(self, job: Job[P]) -> AsyncGenerator[Transaction]:
        """Acknowledge `job` in a transaction of the user's own: either both are stored or neither.

        Open it last, when the work is done, and keep it short (5 seconds at most): it is the store's only writer.

        Raises:
            LeaseLost: somebody else has the job by now; nothing was stored.
            StoreError: nothing was stored.
        """
        async with self.queue.engine.transaction() as tx:
            yield tx
            await self.queue.ack(job, tx=tx)
            tx.on_end(lambda committed: self._done(job) if committed else None)

    async def acknowledge(self, job: Job[P]) -> None:
        """Acknowledge `job` now, instead of when its handler returns.

        Raises:
            LeaseLost: somebody else has the job by now.
            StoreError: the store could not be reached.
        """
        await self.queue.ack(job)
        self._done(job)

    def _done(self, job: Job[P]) -> None:
        if (handling := self._running.get(job)) is not None:
            handling.done()

    # -- the life of the child

    async def serve(self, context: ChildContext) -> None:
        """Claim and handle jobs until the child is stopped or the service drains. Called by the supervisor."""
        self.context = context
        self.intake = Intake(context)
        self._outage = Outage(context)
        desk = Desk(
            context=context,
            queue=self.queue,
            outage=self._outage,
            handler=self.handle_job,
            timeout=self._handler_timeout,
            backoff=self._backoff,
        )
        await self.init()
        context.started()
        with given_back_at_exit(context, self.queue.engine):
            await self._claim_and_handle(desk)

    async def _claim_and_handle(self, desk: Desk[P]) -> None:
        async with trio.open_nursery() as nursery:
            try:
                with self.context.drains():
                    nursery.start_soon(self.intake.watch)
                    for _ in range(self._concurrency):
                        nursery.start_soon(self._worker, desk)
                    await self._claim_until_closed()
                    await self._give_back_waiting("no handler had begun it")
                    if not await self._let_running_end():
                        await self.intake.stopped()  # so that the drain ends at its deadline, with us as not done
            finally:
                await self._give_back_waiting("the consumer has ended")
            nursery.cancel_scope.cancel(reason="the consumer takes no more jobs")
        await self.intake.stopped()

    async def _claim_until_closed(self) -> None:
        while not self.intake.closed:
            with self.intake.waiting():
                while not (room := self._concurrency - len(self._running) - len(self._waiting)):
                    await self._room.park()
                try:
                    jobs = await self.queue.claim(room)  # once begun, its result wins over a cancellation
                    self._waiting.extend(jobs)
                    self._work.unpark(count=len(jobs))
                    self._outage.over()
                    if not jobs:
                        await self.queue.wait()
                except StoreUnavailable as error:
                    await self._outage.wait(error)

    async def _worker(self, desk: Desk[P]) -> None:
        while True:
            while not self._waiting:
                await self._work.park()
            handling = Handling(self._waiting.popleft(), desk)
            self._running[handling.job] = handling
            try:
                await handling.run()
            finally:
                del self._running[handling.job]
                self._room.unpark_all()

    async def _let_running_end(self) -> bool:
        """Wait for the handlers; cancel them when time is up; then give their jobs back over their heads.

        Returns whether all of them could finish.
        """
        with self.intake.finishing():
            await self._all_ended()
        if not self._running:
            return True
        for handling in self._running.values():
            handling.hand_back("the time to finish it was over")
        with trio.move_on_after(RELEASE_TIME / 2):
            await self._all_ended()
        stuck = [handling.take_away() for handling in self._running.values() if not handling.ended]
        await self._give_back(stuck, "its handler does not obey its cancellation")
        return False

    async def _all_ended(self) -> None:
        while self._running:
            await self._room.park()

    def hand_back(self, job: Job[P], reason: str) -> None:
        """Cancel the handler of `job` and give the job back, uncounted, when it has ended."""
        self._running[job].hand_back(reason)

    async def _give_back_waiting(self, reason: str) -> None:
        jobs = list(self._waiting)
        self._waiting.clear()
        await self._give_back(jobs, reason)

    async def _give_back(self, jobs: Sequence[Job[P]], reason: str) -> None:
        """Release jobs that no handler answers for. Tried once: failing that, their leases run out."""
        if not jobs:
            return
        error: object = "the store does not answer"
        with trio.move_on_after(RELEASE_TIME, shield=True):
            try:
                lost = await self.queue.settle([(job, Release()) for job in jobs])
            except StoreError as refusal:
                error = refusal
            else:
                for job in jobs:
                    if job in lost:
                        tell_of(self.context, JobLost, job, reason="another holder has it")
                    else:
                        tell_of(self.context, JobReleased, job, reason=reason)
                return
        for job in jobs:
            self.queue.engine.let_go(job.lease)
            tell_of(self.context, JobLost, job, reason=f"not given back, so its lease runs out: {error}")
