"""The audit: from what was written down during a run, it is judged whether the promise was kept.

Everything here is pure: the same records give the same report. The audit believes the store about what was
counted (totals, effects, dead letters), the events about what was done, and the controller about how
processes ended; where two of them speak of one thing, the worse is taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from attrs import frozen

from examples.rolling_deploy.events import Event, Kind
from examples.rolling_deploy.history import GAVE_BACK, Containers, Lease, leases_of
from examples.rolling_deploy.report import Report, count, some

__all__ = ["Expectation", "audit"]


@frozen
class Expectation:
    """What a run must show, beyond what every run must: at least ``jobs_resumed`` jobs that went on."""

    jobs_resumed: int = 3


def _burnt(leases: Mapping[str, Sequence[Lease]], dead: frozenset[str]) -> int:
    """How many attempts were charged although nothing but a SIGTERM had happened."""
    burnt = 0
    for job, claims in leases.items():
        charged = [one for one, later in pairwise(claims) if later.attempt > one.attempt]
        if job in dead and claims:
            charged.append(claims[-1])
        for lease in charged:
            container = lease.container
            burnt += container is not None and container.sigterm is not None and not container.disturbed
    return burnt


@frozen
class _Steps:
    run: int
    repeated: int
    redone: int
    problems: list[str]
    """In words, which repetitions nothing excuses."""


def _steps(events: Sequence[Event], leases: Mapping[str, Sequence[Lease]]) -> _Steps:
    started: Counter[tuple[str, str]] = Counter()
    saved: Counter[tuple[str, str]] = Counter()
    for event in events:
        if event.kind is Kind.STEP_STARTED:
            started[event.job, event.step] += 1
        elif event.kind is Kind.STEP_RUN:
            saved[event.job, event.step] += 1
    redone = sum(times - 1 for times in saved.values())
    repeated_by_job: Counter[str] = Counter()
    for key in started.keys() | saved.keys():
        # A step that was saved has also been started, even if that was not written down.
        repeated_by_job[key[0]] += max(started[key], saved[key]) - 1
    problems: list[str] = []
    if redone:
        problems.append(f"{count(redone, 'step')} ran again although the result had been saved")
    for job, repeated in sorted(repeated_by_job.items()):
        # A lease can be cut in the midst of one step at most: by a fault, or at the drain deadline.
        cuts = sum(lease.cut for lease in leases.get(job, [])[:-1])
        if repeated > cuts:
            steps, times = count(repeated, "step"), count(cuts, "time")
            problems.append(f"{job} repeated {steps}, but was interrupted {times}")
    return _Steps(sum(saved.values()), sum(repeated_by_job.values()), redone, problems)


def _resumed(events: Sequence[Event]) -> int:
    """Jobs that found a checkpoint and then ran a step that had not been saved before."""
    saved: dict[str, dict[str, int]] = {}
    found: dict[str, int] = {}
    went_on: set[str] = set()
    for event in events:
        if event.kind is Kind.JOB_RESUMED:
            found[event.job] = event.epoch
        elif event.kind is Kind.STEP_RUN:
            earlier = saved.setdefault(event.job, {})
            resumed_at = found.get(event.job)
            if (
                resumed_at is not None
                and event.epoch >= resumed_at
                and event.step not in earlier
                and any(epoch < resumed_at for epoch in earlier.values())
            ):
                went_on.add(event.job)
            earlier.setdefault(event.step, event.epoch)
    return len(went_on)


def _handovers(events: Sequence[Event]) -> tuple[list[int], list[int]]:
    """Milliseconds from release to next claim: of jobs, and of the aggregator's name."""
    jobs: list[int] = []
    owner: list[int] = []
    released: dict[tuple[str, int], float] = {}
    for event in events:
        match event.kind:
            # What is handed over is the next epoch. A zombie that steps down after it hands over nothing.
            case Kind.JOB_RELEASED | Kind.OWNER_RELEASED:
                released[event.job, event.epoch + 1] = event.mono
            case Kind.JOB_CLAIMED | Kind.OWNER_ACQUIRED if (event.job, event.epoch) in released:
                since = released.pop((event.job, event.epoch))
                (jobs if event.job else owner).append(_ms(event.mono - since))
            case _:
                pass
    return jobs, owner


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _ends(containers: Containers) -> list[str]:
    """In words, the containers whose end nothing excuses."""
    problems: list[str] = []
    for pod, each in containers:
        if each.disturbed or each.code is None:
            continue
        if each.after_grace:
            problems.append(f"{pod} was killed after its grace period")
        elif each.sigterm is None:
            problems.append(f"{pod} ended by itself, with exit code {each.code}")
        elif each.code not in (0, GAVE_BACK) and each.ready:
            problems.append(f"{pod} drained with exit code {each.code}")
    return problems


