"""The jobs of a queue, each computed by a checkpointed actor of its own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from checkpoints import Checkpoints
from otp import Normal, child, host
from queues import Release

from ._checkpointed_actor import CheckpointedActor, Work
from ._checks import check_instance
from ._intake import RELEASE_TIME
from ._queue_consumer import QueueConsumer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from checkpoints import Checkpoint
    from otp import WorkerProcesses
    from otp.engines import Transaction
    from queues import Job, Outcome, Queue

J = TypeVar("J")


class CheckpointedJobs(QueueConsumer[J]):
    """Computes the jobs of a queue by checkpointed actors: each job is one computation, fenced by the job's own lease.

    ::

        child(lambda: CheckpointedJobs(queue, checkpoints, Analysis, processes=cpu, concurrency=4), id="analysis")

    For each claimed job a fresh actor is made. When it crashes, the job is tried again later, here or elsewhere, from
    its last saved step. When the service drains, each goes on to its next step boundary and is given back there,
    uncounted; what is in a step when the time is over is cancelled, and that step runs again. An actor that ends
    normally has done its job, also one that did not `commit`.

    Args:
        queue: where the jobs come from.
        checkpoints: where their steps are saved, under the key ``"<queue>/<job id>"``. In the queue's own engine, the
            result, the acknowledgement and the deletion of the checkpoint are one transaction.
        actor: makes the actor of one job; usually the class.
        processes: for `Steps.process`. Give it a place before this child.
        concurrency: how many jobs are computed at once.
        options: the others of `QueueConsumer`.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.
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
        super().__init__(queue, concurrency=concurrency, **options)
        if not callable(actor):
            raise TypeError(f"actor must be a class or a function that makes an actor, not {actor!r}")
        self._checkpoints: Checkpoints = check_instance("checkpoints", checkpoints, Checkpoints)
        self._actor = actor
        self._processes = processes

    async def handle_job(self, job: Job[J]) -> Outcome | None:
        """Run one actor to its end."""
        checkpoint = await self._checkpoints.open(f"{job.queue}/{job.id}", job.lease)

        async def boundary() -> None:
            if self.intake.closed:
                self.hand_back(job, "a step boundary was reached while draining")
            await trio.lowlevel.checkpoint()

        actor: CheckpointedActor[J, Any] = check_instance("what actor returns", self._actor(), CheckpointedActor)
        actor.work = Work(
            checkpoint=checkpoint,
            job=job.payload,
            commit=lambda: self._commit(job, checkpoint),
            boundary=boundary,
            closing=self.intake.end,
        )
        actor.processes = self._processes
        ended = await host(self.context, child(lambda: actor, id=job.id, shutdown=RELEASE_TIME / 2))
        return None if isinstance(ended, Normal) else Release()

    @asynccontextmanager
    async def _commit(self, job: Job[J], checkpoint: Checkpoint) -> AsyncGenerator[Transaction | None]:
        if self._checkpoints.engine is self.queue.engine and self.queue.engine.capabilities.transactions:
            async with self.commit(job) as tx:
                yield tx
                await checkpoint.clear(tx=tx)
        else:  # effect, then ack, then delete the checkpoint: a crash in between repeats, and never loses
            yield None
            await self.acknowledge(job)
            await checkpoint.clear()
