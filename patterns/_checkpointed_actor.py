"""P2, the checkpointed actor: save after each step; after a restart the actor sends itself a message and goes on.

The actor computes and may crash at any time; what it has finished is in the checkpoint. Two faces, the second built on
the first:

* **messages**: `init` looks at the checkpoint and, if something is in it, sends the actor itself the message that goes
  on from it; `handle_message` does a step, saves it, and sends the next;
* **run**: write ``async def run(self, job, steps)`` as ordinary code with named steps. The `init` and `handle_message`
  of this class do the rest, by just those messages: `Start` and `Resume`.

Where the work comes from decides whose lease fences the checkpoint, and there is exactly one for each unit of work: a
queue's jobs (`CheckpointedJobs`, the job's lease), or a durable name (`NamedCheckpointedActor`, the name's lease).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs
import trio

from checkpoints import Checkpoint
from otp import Actor, Call, NotAlive
from otp.engines import Transaction

from ._events import Resumed
from ._steps import Steps
from ._tell import tell

if TYPE_CHECKING:
    from otp import WorkerProcesses

J = TypeVar("J")
R = TypeVar("R")


@attrs.frozen
class Start(Call[bool], Generic[J]):
    """Begin with this job.

    As a *call* to a named actor it is answered True when the job is stored: from then on it will be done. False: the
    actor has another job at hand, and nothing was stored.
    """

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
    closing: trio.Event
    """Set when it is to go on elsewhere."""


class CheckpointedActor(Actor, Generic[J, R]):
    """An actor whose progress survives it. Subclass it and write either `run`, or `handle_message` (and `init`).

    ::

        class Analysis(CheckpointedActor[Package, Report]):
            async def run(self, job: Package, steps: Steps) -> Report:
                text = await steps("read", read, job.path)          # on resume the saved result; nothing runs again
                return await steps.process("measure", measure, text)   # CPU work in a worker process

    It is not started as it is: `CheckpointedJobs` makes one for each job of a queue; `NamedCheckpointedActor`, its
    subclass, is a child of its own with a durable name.

    With messages, `handle_message` gets `Start` when nothing was saved, and `Resume` otherwise. It does one step, saves
    it (``await self.checkpoint.save("parsed", tree)``) and sends itself the next
    (``self.send_self(Resume("parsed"))``). After the last it stores the effect in ``async with self.commit() as tx:``
    and calls ``self.committed()``. Between two messages is a boundary, at which a draining service takes the
    computation back.

    Attributes:
        work: what it works on; set before `init`.
        processes: the worker processes for `Steps.process`, if there are any.
    """

    work: Work[J]
    processes: WorkerProcesses | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The steps saved so far, and where to save the next; from `init` on."""
        return self.work.checkpoint

    @property
    def job(self) -> J:
        """The job at hand; from `init` on.

        Raises:
            LookupError: there is none (which cannot be for a queue's job).
        """
        if self.work.job is None:
            raise LookupError(f"{self.context.path} has no job at hand")
        return self.work.job

    async def init(self) -> None:
        """Send this actor itself the message that goes on from the checkpoint, or begins with the job at hand."""
        saved = self.checkpoint.latest()
        if saved is not None:
            tell(
                self.context,
                Resumed,
                key=self.checkpoint.key,
                epoch=self.checkpoint.lease.token.epoch,
                steps=len(self.checkpoint.saved),
                last=saved.step,
            )
            self.send_self(Resume(saved.step, saved.occurrence))
        elif self.work.job is not None:
            self.send_self(Start(self.work.job))

    async def handle_message(self, message: object) -> None:
        """Compute: `Start` and `Resume` differ in nothing but what the checkpoint holds by then."""
        if not isinstance(message, Start | Resume):
            raise TypeError(f"{type(self).__name__} takes Start and Resume messages, not {message!r}")
        await self.compute(self.job)

    async def compute(self, job: J) -> None:
        """Run the steps that are left, then commit the result and end the work."""
        steps = Steps(self.checkpoint, self.context, boundary=self.work.boundary, processes=self.processes)
        result = await self.run(job, steps)
        async with self.commit() as tx:
            await self.finish(job, result, tx)
        self.committed()

    def commit(self) -> AbstractAsyncContextManager[Transaction | None]:
        """``async with self.commit() as tx:`` - end the work, and store its effect.

        What is stored through `tx` happens exactly once: with it the job is acknowledged and the checkpoint deleted.
        `tx` is None where queue and checkpoints do not share a database with transactions. Then that is done after the
        block, the effect may happen again after a crash, and it needs the job's id as a dedup id.

        Raises:
            LeaseLost: somebody else has this work by now; nothing was stored.
            StoreError: nothing was stored, unless `tx` is None.
        """
        return self.work.commit()

    def committed(self) -> None:
        """The work is done and stored: end."""
        self.stop()

    async def run(self, job: J, steps: Steps) -> R:
        """Compute the result of `job` in named steps.

        Called again after an interruption; then the saved steps do not run again.
        """
        raise NotImplementedError(f"{type(self).__name__} must define run(job, steps), or handle_message")

    async def finish(self, job: J, result: R, tx: Transaction | None) -> None:
        """Store the result: what `run` ends with, in the block of `commit`. Does nothing by default."""

    async def _prepare(self) -> None:
        await super()._prepare()
        self.nursery.start_soon(self._leave_between_messages)

    async def _leave_between_messages(self) -> None:
        """When the intake closes: what is in no step is at a boundary."""
        await self.work.closing.wait()
        try:
            await self.in_turn(self.work.boundary)
        except NotAlive:
            pass  # it is ending already
