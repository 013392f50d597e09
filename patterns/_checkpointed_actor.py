"""P2, the checkpointed actor: save after each step; after a restart, `init` finds the checkpoint and the actor sends itself a message.

The actor computes and may crash at any time; what it has finished is in the checkpoint. Two faces, the second built on the first:

* **messages**: `init` looks at ``self.checkpoint`` and, if there is one, sends the actor itself the message that goes on from it;
  `handle_message` does a step, saves it, and sends the next;
* **run**: write ``async def run(self, job, steps)`` as ordinary code with named steps. The `init` and `handle_message` of this class do the
  rest, by just those messages: `Start` and `Resume`.

Where the work comes from decides whose lease fences the checkpoint, and there is exactly one for each unit of work: a queue's jobs
(`CheckpointedJobs`, the job's lease), or a durable name (`NamedCheckpointedActor`, the name's lease).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from otp import Actor, child, host

from ._events import Resumed
from ._intake import RELEASE_TIME
from ._lease_held import LeaseHeldActor
from ._queue_consumer import QueueConsumer
from ._steps import Steps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from checkpoints import Checkpoint, Checkpoints
    from otp import WorkerProcesses
    from otp.engines import Transaction
    from queues import Job, Outcome, Queue

J = TypeVar("J")
R = TypeVar("R")

ACCEPTED = "accepted"
"""The step under which a named actor keeps the job it was given."""


@attrs.frozen
class Start(Generic[J]):
    """Begin with this job. As a *call* to a named actor it is answered when the job is stored: from then on it will be done."""

    job: J


@attrs.frozen
class Resume:
    """Go on from the checkpoint. The actor sends it to itself, from `init`."""

    step: str
    """The step that was saved last."""
    occurrence: int = 0


@attrs.frozen(kw_only=True)
class Work(Generic[J]):
    """What one incarnation works on: made by whoever holds the lease, given to the actor before its `init`."""

    checkpoint: Checkpoint
    job: J | None
    """The job at hand; None if it is to be found in the checkpoint, or still to be given."""
    commit: Callable[[], AbstractAsyncContextManager[Transaction | None]]
    """Ends the work: in its block the effect is stored, in the same transaction where the engine has one."""
    boundary: Callable[[], Awaitable[None]]
    """Awaited between two steps; cancels the computation when it is to go on elsewhere."""


class CheckpointedActor(Actor, Generic[J, R]):
    """An actor whose progress survives it. Subclass it and write either `run`, or `init` and `handle_message`.

    It is not started as it is: `CheckpointedJobs` makes one for each job of a queue, `NamedCheckpointedActor` makes it a child
    with a durable name.

    Attributes:
        checkpoint: the steps saved so far, from `init` on.
    """

    work: Work[J]
    processes: WorkerProcesses | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The steps saved so far, and where to save the next."""
        return self.work.checkpoint

    async def init(self) -> None:
        """Send this actor itself the message that goes on from the checkpoint, or begins with the job at hand."""
        saved = self.checkpoint.latest()
        if saved is not None:
            self.context.emit(
                Resumed(
                    path=self.context.path,
                    key=self.checkpoint.key,
                    epoch=self.checkpoint.lease.token.epoch,
                    steps=len(self.checkpoint.saved),
                    last=saved.step,
                )
            )
            self.send_self(Resume(saved.step, saved.occurrence))
        elif self.work.job is not None:
            self.send_self(Start(self.work.job))

    async def handle_message(self, message: object) -> None:
        """Compute: `Start` and `Resume` differ in nothing but what the checkpoint holds by then."""
        match message:
            case Start(job):
                await self.compute(job)
            case Resume():
                await self.compute(self.resumed_job())
            case _:
                raise TypeError(f"{type(self).__name__} takes Start and Resume messages, not {message!r}")

    def resumed_job(self) -> J:
        """The job that is gone on with. A named actor finds it in its checkpoint."""
        if self.work.job is None:
            raise LookupError(f"checkpoint {self.checkpoint.key!r} holds steps but no job")
        return self.work.job

    async def compute(self, job: J) -> None:
        """Run the steps that are left, then commit the result and end the work."""
        steps = Steps(self.checkpoint, self.context, boundary=self.work.boundary, processes=self.processes)
        result = await self.run(job, steps)
        async with self.work.commit() as tx:
            await self.finish(job, result, tx)
        self.committed()

    def committed(self) -> None:
        """The work is done and stored: end."""
        self.stop()

    async def run(self, job: J, steps: Steps) -> R:
        """Compute the result of ``job`` in named steps. Called again after an interruption; finished steps do not run again."""
        raise NotImplementedError(f"{type(self).__name__} must define run(job, steps), or init and handle_message")

    async def finish(self, job: J, result: R, tx: Transaction | None) -> None:
        """Store the result. Does nothing by default.

        ``tx`` is the transaction in which the job is acknowledged and its checkpoint deleted: what is stored through it happens
        exactly once. It is None where queue and checkpoints do not share a database with transactions: then this may happen
        again after a crash, and the effect needs the job's id as a dedup id.
        """


