"""A pod's witness: turns what the library tells about into the records of the run.

The library's events speak of job ids and child paths; the run's records speak of jobs by their name. Everything is written before the
pod goes on, so that a kill a moment later finds it written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from examples.rolling_deploy.analysis import step_names
from examples.rolling_deploy.events import EventWriter, Kind
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
        self._jobs: dict[str, Job[object]] = {}
        self._names: dict[str, str] = {}
        self._saved_here: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        """Subscribe."""
        self._unsubscribe = current_context().runtime.events.subscribe(self._take, *_KINDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hear no more."""
        self._unsubscribe()

    def claimed(self, name: str, job: Job[object]) -> None:
        """A handler has been given ``job``, whose payload calls it ``name``."""
        self._jobs[job.id], self._names[job.id] = job, name
        self._saved_here[job.id] = 0
        self._events.emit(Kind.JOB_CLAIMED, job=name, attempt=job.attempt, epoch=job.lease.token.epoch)
        self._traps.passing("claimed", job=name)

    def applied(self, job: str, epoch: int, tokens: int) -> None:
        """The aggregator has counted a job."""
        self._events.emit(Kind.ENTRY_APPLIED, job=job, epoch=epoch, tokens=tokens)

    def passing(self, point: str, job: str) -> None:
        """The pod is at a named point."""
        self._traps.passing(point, job=job)

    def _take(self, event: object) -> None:
        emit = self._events.emit
        match event:
            case JobEvent():
                name = self._names.get(event.job, event.job)
                about = dict(job=name, attempt=event.attempt, epoch=event.epoch)
                match event:
                    case JobDone():
                        emit(Kind.JOB_FINISHED, **about)
                    case JobReleased():
                        emit(Kind.JOB_RELEASED, **about, reason=event.reason)
                    case JobRetried():
                        emit(Kind.JOB_FAILED, **about, error=event.error)
                    case JobDied():
                        emit(Kind.JOB_FAILED, **about, error=event.reason)
                    case JobLost():
                        emit(Kind.LEASE_LOST, **about, reason=event.reason)
            case Resumed():
                emit(Kind.JOB_RESUMED, step=_after(event.last), **self._step(event.key, event.epoch), saved=event.steps)
            case StepStarted():
                emit(Kind.STEP_STARTED, step=event.step, **self._step(event.key, event.epoch))
            case StepSaved():
                about = self._step(event.key, event.epoch)
                emit(Kind.STEP_RUN, step=event.step, **about)
                self._trap_saved(event.key, str(about["job"]))
            case TookOver():
                emit(Kind.OWNER_ACQUIRED, epoch=event.epoch)
            case SteppedDown():
                emit(Kind.OWNER_RELEASED, epoch=event.epoch, reason=event.reason)

    def _step(self, key: str, epoch: int) -> dict[str, object]:
        job = self._jobs[key.rpartition("/")[2]]
        return dict(job=self._names[job.id], attempt=job.attempt, epoch=epoch)

    def _trap_saved(self, key: str, name: str) -> None:
        job = key.rpartition("/")[2]
        self._saved_here[job] += 1
        self._traps.passing("step-saved", job=name)
        if self._saved_here[job] == 2:
            self._traps.passing("step-saved-2", job=name)


def _after(step: str) -> str:
    """The step that comes next."""
    names = step_names()
    return names[min(names.index(step) + 1, len(names) - 1)]
