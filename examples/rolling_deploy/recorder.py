"""A pod's witness: turns what the library tells about into the records of the run.

The library's events speak of job ids and child paths; the run's records speak of jobs by their name. Everything is
written before the pod goes on, so that a kill a moment later finds it written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from examples.rolling_deploy.analysis import step_names
from examples.rolling_deploy.events import EventWriter, Json, Kind
from otp import current_context
from patterns import (
    JobDied,
    JobDone,
    JobEvent,
    JobLost,
    JobReleased,
    JobRetried,
    Resumed,
    StepEvent,
    SteppedDown,
    StepSaved,
    StepStarted,
    TookOver,
)

if TYPE_CHECKING:
    from types import TracebackType

    from examples.rolling_deploy.traps import Traps
    from queues import Job

_KINDS = (JobEvent, Resumed, StepEvent, TookOver, SteppedDown)


class Recorder:
    """The first child of the tree, so that it hears everything: an async context manager."""

    def __init__(self, events: EventWriter, traps: Traps) -> None:
        """Write to ``events``; ``traps`` are asked at the points that only show in the library's events."""
        self._events = events
        self._traps = traps
        self._jobs: dict[str, Job[Any]] = {}
        self._names: dict[str, str] = {}
        self._saved_here: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        """Subscribe."""
        self._unsubscribe = current_context().runtime.events.subscribe(self._take, *_KINDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hear no more."""
        self._unsubscribe()

    # -- told by the pod's own code

    def claimed(self, name: str, job: Job[Any]) -> None:
        """A handler has been given ``job``, whose payload calls it ``name``."""
        self._jobs[job.id], self._names[job.id] = job, name
        self._saved_here[job.id] = 0
        self._events.emit(Kind.JOB_CLAIMED, job=name, attempt=job.attempt, epoch=job.lease.token.epoch)
        self._traps.passing("claimed", job=name)

    def set_aside(self, jobs: int) -> None:
        """So many jobs were met that only newer pods can read."""
        self._events.emit(Kind.JOB_SET_ASIDE, jobs=jobs)

    def applied(self, job: str, epoch: int, tokens: int) -> None:
        """The aggregator has counted a job."""
        self._events.emit(Kind.ENTRY_APPLIED, job=job, epoch=epoch, tokens=tokens)

    def passing(self, point: str, job: str) -> None:
        """The pod is at a named point."""
        self._traps.passing(point, job=job)

    # -- told by the library

    def _take(self, event: object) -> None:
        match event:
            case JobDone():
                self._job(Kind.JOB_FINISHED, event)
            case JobReleased():
                self._job(Kind.JOB_RELEASED, event, reason=event.reason)
            case JobRetried():
                self._job(Kind.JOB_FAILED, event, error=event.error)
            case JobDied():
                self._job(Kind.JOB_FAILED, event, error=event.reason)
            case JobLost():
                self._job(Kind.LEASE_LOST, event, reason=event.reason)
            case Resumed():
                self._step(Kind.JOB_RESUMED, event, _after(event.last), saved=event.steps)
            case StepStarted():
                self._step(Kind.STEP_STARTED, event, event.step)
            case StepSaved():
                self._step(Kind.STEP_RUN, event, event.step)
                self._step_saved(_job_id(event))
            case TookOver():
                self._events.emit(Kind.OWNER_ACQUIRED, epoch=event.epoch)
            case SteppedDown():
                self._events.emit(Kind.OWNER_RELEASED, epoch=event.epoch, reason=event.reason)
            case _:
                pass

    def _job(self, kind: Kind, event: JobEvent, **detail: Json) -> None:
        name = self._names.get(event.job, event.job)  # one that no handler was given is known by its id
        self._events.emit(kind, job=name, attempt=event.attempt, epoch=event.epoch, **detail)

    def _step(self, kind: Kind, event: StepEvent | Resumed, step: str, **detail: Json) -> None:
        job = self._jobs[_job_id(event)]
        self._events.emit(kind, job=self._names[job.id], step=step, attempt=job.attempt, epoch=event.epoch, **detail)

    def _step_saved(self, job: str) -> None:
        self._saved_here[job] += 1
        self._traps.passing("step-saved", job=self._names[job])
        if self._saved_here[job] == 2:
            self._traps.passing("step-saved-2", job=self._names[job])


def _job_id(event: StepEvent | Resumed) -> str:
    """The checkpoint's key is the queue's name and the job's id."""
    return event.key.rpartition("/")[2]


def _after(step: str) -> str:
    """The step that comes next."""
    names = step_names()
    return names[min(names.index(step) + 1, len(names) - 1)]
