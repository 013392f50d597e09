"""What a pod does: the three patterns, as a user of the library would write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from examples.rolling_deploy.analysis import (
    Comparison,
    compare,
    compare_step,
    parse,
    read,
    summarise,
    tokenize,
)
from examples.rolling_deploy.payloads import AnyAnalyse, JobResult
from examples.rolling_deploy.totals import add_to_totals, create_tables, read_totals
from patterns import CheckpointedActor, CheckpointedJobs, DurableInbox
from queues import Job, Queue

if TYPE_CHECKING:
    from checkpoints import Entry, Inbox
    from examples.rolling_deploy.recorder import Recorder
    from otp.engines import Engine, Transaction
    from patterns import Steps


class Analysis(CheckpointedActor[AnyAnalyse, JobResult]):
    """P2: one job, in steps. What is saved is never repeated, whichever pod goes on with it."""

    def __init__(self, totals: Inbox[JobResult], recorder: Recorder) -> None:
        """Post the result to ``totals``."""
        self._totals = totals
        self._recorder = recorder

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
        self._recorder.passing("before-finish", job.job)
        return JobResult(job.job, figures)

    async def finish(self, job: AnyAnalyse, result: JobResult, tx: Transaction | None) -> None:
        """Post the result in the transaction that acknowledges the job."""
        await self._totals.post(result, id=job.job, tx=tx)


class AnalysisQueue(Queue[AnyAnalyse]):
    """The queue of jobs; tells the recorder when it met some that only newer pods can read."""

    def __init__(self, *args: Any, recorder: Recorder, **options: Any) -> None:
        """As for `Queue`, and the recorder."""
        super().__init__(*args, **options)
        self._recorder = recorder

    async def claim(self, limit: int = 1, *, start: bool = True) -> list[Job[AnyAnalyse]]:
        """Claim, and say what had to be left."""
        before = self.counts.set_aside
        jobs = await super().claim(limit, start=start)
        if self.counts.set_aside > before:
            self._recorder.set_aside(self.counts.set_aside - before)
        return jobs


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
    """P3: adds up the results, one after the other."""

    def __init__(self, inbox: Inbox[JobResult], store: Engine[Any], pod: str, recorder: Recorder) -> None:
        """Keep the totals in ``store``, the inbox's own database."""
        super().__init__(inbox)
        self.store = store
        self.pod = pod
        self._recorder = recorder

    async def init(self) -> None:
        """Whoever leads begins with the totals as they were committed."""
        await create_tables(self.store)
        self._totals = await read_totals(self.store)

    async def handle_entry(self, entry: Entry[JobResult]) -> None:
        """Count one result."""
        self._recorder.passing("read-before-commit", entry.payload.job)
        await self.count(entry)
        self._totals += entry.payload.figures
        self._recorder.applied(entry.payload.job, self.epoch, self._totals.tokens)

    async def count(self, entry: Entry[JobResult]) -> None:
        """Store it: the fence, the processed mark and the totals are one transaction."""
        async with entry.commit() as tx:
            await self.add(tx, entry.payload)

    async def add(self, tx: Transaction, result: JobResult) -> None:
        """Add the figures."""
        await add_to_totals(tx, result.figures, job=result.job, pod=self.pod, epoch=self.epoch)
