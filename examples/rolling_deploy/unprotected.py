"""The demo's own wrappers that switch one protection off each, to show what it protects from.

The library has no such switches. Each of these does by hand what a program without that protection would do.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from checkpoints import Checkpoint, Checkpoints
from examples.rolling_deploy.work import Aggregator, AnalysisJobs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from checkpoints import Entry
    from examples.rolling_deploy.payloads import AnyAnalyse, JobResult
    from otp.engines import Lease, Transaction
    from queues import Job

PROTECTIONS = {
    "checkpoints": ("step-saved-2", "kill"),
    "ack": ("in-handler", "kill"),
    "fencing": ("read-before-commit", "pause"),
}
"""Each protection, and the fault at a named point that makes the damage of its absence certain."""


class ForgetfulCheckpoints(Checkpoints):
    """Without checkpoints: whoever opens one begins from the start."""

    async def open(self, key: str, lease: Lease) -> Checkpoint:
        """Open the checkpoint, and throw away what is in it."""
        checkpoint = await super().open(key, lease)
        await checkpoint.clear()
        return checkpoint


class AckedAtClaim(AnalysisJobs):
    """Without ack after the work: the job is acknowledged when it is claimed, as a plain ``pop`` does."""

    async def handle_job(self, job: Job[AnyAnalyse]) -> None:
        """Acknowledge, then work."""
        await self.acknowledge(job)
        await super().handle_job(job)

    @asynccontextmanager
    async def commit(self, job: Job[AnyAnalyse]) -> AsyncGenerator[Transaction]:  # noqa: ARG002 - it is gone
        """The result alone: the job is gone from the queue already."""
        async with self.queue.engine.transaction() as tx:
            yield tx


class UnfencedAggregator(Aggregator):
    """Without fencing: adds to the totals whoever leads by now, and whether or not the entry is still there."""

    async def count(self, entry: Entry[JobResult]) -> None:
        """Write without comparing owner, epoch or mark; and without hearing, meanwhile, that the lease is lost."""
        with trio.CancelScope(shield=True):
            async with self.store.transaction() as tx:
                await self.add(tx, entry.payload)
