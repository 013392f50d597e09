"""A pod: the program that the deployment runs, here and in a container.

It takes everything from its environment, answers the probes, logs to stdout, and obeys SIGTERM. Its tree::

    rest_for_one
    |-- recorder    writes what happens to the run's event file
    |-- store       the engine: one file, shared by all pods
    |-- cpu         a worker process for the steps that burn the CPU
    |-- totals      P3: the aggregator, a durable inbox; one pod leads, the others stand by
    `-- analysis    P1 + P2: the queue's jobs, each a checkpointed computation fenced by the job's lease
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from checkpoints import Checkpoints, Inbox
from examples.rolling_deploy import unprotected
from examples.rolling_deploy.events import EventWriter
from examples.rolling_deploy.lifeline import hold_on
from examples.rolling_deploy.payloads import RESULT, analyse_topic
from examples.rolling_deploy.recorder import Recorder
from examples.rolling_deploy.traps import Traps
from examples.rolling_deploy.work import Aggregator, Analysis, AnalysisJobs
from otp import RunSettings, Supervisor, WorkerProcesses, child, run
from otp.engines import Engine, engine_for
from queues import Queue

if TYPE_CHECKING:
    from collections.abc import Mapping

QUEUE = "analysis"
INBOX = "totals"


@frozen(kw_only=True)
class PodSettings:
    """What a pod is told. Durations are in seconds."""

    name: str
    version: str
    schema: int
    port: int
    store_url: str
    events_file: Path
    drain: float
    lease: float = 4.0
    concurrency: int = 2
    without: str = field(default="")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> PodSettings:
        """Read the pod's variables. Raises ``ValueError`` naming the variable that is missing or wrong."""

        def read(name: str, kind: type, default: object = None) -> Any:
            text = environ.get(name)
            if text is None:
                if default is None:
                    raise ValueError(f"{name} is not set; the manifest names all variables of a pod")
                return default
            try:
                return kind(text)
            except ValueError as error:
                raise ValueError(f"{name} must be a {kind.__name__}, not {text!r}") from error

        return cls(
            name=read("POD_NAME", str),
            version=read("VERSION", str),
            schema=read("SCHEMA", int),
            port=read("PORT", int),
            store_url=read("STORE_URL", str),
            events_file=read("EVENTS_FILE", Path),
            drain=read("DRAIN_SECONDS", float),
            lease=read("LEASE_SECONDS", float, 4.0),
            concurrency=read("CONCURRENCY", int, 2),
            without=read("WITHOUT", str, ""),
        )


def open_store(url: str, lease: float) -> Engine[Any]:
    """The engine that all processes of a run share."""
    return engine_for(url, lease=lease)


def jobs_queue(store: Engine[Any], schema: int) -> Queue[Any]:
    """The queue of jobs, as the code of ``schema`` knows it."""
    return Queue(store, QUEUE, [analyse_topic(schema)])


def totals_inbox(store: Engine[Any]) -> Inbox[Any]:
    """The aggregator's inbox."""
    return Inbox(store, INBOX, [RESULT])


def pod_tree(settings: PodSettings, events: EventWriter) -> Supervisor:
    """The tree of one pod."""
    traps = Traps(settings.events_file.parent / "traps", settings.name, events)
    recorder = Recorder(events, traps)
    store = open_store(settings.store_url, settings.lease)
    queue = jobs_queue(store, settings.schema)
    totals = totals_inbox(store)
    cpu = WorkerProcesses(1, prewarm=True)
    checkpoints = Checkpoints(store)
    jobs: type[AnalysisJobs] = AnalysisJobs
    aggregator: type[Aggregator] = Aggregator
    if settings.without == "checkpoints":
        checkpoints = unprotected.ForgetfulCheckpoints(store)
    elif settings.without == "ack":
        jobs = unprotected.AckedAtClaim
    elif settings.without == "fencing":
        aggregator = unprotected.UnfencedAggregator
    return Supervisor(
        [
            child(lambda: recorder, id="recorder"),
            child(lambda: store, id="store"),
            child(lambda: cpu, id="cpu"),
            child(lambda: aggregator(totals, store, settings.name, recorder), id="totals"),
            child(
                lambda: jobs(
                    queue,
                    checkpoints,
                    lambda: Analysis(totals, recorder),
                    processes=cpu,
                    concurrency=settings.concurrency,
                    recorder=recorder,
                ),
                id="analysis",
            ),
        ],
        strategy="rest_for_one",
    )


def main() -> None:
    """Run this process as a pod."""
    hold_on()
    try:
        settings = PodSettings.from_env(os.environ)
    except ValueError as error:
        sys.exit(f"pod: {error}")
    with EventWriter(settings.events_file, pod=settings.name) as events:
        app = pod_tree(settings, events)
        run(app, settings=RunSettings(grace=settings.drain, probes=f"0.0.0.0:{settings.port}"))


if __name__ == "__main__":
    main()
