"""A checkpointed actor that is a child of its own, with a durable name."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from checkpoints import Checkpoints

from ._checkpointed_actor import CheckpointedActor, Resume, Start, Work
from ._checks import check_instance
from ._lease_held_actor import LeaseHeldActor
from ._steps import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from checkpoints import Checkpoint
    from otp import WorkerProcesses
    from otp.engines import Transaction

J = TypeVar("J")
R = TypeVar("R")


class NamedCheckpointedActor(CheckpointedActor[J, R], LeaseHeldActor):
    """A checkpointed actor with a durable name, as a child; where the name is leased it works on one job at a time.

    ::

        child(lambda: Nightly(checkpoints, "nightly", Batch), name="nightly")
        accepted = await call("nightly", Start(Batch(day=1)))

    A job that was accepted is done, by this process or by the next that leads; when it is done and committed the actor
    takes another. While `run` is under way the next call waits for its end, as calls to actors do. An exception of
    `run`
    is a crash, and the restart goes on from the last saved step: give the child a `backoff`.

    With messages, begin at ``Resume("accepted")``: the job is `self.job` by then.

    Args:
        checkpoints: where the job and its steps are saved.
        durable_name: the name whose lease it works under, and the checkpoint's key.
        job_type: as what a stored job is read back; a type of one of the checkpoints' topics may have versions.
        processes: for `Steps.process`. Give it a place before this child.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        durable_name: str,
        job_type: type[J],
        *,
        processes: WorkerProcesses | None = None,
    ) -> None:
        self._checkpoints: Checkpoints = check_instance("checkpoints", checkpoints, Checkpoints)
        super().__init__(self._checkpoints.engine, durable_name)
        self.processes = processes
        self._job_type = job_type

    @property
    def job(self) -> J:
        """The job that was accepted.

        Raises:
            LookupError: none was.
        """
        job: J = self.checkpoint.load(ACCEPTED, self._job_type)
        return job

    async def accept(self, job: J) -> bool:
        """Store `job`, so that it will be done; False if another one is at hand."""
        if self.checkpoint.saved:
            return False
        await self.checkpoint.save(ACCEPTED, job)
        return True

    async def handle_call(self, request: Any) -> bool:
        """Accept a job: whether it was stored."""
        if not isinstance(request, Start):
            raise TypeError(f"{type(self).__name__} takes Start calls, not {request!r}")
        accepted = await self.accept(cast("Start[J]", request).job)
        if accepted:
            self.send_self(Resume(ACCEPTED))
        return accepted

    async def handle_message(self, message: Any) -> None:
        """`Start` without an answer, and `Resume`."""
        if not isinstance(message, Start):
            if self.checkpoint.saved or not isinstance(message, Resume):  # if not, that was done already
                await super().handle_message(message)
            return
        if self.checkpoint.saved:
            await super().handle_message(Resume(ACCEPTED))
        start = cast("Start[J]", message)
        await self.accept(start.job)
        await super().handle_message(start)

    def committed(self) -> None:
        """The job is done and stored: wait for the next."""

    async def _prepare(self) -> None:
        checkpoint = await self._checkpoints.open(self.durable_name, self.lease)

        async def boundary() -> None:
            if self.intake.closed:
                self.hand_back("a step boundary was reached while draining")
            await trio.lowlevel.checkpoint()

        self.work = Work(
            checkpoint=checkpoint,
            job=None,
            commit=lambda: self._commit(checkpoint),
            boundary=boundary,
            closing=self.intake.end,
        )
        # Not the jobs' way to leave between two messages: this one has an end in its own turn.
        await LeaseHeldActor._prepare(self)

    @asynccontextmanager
    async def _commit(self, checkpoint: Checkpoint) -> AsyncGenerator[Transaction | None]:
        engine = self._checkpoints.engine
        if engine.capabilities.transactions:
            async with engine.transaction() as tx:
                yield tx
                await checkpoint.clear(tx=tx)
        else:
            yield None
            await checkpoint.clear()
