"""One job in the hands of a handler: what becomes of it is decided here, and written here.

* the handler returns: acknowledged (or what the returned outcome says);
* it raises, or takes longer than its time: tried again after a backoff, and the attempt counts;
* it is cancelled by us (drain, stop, a step boundary), or the store is away: given back, no attempt counted;
* its lease is lost: nothing is written, somebody else has the job.

However it ends, the lease is not kept alive for a handler that is gone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import attrs
import trio

from otp import Backoff, ChildContext
from otp.engines import LeaseLost, StoreError, StoreUnavailable
from queues import Done, Job, Outcome, Queue, Reject, Release, Retry

from ._blame import is_blameless
from ._events import (
    HandlerStuck,
    JobDied,
    JobDone,
    JobEvent,
    JobLost,
    JobReleased,
    JobRetried,
    JobStarted,
    OftenReleased,
)
from ._intake import RELEASE_TIME
from ._outage import LONGEST, Outage
from ._tell import in_words, log, tell

P = TypeVar("P")
_RNG: Final = random.Random()

OFTEN = 5
"""Releases of one job from which on it is warned about: it takes longer than the time between deploys."""


@attrs.frozen
class _Lost:
    """The outcome that nobody writes."""

    reason: str


@attrs.frozen(kw_only=True)
class Desk(Generic[P]):
    """What all the handlings of one consumer have in common."""

    context: ChildContext
    queue: Queue[P]
    outage: Outage
    handler: Callable[[Job[P]], Awaitable[Outcome | None]]
    timeout: float
    backoff: Backoff


class Handling(Generic[P]):
    """A job from the moment it is handed to the handler until its outcome is stored.

    Attributes:
        job: the job.
        given_back: why we cancelled the handler, if we did.
        ended: whether the handler has ended; its outcome may still have to be stored.
        settled: whether the outcome is stored, or was taken out of this handler's hands.
    """

    def __init__(self, job: Job[P], desk: Desk[P]) -> None:
        self.job = job
        self.given_back: str | None = None
        self.ended = False
        self.settled = False
        self._desk = desk
        self._scope = trio.CancelScope()
        self._began = trio.current_time()
        self._cause: BaseException | None = None

    async def run(self) -> None:
        """Handle the job and store what became of it."""
        desk, job = self._desk, self.job
        tell_of(desk.context, JobStarted, job, releases=job.releases)
        if job.releases >= OFTEN:
            tell_of(desk.context, OftenReleased, job, releases=job.releases)
        try:
            try:
                outcome = await self._handle()
            except BaseException as error:
                # The consumer is cancelled, or the program ends: there is no time left, but for this.
                ours = trio.current_effective_deadline() == -math.inf or isinstance(error, KeyboardInterrupt)
                with trio.move_on_after(RELEASE_TIME, shield=True):
                    await self._settle_at_last(Release() if ours else self._retry(error))
                raise
            finally:
                self.ended = True
            await self._settle(outcome)
        finally:
            if not self.settled:
                desk.queue.engine.let_go(job.lease)

    def hand_back(self, reason: str) -> None:
        """Cancel the handler; when it has ended the job is given back, uncounted."""
        self.given_back = self.given_back or reason
        self._scope.cancel(reason=reason)

    def take_away(self) -> Job[P]:
        """Take the job out of the hands of a handler that does not end. Somebody else settles it."""
        self.settled = True
        handler = getattr(self._desk.handler, "__qualname__", repr(self._desk.handler))
        tell_of(self._desk.context, HandlerStuck, self.job, handler=handler)
        return self.job

    def done(self) -> None:
        """Note that the job was acknowledged by the handler itself."""
        self.settled = True
        self._tell_done()

    # -- what becomes of the job

    async def _handle(self) -> Outcome | _Lost:
        """Run the handler and say what becomes of its job."""
        job, timeout = self.job, self._desk.timeout
        if timeout < math.inf:
            self._scope.deadline = self._began + timeout
        try:
            with job.lease.guard(), self._scope:
                outcome = await self._desk.handler(job)
                return Done() if outcome is None else _checked(outcome)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is the job's)
            return self._after(error)
        if self.given_back:
            return Release()
        return self._retry(TimeoutError(f"the handler took longer than {timeout:g} s"))

    def _after(self, error: Exception) -> Outcome | _Lost:
        """What becomes of the job after the handler raised `error`."""
        job = self.job
        if self.settled:
            log.error("%s: %r failed after its job was acknowledged", self._desk.context.path, job, exc_info=error)
            return Done()
        if isinstance(error, LeaseLost) and error.token == job.lease.token:
            return _Lost(str(error))
        if job.lease.lost:
            return _Lost(f"while it was cancelled for that, the handler raised {in_words(error)}")
        if self.given_back or trio.current_effective_deadline() == -math.inf:
            return Release()  # what a handler raises while we cancel it says nothing about its job
        if is_blameless(error):
            self.given_back = in_words(error)
            pause = min(LONGEST, 0.1 * 2 ** min(job.releases, 10))
            return Release(pause * _RNG.uniform(0.8, 1.0))
        return self._retry(error)

    def _retry(self, error: BaseException) -> Retry:
        self._cause = error
        return Retry(self._desk.backoff.delay(self.job.attempt, _RNG), error=error)

    # -- storing it

    async def _settle(self, outcome: Outcome | _Lost) -> None:
        """Store the outcome, however long the store is away, as long as the job is ours."""
        desk, job = self._desk, self.job
        while not self.settled:
            if isinstance(outcome, _Lost):
                tell_of(desk.context, JobLost, job, reason=outcome.reason)
                return
            lost = False
            try:
                # Shielded: once the handler has ended, its outcome is worth more than a prompt cancellation. It is
                # bounded by the store's own time limits; the waiting between two tries is not shielded.
                with trio.CancelScope(shield=True):
                    lost = bool(await desk.queue.settle([(job, outcome)]))
            except StoreUnavailable as error:
                if job.lease.lost:
                    outcome = _Lost("the store was away for longer than the lease")
                else:
                    await desk.outage.wait(error)
                continue
            desk.outage.over()
            if lost:
                outcome = _Lost("another holder has it")
            else:
                self.settled = True
                self._tell(outcome)

    async def _settle_at_last(self, outcome: Outcome) -> None:
        """The same when there is no time to wait for the store: then the lease runs out."""
        try:
            await self._settle(outcome)
        except StoreError as error:
            log.warning("%s: %r could not be given back: %s", self._desk.context.path, self.job, error)

    # -- telling it

    def _tell_done(self) -> None:
        tell_of(self._desk.context, JobDone, self.job, seconds=trio.current_time() - self._began)

    def _tell(self, outcome: Outcome) -> None:
        context, job = self._desk.context, self.job
        match outcome:
            case Done():
                self._tell_done()
            case Release():
                tell_of(context, JobReleased, job, reason=self.given_back or "the handler or its consumer was ended")
            case Retry(delay=delay, error=error):
                cause = self._cause
                words = in_words(cause) if cause else str(error or "the handler asked for it")
                if job.attempt < self._desk.queue.max_attempts:
                    tell_of(context, JobRetried, job, delay=delay, error=words, cause=cause)
                else:
                    reason = f"attempt {job.attempt} was the last: {words}"
                    tell_of(context, JobDied, job, reason=reason, cause=cause)
            case Reject(reason=reason):
                tell_of(context, JobDied, job, reason=reason)


def tell_of(
    context: ChildContext, kind: type[JobEvent], job: Job[P], *, cause: BaseException | None = None, **details: object
) -> None:
    """Tell what happened to `job`."""
    tell(
        context,
        kind,
        cause=cause,
        queue=job.queue,
        job=job.id,
        topic=job.topic,
        attempt=job.attempt,
        epoch=job.lease.token.epoch,
        **details,
    )


def _checked(outcome: object) -> Outcome:
    if not isinstance(outcome, Done | Retry | Reject | Release):
        raise TypeError(f"handle_job must return None, Done, Retry, Reject or Release, not {outcome!r}")
    return outcome
