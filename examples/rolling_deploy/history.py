"""The history of a run, put together from its events: the containers' lives, and the leases on each job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from examples.rolling_deploy.events import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["GAVE_BACK", "Container", "Containers", "Lease", "leases_of"]

GAVE_BACK = 75
"""The exit code of a pod that gave jobs back at its drain deadline: in order."""

_REAL_FAULTS = frozenset({"kill", "pause"})


@define
class Container:
    """One container of a pod, from its start to the next one's."""

    started: float
    ready: bool = False
    sigterm: float | None = None
    ended: float | None = None
    code: int | None = None
    after_grace: bool = False
    liveness_failed: bool = False
    faults: list[str] = field(factory=list[str])

    @property
    def disturbed(self) -> bool:
        """Whether anything happened to it that was no deploy."""
        return self.liveness_failed or bool(self.faults)


@define
class Lease:
    """One claim of a job."""

    job: str
    epoch: int
    attempt: int
    pod: str
    claimed: float
    container: Container | None
    released: bool = False
    lost: bool = False
    step_under_way: bool = False
    """At its end, as far as it was written down."""

    @property
    def cut(self) -> bool:
        """Whether it was ended in the midst of a step, with a reason: at a step boundary nothing needs repeating."""
        disturbed = self.container is not None and self.container.disturbed
        # The last resort of a pod that is late gives leases back without a word, but with that exit code.
        given_back = self.released or (self.container is not None and self.container.code == GAVE_BACK)
        return disturbed or self.lost or (given_back and self.step_under_way)

    def take(self, kind: Kind) -> None:
        """Something happened to the job in this lease."""
        if kind in (Kind.STEP_STARTED, Kind.STEP_RUN):
            self.step_under_way = kind is Kind.STEP_STARTED
        self.released |= kind is Kind.JOB_RELEASED
        self.lost |= kind is Kind.LEASE_LOST


class Containers:
    """Who lived when. A pod's container is started again in place, so its name alone tells too little."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.by_pod: dict[str, list[Container]] = {}
        for event in events:
            self._take(event)

    def __iter__(self) -> Iterator[tuple[str, Container]]:
        return ((pod, each) for pod, containers in self.by_pod.items() for each in containers)

    def exit_codes(self) -> dict[str, list[int]]:
        """Of each pod's containers, in order."""
        return {pod: [each.code for each in lives if each.code is not None] for pod, lives in self.by_pod.items()}

    def of(self, event: Event) -> Container | None:
        """The container of the event's pod at the event's time."""
        fitting = [each for each in self.by_pod.get(event.pod, []) if each.started <= event.mono]
        return fitting[-1] if fitting else None

    def _take(self, event: Event) -> None:
        if event.kind is Kind.POD_STARTED:
            self.by_pod.setdefault(event.pod, []).append(Container(event.mono))
            return
        container = self.of(event)
        if container is None:
            return
        if event.kind is Kind.POD_READY:
            container.ready = True
        elif event.kind is Kind.SIGTERM:
            container.sigterm = event.mono
        elif event.kind is Kind.GRACE_EXPIRED:
            container.after_grace = True
        elif event.kind is Kind.LIVENESS_FAILED:
            container.liveness_failed = True
        elif event.kind is Kind.POD_EXIT:
            container.ended, container.code = event.mono, int(event.detail.get("code", 0))
        elif event.kind is Kind.FAULT and event.detail.get("kind") in _REAL_FAULTS:
            container.faults.append(str(event.detail["kind"]))


def leases_of(events: Sequence[Event], containers: Containers) -> dict[str, list[Lease]]:
    """Each job's claims, by epoch."""
    leases: dict[str, list[Lease]] = {}
    for event in events:
        if event.kind is Kind.JOB_CLAIMED:
            leases.setdefault(event.job, []).append(
                Lease(event.job, event.epoch, event.attempt, event.pod, event.mono, containers.of(event))
            )
    for claims in leases.values():
        claims.sort(key=lambda lease: lease.epoch)
    for event in events:
        for lease in leases.get(event.job, []):
            if lease.epoch == event.epoch:
                lease.take(event.kind)
    return leases
