"""What a pod consists of.

::

    rest_for_one
    |-- recorder    writes what happens to the run's event file
    |-- store       the engine: one file, shared by all pods
    |-- cpu         a worker process for the steps that burn the CPU
    |-- totals      P3: the aggregator, a durable inbox; one pod leads, the others stand by
    `-- analysis    P1 + P2: the queue's jobs, each a checkpointed computation fenced by the job's lease
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoints import Checkpoints
from examples.rolling_deploy import unprotected
from examples.rolling_deploy.analysis import step_aside
from examples.rolling_deploy.payloads import analyse_topic
from examples.rolling_deploy.recorder import Recorder
from examples.rolling_deploy.store import QUEUE, open_store, totals_inbox
from examples.rolling_deploy.traps import Traps
from examples.rolling_deploy.work import Aggregator, Analysis, AnalysisJobs, AnalysisQueue
from otp import Supervisor, WorkerProcesses, child

if TYPE_CHECKING:
    from examples.rolling_deploy.events import EventWriter
    from examples.rolling_deploy.pod import PodSettings


def pod_tree(settings: PodSettings, events: EventWriter) -> Supervisor:
    """The tree of one pod, which writes to ``events``."""
    recorder = Recorder(events, Traps(settings.events_file.parent / "traps", settings.name, events))
    store = open_store(settings.store_url, settings.lease)
    cpu = WorkerProcesses(1, prewarm=True, init=step_aside)
    queue = AnalysisQueue(store, QUEUE, [analyse_topic(settings.schema)], recorder=recorder)
    totals = totals_inbox(store)
    checkpoints = Checkpoints(store)
    jobs: type[AnalysisJobs] = AnalysisJobs
    aggregator: type[Aggregator] = Aggregator
    match settings.without:
        case "checkpoints":
            checkpoints = unprotected.ForgetfulCheckpoints(store)
        case "ack":
            jobs = unprotected.AckedAtClaim
        case "fencing":
            aggregator = unprotected.UnfencedAggregator
        case _:
            pass

    def make_jobs() -> AnalysisJobs:
        return jobs(
            queue,
            checkpoints,
            lambda: Analysis(totals, recorder),
            processes=cpu,
            concurrency=settings.concurrency,
            recorder=recorder,
        )

    return Supervisor(
        [
            child(lambda: recorder, id="recorder"),
            child(lambda: store, id="store"),
            child(lambda: cpu, id="cpu"),
            child(lambda: aggregator(totals, store, settings.name, recorder), id="totals"),
            child(make_jobs, id="analysis"),
        ],
        strategy="rest_for_one",
    )
