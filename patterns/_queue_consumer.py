"""P1, the queue consumer: pull jobs, work on them, acknowledge only after the work is done.

One claimer asks the queue for as many jobs as there are free handlers (prefetch = free slots: whatever is claimed is leased to
us, so more would only be kept from others). A fixed set of worker tasks runs the handlers, since starting a task per job costs more
than a whole no-op job.

What becomes of a job is decided in one place, `_handle`, and written in one place, `_settle`:

* the handler returns: acknowledged (or what the returned outcome says);
* it raises, or takes longer than its time: tried again after a backoff, and the attempt counts;
* it is cancelled by us (drain, stop, a step boundary): given back, no attempt counted, the job keeps its place;
* its lease is lost: nothing is written, somebody else has the job.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections import deque
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs
import trio

from otp import Backoff, Behaviour, ChildContext
from otp.engines import LeaseLost, StoreUnavailable, Transaction
from queues import Done, Job, Outcome, Queue, Reject, Release, Retry

from ._events import HandlerStuck, JobDied, JobDone, JobLost, JobReleased, JobRetried, JobStarted, OftenReleased
from ._intake import RELEASE_TIME, Intake
from ._outage import Outage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

P = TypeVar("P")

BACKOFF = Backoff(initial=1.0, cap=600.0, jitter=0.2)
"""How long a failed job waits, unless the consumer is told otherwise."""

OFTEN = 5
"""Releases of one job from which on it is warned about: it takes longer than the time between deploys."""


@attrs.define(eq=False)
class _Running(Generic[P]):
    """A job in a handler."""

    job: Job[P]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    began: float = attrs.field(factory=trio.current_time)
    given_back: str | None = None
    """Why we cancelled the handler, if we did."""
    settled: bool = False
    """Whether the job's outcome is stored, or taken out of this handler's hands."""


@attrs.frozen
class _Lost:
    """The outcome that is written by nobody: another process has the job."""

    reason: str


class QueueConsumer(Behaviour, Generic[P]):
    """Handles the jobs of a queue, several at a time. Subclass it and write `handle_job`.

    Args:
        queue: where the jobs come from. Its engine must be open while the child runs: give the engine a place before this child.
        concurrency: how many handlers run at once.
        handler_timeout: seconds one handler may take; longer counts as a failed attempt. The default is no limit, since the lease
            is renewed for as long as the process lives and its loop turns.
        backoff: how long a failed job waits, by its attempt.

    While the store is out of reach the child waits and retries; it does not fail. It is not ready meanwhile.
    """

    def __init__(
        self,
        queue: Queue[P],
        *,
        concurrency: int = 1,
        handler_timeout: float = math.inf,
        backoff: Backoff = BACKOFF,
    ) -> None:
        """Check the settings; nothing is claimed before the child is started."""
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ValueError(f"concurrency must be a whole number of handlers >= 1, not {concurrency!r}")
        if isinstance(handler_timeout, bool) or not handler_timeout > 0:
            raise ValueError(f"handler_timeout must be a number of seconds > 0 (or math.inf), not {handler_timeout!r}")
        self.queue = queue
        self._concurrency = concurrency
        self._handler_timeout = handler_timeout
        self._backoff = backoff
        self._rng = random.Random()
        self._waiting: deque[Job[P]] = deque()
        self._running: dict[str, _Running[P]] = {}
        self._work = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    async def init(self) -> None:
        """Prepare, before the first job is claimed; a failure is a failed start. Does nothing by default."""

    @abstractmethod
    async def handle_job(self, job: Job[P]) -> Outcome | None:
        """Do the work of one job.

        Returning None (or `Done`) acknowledges it; `Retry`, `Reject` and `Release` say otherwise; an exception means a retry with
        backoff. It may run more than once for one job, so effects outside the queue's own database need the job's id as a dedup id;
        effects inside it belong in `commit`.

        Cancelled when the job's lease is lost, at the end of a drain, and after the handler's timeout.
        """

    @asynccontextmanager
    async def commit(self, job: Job[P]) -> AsyncGenerator[Transaction]:
        """Acknowledge ``job`` in a transaction of the user's own: either both are stored or neither.

        Open it last, when the work is done, and keep it short: it is the store's only writer. Raises `LeaseLost`, with nothing
        stored, when somebody else has the job by now.
        """
        async with self.queue.engine.transaction() as tx:
            yield tx
            await self.queue.ack(job, tx=tx)
        self._done(job)

    async def acknowledge(self, job: Job[P]) -> None:
        """Acknowledge ``job`` now, instead of when its handler returns. Raises `LeaseLost` when somebody else has it."""
        await self.queue.ack(job)
        self._done(job)

    def _done(self, job: Job[P]) -> None:
        running = self._running[job.id]
        running.settled = True
        self._emit(JobDone, job, seconds=trio.current_time() - running.began)

    # -- the life of the child

    async def serve(self, context: ChildContext) -> None:
        """Claim and handle jobs until the child is stopped or the service drains."""
        self.context = context
        self.intake = intake = Intake(context)
        await self.init()
        context.started()
        with ExitStack() as intake_open:
            intake_open.enter_context(context.drains())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(intake.watch)
                for _ in range(self._concurrency):
                    nursery.start_soon(self._worker)
                await self._claim_until_closed()
                await self._give_back(list(self._waiting), "not started")
                self._waiting.clear()
                await self._let_running_end()
                intake_open.close()  # the service may go on, even if a handler does not
                # A drain comes before the ordered stop: ending now would be an exit that the supervisor has to deal with.
                await context.stopping.wait()
                nursery.cancel_scope.cancel(reason="consumer stopped")

    async def _claim_until_closed(self) -> None:
        outage = Outage(self.context)
        while not self.intake.closed:
            jobs: list[Job[P]] = []
            with self.intake.waiting():
                try:
                    while not (room := self._concurrency - len(self._running) - len(self._waiting)):
                        await self._room.park()
                    jobs = await self.queue.claim(room)  # once begun its result wins over a cancellation
                    if not jobs:
                        await self.queue.wait()
                    outage.over()
                except StoreUnavailable as error:
                    await outage.wait(error)
            self._waiting.extend(jobs)
            self._work.unpark(count=len(jobs))

    async def _worker(self) -> None:
        while True:
            while not self._waiting or self.intake.closed:
                await self._work.park()
            running = _Running(self._waiting.popleft())
            self._running[running.job.id] = running
            try:
                await self._attempt(running)
            finally:
                del self._running[running.job.id]
                self._room.unpark_all()

    async def _let_running_end(self) -> None:
        """Wait for the handlers; cancel them when time is up; then give their jobs back over their heads."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_time_is_up, nursery.cancel_scope)
            while self._running:
                await self._room.park()
            nursery.cancel_scope.cancel(reason="all handlers have ended")
        with trio.move_on_after(RELEASE_TIME / 2):
            while self._running:
                await self._room.park()
        stuck = [running for running in self._running.values() if not running.settled]
        for running in stuck:
            running.settled = True
            self._emit(HandlerStuck, running.job, handler=type(self).handle_job.__qualname__)
        await self._give_back([running.job for running in stuck], "the handler did not obey its cancellation")

    async def _cancel_when_time_is_up(self, waiting: trio.CancelScope) -> None:
        await self.intake.wait_hand_back()
        for running in self._running.values():
            self.hand_back(running.job, "the time to drain was over")
        waiting.cancel(reason="the time to drain is over")

    def hand_back(self, job: Job[P], reason: str) -> None:
        """Cancel the handler of ``job`` and give the job back, uncounted, when it has ended."""
        running = self._running[job.id]
        running.given_back = running.given_back or reason
        running.scope.cancel(reason=reason)

    # -- one job

    async def _attempt(self, running: _Running[P]) -> None:
        job = running.job
        self._emit(JobStarted, job, releases=job.releases)
        if job.releases >= OFTEN:
            self._emit(OftenReleased, job, releases=job.releases)
        try:
            outcome = await self._handle(running)
        except trio.Cancelled:
            with trio.move_on_after(RELEASE_TIME, shield=True):
                await self._settle(running, Release(), "the consumer was cancelled")
            raise
        await self._settle(running, outcome, running.given_back or "the handler asked for it")

    async def _handle(self, running: _Running[P]) -> Outcome | _Lost:
        """Run the handler and say what becomes of its job."""
        job = running.job
        if self._handler_timeout < math.inf:
            running.scope.deadline = trio.current_time() + self._handler_timeout
        try:
            with job.lease.guard(), running.scope:
                return await self.handle_job(job) or Done()
        except LeaseLost as error:
            return _Lost(str(error))
        except Exception as error:
            if job.lease.lost:  # what a handler raises while it is being cancelled says nothing about its job
                return _Lost(f"the lease was lost ({type(error).__name__} in the handler's cleanup)")
            if running.given_back or trio.current_effective_deadline() == -math.inf:
                return Release()
            delay = self._backoff.delay(job.attempt, self._rng)
            return Retry(delay, error=error)
        if running.given_back:
            return Release()
        error = TimeoutError(f"the handler took longer than {self._handler_timeout:g} s")
        return Retry(self._backoff.delay(job.attempt, self._rng), error=str(error))

    async def _settle(self, running: _Running[P], outcome: Outcome | _Lost, why: str) -> None:
        """Store the outcome, however long the store is away, as long as the job is ours."""
        job, outage = running.job, Outage(self.context)
        while not running.settled:
            if isinstance(outcome, _Lost):
                self._emit(JobLost, job, reason=outcome.reason)
                break
            try:
                # Shielded: once the handler has ended, its outcome is worth more than a prompt cancellation. Bounded by the
                # store's own time limits; the waiting between tries is not shielded.
                with trio.CancelScope(shield=True):
                    await self._write(running, outcome, why)
                outage.over()
            except LeaseLost as error:
                outcome = _Lost(str(error))
            except StoreUnavailable as error:
                if job.lease.lost:
                    outcome = _Lost("the store was away for longer than the lease")
                else:
                    await outage.wait(error)
        running.settled = True

    async def _write(self, running: _Running[P], outcome: Outcome, why: str) -> None:
        job = running.job
        if await self.queue.settle([(job, outcome)]):
            raise LeaseLost(job.lease.token)
        running.settled = True
        match outcome:
            case Done():
                self._emit(JobDone, job, seconds=trio.current_time() - running.began)
            case Release():
                self._emit(JobReleased, job, reason=why)
            case Retry() if job.attempt < self.queue.max_attempts:
                self._emit(JobRetried, job, delay=outcome.delay, error=_last_line(outcome.error))
            case Retry():
                self._emit(JobDied, job, reason=f"attempt {job.attempt} was the last: {_last_line(outcome.error)}")
            case Reject():
                self._emit(JobDied, job, reason=outcome.reason)

    async def _give_back(self, jobs: list[Job[P]], reason: str) -> None:
        """Release jobs that no handler answers for; whoever calls is in a hurry, so failures are left to the lease."""
        with trio.move_on_after(RELEASE_TIME, shield=True):
            for job in jobs:
                try:
                    await self.queue.release(job)
                except (LeaseLost, StoreUnavailable) as error:
                    self._emit(JobLost, job, reason=str(error))
                else:
                    self._emit(JobReleased, job, reason=reason)

    def _emit(self, kind: type, job: Job[P], **details: object) -> None:
        self.context.emit(
            kind(
                path=self.context.path,
                queue=self.queue.name,
                job=job.id,
                topic=job.topic,
                attempt=job.attempt,
                epoch=job.lease.token.epoch,
                **details,
            )
        )


def _last_line(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[-1] if lines else ""