@frozen
class _Effects:
    """What became of the jobs."""

    published: frozenset[str]
    completed: frozenset[str]
    dead: frozenset[str]
    counted: Mapping[str, int]
    """How often each job was counted, by the store or, if that tells of more, by the events."""

    @classmethod
    def of(
        cls, published: Iterable[str], dead: Iterable[str], effects: Mapping[str, int], events: Iterable[Event]
    ) -> _Effects:
        applied = Counter(event.job for event in events if event.kind is Kind.ENTRY_APPLIED)
        return cls(
            frozenset(published),
            frozenset(job for job, times in effects.items() if times > 0),
            frozenset(dead),
            {job: max(effects.get(job, 0), applied[job]) for job in effects.keys() | applied.keys()},
        )

    @property
    def lost(self) -> frozenset[str]:
        return self.published - self.completed - self.dead

    @property
    def duplicates(self) -> int:
        return sum(max(0, times - 1) for times in self.counted.values())

    def problems(self) -> list[str]:
        problems: list[str] = []
        if not self.published:
            problems.append("nothing was published, so nothing was shown")
        if self.lost:
            problems.append(f"{count(len(self.lost), 'job')} lost: {some(self.lost)}")
        if self.dead:
            problems.append(f"{count(len(self.dead), 'job')} among the dead letters: {some(self.dead)}")
        if self.duplicates:
            twice = {job for job, times in self.counted.items() if times > 1}
            problems.append(f"{count(self.duplicates, 'effect')} too many: {some(twice)}")
        if unknown := self.completed - self.published:
            problems.append(f"{count(len(unknown), 'job')} counted that nobody published: {some(unknown)}")
        return problems


def _totals(totals: Mapping[str, int], truth: Mapping[str, int]) -> list[str]:
    """In words, how the totals differ from the truth."""
    names = sorted(name for name in totals.keys() | truth.keys() if totals.get(name) != truth.get(name))
    differences = some(f"{name} {totals.get(name)} instead of {truth.get(name)}" for name in names)
    return [f"the totals differ from the truth: {differences}"] if names else []


def _drains(containers: Containers) -> list[int]:
    """Milliseconds from SIGTERM to the end of the process, where nothing else happened to it."""
    return [
        _ms(each.ended - each.sigterm)
        for _, each in containers
        if each.sigterm is not None and each.ended is not None and not each.disturbed
    ]


def _faults(events: Iterable[Event]) -> dict[str, int]:
    kinds = Counter(str(event.detail.get("kind", "")) for event in events if event.kind is Kind.FAULT)
    del kinds["resume"]  # the end of a pause, and no fault of its own
    return dict(sorted(kinds.items()))


def audit(
    published: Iterable[str],
    events: Iterable[Event],
    totals: Mapping[str, int],
    truth: Mapping[str, int],
    effects: Mapping[str, int],
    dead: Iterable[str] = (),
    exit_codes: Mapping[str, Sequence[int]] | None = None,
    *,
    seconds: float = 0.0,
    seed: int | None = None,
    expect: Expectation | None = None,
    stopped_after: float = math.inf,
) -> Report:
    """Judge a run.

    ``published`` are the ids of the jobs that were published; ``totals`` and ``effects`` come from the store
    when all is over: the figures, and how often each job was counted into them. ``dead`` are the jobs among
    the dead letters. ``exit_codes`` are the controller's; when not given, those that the events tell.
    ``events`` need no order. ``stopped_after`` so many seconds the run was cut off.
    """
    told = sorted(events, key=lambda event: event.mono)
    tally = Counter(event.kind for event in told)
    containers = Containers(told)
    leases = leases_of(told, containers)
    outcome = _Effects.of(published, dead, effects, told)
    steps = _steps(told, leases)
    resumed = _resumed(told)
    burnt = _burnt(leases, outcome.dead)
    job_handovers, owner_handovers = _handovers(told)
    at_least = (expect or Expectation()).jobs_resumed

    problems = [*outcome.problems(), *_totals(totals, truth), *steps.problems]
    if stopped_after < math.inf:
        problems.insert(0, f"the run was stopped after {stopped_after:g} s, before all was done")
    if burnt:
        problems.append(f"the deploy burnt {count(burnt, 'attempt')}")
    if resumed < at_least:
        problems.append(
            f"{count(resumed, 'job')} resumed from a checkpoint; at least {at_least} must, or the run shows nothing"
        )
    problems += _ends(containers)

    return Report(
        holds=not problems,
        problems=tuple(problems),
        published=len(outcome.published),
        completed=len(outcome.completed & outcome.published),
        lost=len(outcome.lost),
        dead=len(outcome.dead),
        duplicate_effects=outcome.duplicates,
        totals_equal=dict(totals) == dict(truth),
        set_aside=sum(int(event.detail.get("jobs", 0)) for event in told if event.kind is Kind.JOB_SET_ASIDE),
        jobs_resumed=resumed,
        steps_run=steps.run,
        steps_repeated=steps.repeated,
        steps_redone=steps.redone,
        attempts_burnt_by_deploy=burnt,
        releases=tally[Kind.JOB_RELEASED],
        leases_lost=tally[Kind.LEASE_LOST],
        pods_started=len(containers.by_pod),
        pods_killed_after_grace=sum(each.after_grace for _, each in containers),
        faults=_faults(told),
        drain_ms=tuple(_drains(containers)),
        handover_ms=(*job_handovers, *owner_handovers),
        owner_handover_ms=tuple(owner_handovers),
        exit_codes={pod: tuple(codes) for pod, codes in (exit_codes or containers.exit_codes()).items()},
        totals=dict(totals),
        truth=dict(truth),
        seconds=round(seconds, 3),
        seed=seed,
    )
