"""What a pod does: the three patterns, as a user of the library would write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from examples.rolling_deploy.analysis import (
    Comparison,
    Figures,
    compare,
    compare_step,
    parse,
    read,
    summarise,
    tokenize,
)
from examples.rolling_deploy.payloads import AnyAnalyse, JobResult
from examples.rolling_deploy.totals import create_tables, read_totals, write_totals
from patterns import CheckpointedActor, CheckpointedJobs, DurableInbox

if TYPE_CHECKING:
    from checkpoints import Entry, Inbox
    from examples.rolling_deploy.recorder import Recorder
    from examples.rolling_deploy.traps import Traps
    from otp.engines import Engine, Transaction
    from patterns import Steps
    from queues import Job


class Analysis(CheckpointedActor[AnyAnalyse, JobResult]):
    """P2: one job, in steps. What is saved is never repeated, whichever pod goes on with it."""

    def __init__(self, totals: Inbox[JobResult]) -> None:
        """Post the result to ``totals``."""
        self._totals = totals

    async def run(self, job: AnyAnalyse, steps: Steps) -> JobResult:
        """Analyse the job's modules; everything that burns the CPU is in a worker process."""
        modules = job.group().modules
        sources = await steps.process("read", read, modules)
        tokens = await steps.process("tokenize", tokenize, modules)
        syntax = await steps.process("parse", parse, modules)
        comparisons: list[Comparison] = []
        for part in range(job.slices):
            step = compare_step(part)
            comparisons.append(await steps.process(step, compare, modules, part, job.slices, job.work_factor))
        figures = await steps.process("summarise", summarise, modules, sources, tokens, syntax, comparisons)
        return JobResult(job.job, figures)

    async def finish(self, job: AnyAnalyse, result: JobResult, tx: Transaction | None) -> None:
        """Post the result in the transaction that acknowledges the job."""
        await self._totals.post(result, id=job.job, tx=tx)


class AnalysisJobs(CheckpointedJobs[AnyAnalyse]):
    """P1: the queue's jobs, each by an `Analysis`; tells the recorder their names."""

    def __init__(self, *args: Any, recorder: Recorder, **options: Any) -> None:
        """As for `CheckpointedJobs`, and the recorder."""
        super().__init__(*args, **options)
        self.recorder = recorder

    async def handle_job(self, job: Job[AnyAnalyse]) -> None:
        """Say which job it is, and compute it."""
        self.recorder.claimed(job.payload.job, job)
        self.recorder.passing("in-handler", job.payload.job)
        await super().handle_job(job)


class Aggregator(DurableInbox[JobResult]):
    """P3: adds up the results, one after the other. It keeps the totals in memory; what lasts is in the store."""

    def __init__(self, inbox: Inbox[JobResult], store: Engine[Any], pod: str, traps: Traps) -> None:
        """Keep the totals in ``store``, the inbox's own database."""
        super().__init__(inbox)
        self._store = store
        self._pod = pod
        self._traps = traps

    async def init(self) -> None:
        """Whoever leads begins with the totals as they were committed."""
        await create_tables(self._store)
        self._totals = await read_totals(self._store)

    async def handle_entry(self, entry: Entry[JobResult]) -> None:
        """Count one result: fence, mark and totals are one transaction."""
        job = entry.payload.job
        totals = self._totals + entry.payload.figures
        self._traps.passing("read-before-commit", job=job)
        await self.commit(entry, totals)
        self._totals = totals

    async def commit(self, entry: Entry[JobResult], totals: Figures) -> None:
        """Store the new totals, and mark the entry."""
        async with entry.commit() as tx:
            await write_totals(tx, totals, job=entry.payload.job, pod=self._pod, epoch=self.epoch)
