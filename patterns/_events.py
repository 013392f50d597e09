"""What the patterns tell whoever listens: one frozen value per thing that happened.

They travel on the runtime's event bus beside the lifecycle events of `otp`, and cost nothing while nobody listens. Each names the
child (``path``) that lived it. Times are not repeated here: the subscriber stamps what it receives.
"""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class JobEvent:
    """Base of what happens to one claimed job."""

    path: str
    queue: str
    job: str
    topic: str
    attempt: int
    """1 for the first attempt; the one this event belongs to."""
    epoch: int


@attrs.frozen(kw_only=True)
class JobStarted(JobEvent):
    """The handler is about to be called."""

    releases: int
    """How often this job was given back before without an attempt being counted."""


@attrs.frozen(kw_only=True)
class JobDone(JobEvent):
    """Acknowledged: the work and its acknowledgement are stored."""

    seconds: float


@attrs.frozen(kw_only=True)
class JobRetried(JobEvent):
    """The attempt failed and the job will be tried again."""

    delay: float
    error: str


@attrs.frozen(kw_only=True)
class JobDied(JobEvent):
    """The job is among the dead letters."""

    reason: str


@attrs.frozen(kw_only=True)
class JobReleased(JobEvent):
    """Given back, uncounted; it keeps its place."""

    reason: str


@attrs.frozen(kw_only=True)
class JobLost(JobEvent):
    """The lease was lost: the handler was cancelled and nothing was written."""

    reason: str


@attrs.frozen(kw_only=True)
class OftenReleased(JobEvent):
    """This job is given back again and again: it takes longer than the time between deploys. Give it checkpoints."""

    releases: int


@attrs.frozen(kw_only=True)
class HandlerStuck(JobEvent):
    """The handler did not obey its cancellation; its job was given back over its head."""

    handler: str


@attrs.frozen(kw_only=True)
class StandingBy:
    """A lease-held child waits for its lease, which another process holds."""

    path: str
    name: str


@attrs.frozen(kw_only=True)
class TookOver:
    """A lease-held child got its lease and goes to work."""

    path: str
    name: str
    epoch: int


@attrs.frozen(kw_only=True)
class SteppedDown:
    """A lease-held child no longer holds its lease: given back, or lost."""

    path: str
    name: str
    epoch: int
    reason: str


@attrs.frozen(kw_only=True)
class StoreOutage:
    """The store cannot be reached; the child waits and tries again, readiness is off meanwhile."""

    path: str
    error: str
    retry_in: float


@attrs.frozen(kw_only=True)
class StepEvent:
    """Base of what happens to one step of a checkpointed computation."""

    path: str
    key: str
    """The checkpoint's key."""
    step: str
    occurrence: int
    """0 for the first step of this name, 1 for the second..."""
    epoch: int


@attrs.frozen(kw_only=True)
class StepStarted(StepEvent):
    """The step's function is about to run."""


@attrs.frozen(kw_only=True)
class StepSaved(StepEvent):
    """The step's result is stored: it will not run again."""

    seconds: float


@attrs.frozen(kw_only=True)
class Resumed:
    """A computation goes on from its checkpoint instead of from the start."""

    path: str
    key: str
    epoch: int
    steps: int
    """How many finished steps were found."""
    last: str
    """The name of the last of them."""


@attrs.frozen(kw_only=True)
class EntryEvent:
    """Base of what happens to one inbox entry."""

    path: str
    inbox: str
    seq: int
    attempt: int
    epoch: int


@attrs.frozen(kw_only=True)
class EntryApplied(EntryEvent):
    """Handled and marked: it will not be handed out again."""


@attrs.frozen(kw_only=True)
class EntryFailed(EntryEvent):
    """The handler raised; the policy says what follows."""

    error: str
    decision: str
    """``"retry"``, ``"dead"`` or ``"stop"``."""