class CheckpointedJobs(QueueConsumer[J]):
    """Computes the jobs of a queue by checkpointed actors: each job is one computation, fenced by the job's own lease.

    For each claimed job a fresh actor is made. When it crashes, the job is tried again later, here or elsewhere, from its last
    step. When the service drains, each goes on to its next step boundary and is given back there.

    Args:
        queue: where the jobs come from.
        checkpoints: where their steps are saved. In the queue's own engine, the result, the acknowledgement and the
            deletion of the checkpoint are one transaction.
        actor: makes the actor of one job; usually the class.
        processes: for ``steps.process``.
        concurrency: how many jobs are computed at once.
    """

    def __init__(
        self,
        queue: Queue[J],
        checkpoints: Checkpoints,
        actor: Callable[[], CheckpointedActor[J, Any]],
        *,
        processes: WorkerProcesses | None = None,
        concurrency: int = 1,
        **options: Any,
    ) -> None:
        """The other options are those of `QueueConsumer`."""
        super().__init__(queue, concurrency=concurrency, **options)
        self._checkpoints = checkpoints
        self._actor = actor
        self._processes = processes

    async def handle_job(self, job: Job[J]) -> Outcome | None:
        """Run one actor to its end."""
        checkpoint = await self._checkpoints.open(f"{job.queue}/{job.id}", job.lease)

        @asynccontextmanager
        async def commit() -> AsyncGenerator[Transaction | None]:
            if self._checkpoints.engine is self.queue.engine and self.queue.engine.capabilities.transactions:
                async with self.commit(job) as tx:
                    yield tx
                    await checkpoint.clear(tx=tx)
            else:  # effect, then ack, then delete the checkpoint: a crash in between repeats, and never loses
                yield None
                await self.acknowledge(job)
                await checkpoint.clear()

        async def boundary() -> None:
            if self.intake.closed:
                self.hand_back(job, "a step boundary was reached while draining")
            await trio.lowlevel.checkpoint()

        actor = self._actor()
        actor.work = Work(checkpoint=checkpoint, job=job.payload, commit=commit, boundary=boundary)
        actor.processes = self._processes
        await host(self.context, child(lambda: actor, id=job.id, shutdown=RELEASE_TIME / 2))
        return None


class NamedCheckpointedActor(CheckpointedActor[J, R], LeaseHeldActor):
    """A checkpointed actor with a durable name, as a child of its own; where the name is leased it works on one job at a time.

    ::

        child(lambda: Nightly(checkpoints, "nightly", Batch), name="nightly")
        await call("nightly", Start(Batch(day=1)))      # answered when the job is stored: from then on it will be done

    Args:
        checkpoints: where the job and its steps are saved.
        durable_name: the name whose lease it works under, and the checkpoint's key.
        job_type: as what a stored job is read back; a type of one of the checkpoints' topics may have versions.
        processes: for ``steps.process``.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        durable_name: str,
        job_type: type[J],
        *,
        processes: WorkerProcesses | None = None,
    ) -> None:
        """Nothing is acquired before the child is started."""
        super().__init__(checkpoints.engine, durable_name)
        self.processes = processes
        self._checkpoints = checkpoints
        self._job_type = job_type

    async def _prepare(self) -> None:
        checkpoint = await self._checkpoints.open(self.durable_name, self.lease)

        @asynccontextmanager
        async def commit() -> AsyncGenerator[Transaction | None]:
            if self._checkpoints.engine.capabilities.transactions:
                async with self._checkpoints.engine.transaction() as tx:
                    yield tx
                    await checkpoint.clear(tx=tx)
            else:
                yield None
                await checkpoint.clear()

        async def boundary() -> None:
            if self.intake.closed:
                self._seat.hand_back("a step boundary was reached while draining")
            await trio.lowlevel.checkpoint()

        self.work = Work(checkpoint=checkpoint, job=None, commit=commit, boundary=boundary)
        await super()._prepare()
        self.nursery.start_soon(self._stop_when_idle)

    async def _stop_when_idle(self) -> None:
        """When the intake closes, end between two messages: in its turn the actor is at work on none."""
        await self.intake.end.wait()

        async def end() -> None:
            self.stop()

        await self.in_turn(end)

    async def handle_call(self, request: object) -> object:
        """Accept a job: `Start` is answered when it is stored."""
        if not isinstance(request, Start):
            raise TypeError(f"{type(self).__name__} takes Start calls, not {request!r}")
        await self.checkpoint.save(ACCEPTED, request.job)
        self.send_self(Resume(ACCEPTED))
        return None

    async def handle_message(self, message: object) -> None:
        """`Start` without an answer, and `Resume`."""
        if isinstance(message, Start):
            await self.checkpoint.save(ACCEPTED, message.job)
        await super().handle_message(message)

    def resumed_job(self) -> J:
        """The job that was accepted."""
        job: J = self.checkpoint.load(ACCEPTED, self._job_type)
        return job

    def committed(self) -> None:
        """The job is done and stored: wait for the next."""
