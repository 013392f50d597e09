"""What the patterns tell whoever listens: one frozen value per thing that happened.

They travel on the runtime's event bus beside the lifecycle events of `otp`, and each is also a line of the log (`str`
of it, at its
`level`). Each names the child (`path`) that lived it. Times are not repeated here: the subscriber stamps what it
receives.
"""

from __future__ import annotations

import logging
from typing import ClassVar

import attrs


@attrs.frozen(kw_only=True)
class PatternEvent:
    """Base of them all."""

    level: ClassVar[int] = logging.INFO
    """At which level it is logged."""
    path: str
    """Of the child in the tree, as in ``"app/resize"``."""


# -- one claimed job


@attrs.frozen(kw_only=True)
class JobEvent(PatternEvent):
    """Base of what happens to one claimed job."""

    queue: str
    job: str
    """The job's id."""
    topic: str
    attempt: int
    """1 for the first attempt; the one this event belongs to."""
    epoch: int

    @property
    def _which(self) -> str:
        return f"job {self.job} ({self.topic}, attempt {self.attempt})"


@attrs.frozen(kw_only=True)
class JobStarted(JobEvent):
    """The handler is about to be called."""

    level = logging.DEBUG
    releases: int
    """How often this job was given back before without an attempt being counted."""

    def __str__(self) -> str:
        return f"{self._which} started"


@attrs.frozen(kw_only=True)
class JobDone(JobEvent):
    """Acknowledged: the work and its acknowledgement are stored."""

    level = logging.DEBUG
    seconds: float

    def __str__(self) -> str:
        return f"{self._which} done in {self.seconds:.3g} s"


@attrs.frozen(kw_only=True)
class JobRetried(JobEvent):
    """The attempt failed and the job will be tried again."""

    level = logging.WARNING
    delay: float
    """Seconds until then."""
    error: str

    def __str__(self) -> str:
        return f"{self._which} failed, to be tried again in {self.delay:.3g} s: {self.error}"


@attrs.frozen(kw_only=True)
class JobDied(JobEvent):
    """The job is among the dead letters."""

    level = logging.ERROR
    reason: str

    def __str__(self) -> str:
        return f"{self._which} went to the dead letters: {self.reason}"


@attrs.frozen(kw_only=True)
class JobReleased(JobEvent):
    """Given back, uncounted; it keeps its place."""

    reason: str

    def __str__(self) -> str:
        return f"{self._which} given back: {self.reason}"


@attrs.frozen(kw_only=True)
class JobLost(JobEvent):
    """The lease was lost: the handler was cancelled and nothing was written."""

    level = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return f"{self._which} lost: {self.reason}"


@attrs.frozen(kw_only=True)
class OftenReleased(JobEvent):
    """This job is given back again and again: it takes longer than the time between deploys. Give it checkpoints."""

    level = logging.WARNING
    releases: int

    def __str__(self) -> str:
        return f"{self._which} was given back {self.releases} times: does it take longer than the time between deploys?"


@attrs.frozen(kw_only=True)
class HandlerStuck(JobEvent):
    """The handler did not obey its cancellation; its job was given back over its head."""

    level = logging.ERROR
    handler: str

    def __str__(self) -> str:
        return f"{self.handler} does not obey its cancellation; {self._which} is given back all the same"


# -- one leased name


@attrs.frozen(kw_only=True)
class LeaseEvent(PatternEvent):
    """Base of what happens to a lease-held child."""

    name: str
    """The durable name."""


@attrs.frozen(kw_only=True)
class StandingBy(LeaseEvent):
    """A lease-held child waits for its lease, which another process holds."""

    def __str__(self) -> str:
        return f"standing by for {self.name!r}"


@attrs.frozen(kw_only=True)
class TookOver(LeaseEvent):
    """A lease-held child got its lease and goes to work."""

    epoch: int

    def __str__(self) -> str:
        return f"took over {self.name!r}, epoch {self.epoch}"


@attrs.frozen(kw_only=True)
class SteppedDown(LeaseEvent):
    """A lease-held child no longer holds its lease: given back, or lost."""

    epoch: int
    reason: str

    def __str__(self) -> str:
        return f"stepped down from {self.name!r}, epoch {self.epoch}: {self.reason}"


# -- the store


@attrs.frozen(kw_only=True)
class StoreOutage(PatternEvent):
    """The store cannot be reached; the child waits and tries again, readiness is off meanwhile."""

    level = logging.WARNING
    error: str
    retry_in: float
    """Seconds until the next try."""

    def __str__(self) -> str:
        return f"the store is away, next try in {self.retry_in:.1f} s: {self.error}"


# -- one step of a checkpointed computation


@attrs.frozen(kw_only=True)
class StepEvent(PatternEvent):
    """Base of what happens to one step of a checkpointed computation."""

    level = logging.DEBUG
    key: str
    """The checkpoint's key."""
    step: str
    occurrence: int
    """0 for the first step of this name, 1 for the second..."""
    epoch: int

    @property
    def _which(self) -> str:
        return f"step {self.step!r}{f' ({self.occurrence})' if self.occurrence else ''} of {self.key!r}"


@attrs.frozen(kw_only=True)
class StepStarted(StepEvent):
    """The step's function is about to run."""

    def __str__(self) -> str:
        return f"{self._which} started"


@attrs.frozen(kw_only=True)
class StepSaved(StepEvent):
    """The step's result is stored: it will not run again."""

    seconds: float

    def __str__(self) -> str:
        return f"{self._which} saved after {self.seconds:.3g} s"


@attrs.frozen(kw_only=True)
class Resumed(PatternEvent):
    """A computation goes on from its checkpoint instead of from the start."""

    key: str
    """The checkpoint's key."""
    epoch: int
    steps: int
    """How many saved steps were found."""
    last: str
    """The name of the last of them."""

    def __str__(self) -> str:
        return f"{self.key!r} goes on after step {self.last!r}, the last of {self.steps}"


# -- one inbox entry


@attrs.frozen(kw_only=True)
class EntryEvent(PatternEvent):
    """Base of what happens to one inbox entry."""

    inbox: str
    seq: int
    attempt: int
    epoch: int

    @property
    def _which(self) -> str:
        return f"entry {self.seq} of {self.inbox!r} (attempt {self.attempt})"


@attrs.frozen(kw_only=True)
class EntryApplied(EntryEvent):
    """Handled and marked: it will not be handed out again."""

    level = logging.DEBUG

    def __str__(self) -> str:
        return f"{self._which} applied"


@attrs.frozen(kw_only=True)
class EntryFailed(EntryEvent):
    """The handler raised; the policy says what follows."""

    level = logging.WARNING
    error: str
    decision: str
    """``"retry"``, ``"dead"`` or ``"stop"``."""

    def __str__(self) -> str:
        return f"{self._which} failed, so {self.decision}: {self.error}"
