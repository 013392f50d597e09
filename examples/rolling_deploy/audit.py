"""The audit: from what was written down during a run, it is judged whether the promise was kept.

Everything here is pure: the same records give the same report. The audit believes the store about what was
counted (totals, effects, dead letters), the events about what was done, and the controller about how
processes ended; where two of them speak of one thing, the worse is taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from attrs import asdict, define, field, frozen

from examples.rolling_deploy.events import Event, Json, Kind

__all__ = ["Expectation", "Report", "audit", "in_words"]

DRAINED_BY_DEADLINE = 75
"""The exit code of a pod that gave jobs back at its drain deadline: in order."""

_REAL_FAULTS = frozenset({"kill", "pause"})


@frozen
class Expectation:
    """What a run must show, beyond what every run must: at least ``jobs_resumed`` jobs that went on."""

    jobs_resumed: int = 3


@frozen
class Report:
    """The outcome of a run. Times are in milliseconds where the name says so, else in seconds.

    - ``lost``: published, and neither counted in the totals nor a dead letter.
    - ``duplicate_effects``: how often a job was counted beyond once.
    - ``set_aside``: how many jobs of the newer schema were met, and left to newer pods, by pods that did not know it.
    - ``jobs_resumed``: jobs that went on from a checkpoint of an earlier lease.
    - ``steps_run``: steps that ran to their end and were saved.
    - ``steps_repeated``: step bodies begun again, because a lease ended in their midst or for no reason.
    - ``steps_redone``: of these, steps that had been saved already. A checkpoint rules them out.
    - ``attempts_burnt_by_deploy``: attempts charged to leases whose container had had SIGTERM and no other
      fault.
    - ``handover_ms``: from the release of a lease to its next claim, of jobs and of the aggregator's name;
      ``owner_handover_ms`` are those of the name alone.
    - ``drain_ms``: from SIGTERM to the end of the process, without containers that had a fault.
    - ``exit_codes``: of each pod's containers, in order; negative for a signal.
    - ``problems``: why the promise was not kept, in words; empty when it ``holds``.
    """

    holds: bool
    problems: tuple[str, ...]
    published: int
    completed: int
    lost: int
    dead: int
    duplicate_effects: int
    totals_equal: bool
    set_aside: int
    jobs_resumed: int
    steps_run: int
    steps_repeated: int
    steps_redone: int
    attempts_burnt_by_deploy: int
    releases: int
    leases_lost: int
    pods_started: int
    pods_killed_after_grace: int
    faults: Mapping[str, int]
    drain_ms: tuple[int, ...]
    handover_ms: tuple[int, ...]
    owner_handover_ms: tuple[int, ...]
    exit_codes: Mapping[str, tuple[int, ...]]
    totals: Mapping[str, int]
    truth: Mapping[str, int]
    seconds: float
    seed: int | None

    def to_dict(self) -> dict[str, Json]:
        """The report as JSON-able values."""
        return asdict(self)


@define
class _Container:
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
        return self.liveness_failed or bool(self.faults)


@define
class _Lease:
    """One claim of a job."""

    job: str
    epoch: int
    attempt: int
    pod: str
    claimed: float
    container: _Container | None
    released: bool = False
    lost: bool = False
    step_under_way: bool = False
    """At its end, as far as it was written down."""

    @property
    def cut(self) -> bool:
        """Whether it was ended in the midst of a step, with a reason: at a step boundary nothing needs repeating."""
        disturbed = self.container is not None and self.container.disturbed
        return disturbed or self.lost or (self.released and self.step_under_way)

    def take(self, kind: Kind) -> None:
        """Something happened to the job in this lease."""
        if kind in (Kind.STEP_STARTED, Kind.STEP_RUN):
            self.step_under_way = kind is Kind.STEP_STARTED
        self.released |= kind is Kind.JOB_RELEASED
        self.lost |= kind is Kind.LEASE_LOST


class _Containers:
    """Who lived when. A pod's container is started again in place, so its name alone tells too little."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.by_pod: dict[str, list[_Container]] = {}
        for event in events:
            self._take(event)

    def __iter__(self) -> Iterator[tuple[str, _Container]]:
        return ((pod, each) for pod, containers in self.by_pod.items() for each in containers)

    def of(self, event: Event) -> _Container | None:
        """The container of the event's pod at the event's time."""
        fitting = [each for each in self.by_pod.get(event.pod, []) if each.started <= event.mono]
        return fitting[-1] if fitting else None

    def _take(self, event: Event) -> None:
        if event.kind is Kind.POD_STARTED:
            self.by_pod.setdefault(event.pod, []).append(_Container(event.mono))
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


def _leases(events: Sequence[Event], containers: _Containers) -> dict[str, list[_Lease]]:
    """Each job's claims, by epoch."""
    leases: dict[str, list[_Lease]] = {}
    for event in events:
        if event.kind is Kind.JOB_CLAIMED:
            leases.setdefault(event.job, []).append(
                _Lease(event.job, event.epoch, event.attempt, event.pod, event.mono, containers.of(event))
            )
    for claims in leases.values():
        claims.sort(key=lambda lease: lease.epoch)
    for event in events:
        for lease in leases.get(event.job, []):
            if lease.epoch == event.epoch:
                lease.take(event.kind)
    return leases


def _burnt(leases: Mapping[str, Sequence[_Lease]], dead: frozenset[str]) -> int:
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


def _steps(events: Sequence[Event], leases: Mapping[str, Sequence[_Lease]]) -> tuple[int, int, int, list[str]]:
    """Steps run, repeated and redone; and in words, which repetitions nothing excuses."""
    started: Counter[tuple[str, str]] = Counter()
    saved: Counter[tuple[str, str]] = Counter()
    for event in events:
        if event.kind is Kind.STEP_STARTED:
            started[event.job, event.step] += 1
        elif event.kind is Kind.STEP_RUN:
            saved[event.job, event.step] += 1
    redone = sum(count - 1 for count in saved.values())
    repeated_by_job: Counter[str] = Counter()
    for key in started.keys() | saved.keys():
        # A step that was saved has also been started, even if that was not written down.
        repeated_by_job[key[0]] += max(started[key], saved[key]) - 1
    problems: list[str] = []
    for job, repeated in sorted(repeated_by_job.items()):
        # A lease can be cut in the midst of one step at most: by a fault, or at the drain deadline.
        cuts = sum(lease.cut for lease in leases.get(job, [])[:-1])
        if repeated > cuts:
            steps, times = _count(repeated, "step"), _count(cuts, "time")
            problems.append(f"{job} repeated {steps}, but was interrupted {times}")
    return sum(saved.values()), sum(repeated_by_job.values()), redone, problems


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


def _ends(containers: _Containers) -> list[str]:
    """In words, the containers whose end nothing excuses."""
    problems: list[str] = []
    for pod, each in containers:
        if each.disturbed or each.code is None:
            continue
        if each.after_grace:
            problems.append(f"{pod} was killed after its grace period")
        elif each.sigterm is None:
            problems.append(f"{pod} ended by itself, with exit code {each.code}")
        elif each.code not in (0, DRAINED_BY_DEADLINE) and each.ready:
            problems.append(f"{pod} drained with exit code {each.code}")
    return problems


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
    expect = expect or Expectation()
    told = sorted(events, key=lambda event: event.mono)
    jobs = set(published)
    dead_jobs = frozenset(dead)
    containers = _Containers(told)
    leases = _leases(told, containers)

    applied = Counter(event.job for event in told if event.kind is Kind.ENTRY_APPLIED)
    counted = {job: max(effects.get(job, 0), applied[job]) for job in effects.keys() | applied.keys()}
    duplicates = sum(max(0, times - 1) for times in counted.values())
    completed = {job for job, times in effects.items() if times > 0}
    lost = jobs - completed - dead_jobs
    unknown = completed - jobs

    steps_run, steps_repeated, steps_redone, repeat_problems = _steps(told, leases)
    resumed = _resumed(told)
    burnt = _burnt(leases, dead_jobs)
    job_handovers, owner_handovers = _handovers(told)
    killed = sum(each.after_grace for _, each in containers)
    drains = [
        _ms(each.ended - each.sigterm)
        for _, each in containers
        if each.sigterm is not None and each.ended is not None and not each.disturbed
    ]
    if exit_codes is None:
        exit_codes = {
            pod: [each.code for each in lives if each.code is not None] for pod, lives in containers.by_pod.items()
        }
    kinds = Counter(str(event.detail.get("kind", "")) for event in told if event.kind is Kind.FAULT)
    del kinds["resume"]  # the end of a pause, and no fault of its own

    problems: list[str] = []
    if stopped_after < math.inf:
        problems.append(f"the run was stopped after {stopped_after:g} s, before all was done")
    if not jobs:
        problems.append("nothing was published, so nothing was shown")
    if lost:
        problems.append(f"{_count(len(lost), 'job')} lost: {_some(lost)}")
    if dead_jobs:
        problems.append(f"{_count(len(dead_jobs), 'job')} among the dead letters: {_some(dead_jobs)}")
    if duplicates:
        twice = {job for job, times in counted.items() if times > 1}
        problems.append(f"{_count(duplicates, 'effect')} too many: {_some(twice)}")
    if unknown:
        problems.append(f"{_count(len(unknown), 'job')} counted that nobody published: {_some(unknown)}")
    if dict(totals) != dict(truth):
        names = sorted(name for name in totals.keys() | truth.keys() if totals.get(name) != truth.get(name))
        problems.append(
            "the totals differ from the truth: "
            + "; ".join(f"{name} {totals.get(name)} instead of {truth.get(name)}" for name in names)
        )
    if steps_redone:
        problems.append(f"{_count(steps_redone, 'step')} ran again although the result had been saved")
    problems += repeat_problems
    if burnt:
        problems.append(f"the deploy burnt {_count(burnt, 'attempt')}")
    if resumed < expect.jobs_resumed:
        problems.append(
            f"{_count(resumed, 'job')} resumed from a checkpoint; at least {expect.jobs_resumed} must, "
            "or the run shows nothing"
        )
    problems += _ends(containers)

    return Report(
        holds=not problems,
        problems=tuple(problems),
        published=len(jobs),
        completed=len(completed & jobs),
        lost=len(lost),
        dead=len(dead_jobs),
        duplicate_effects=duplicates,
        totals_equal=dict(totals) == dict(truth),
        set_aside=sum(int(event.detail.get("jobs", 0)) for event in told if event.kind is Kind.JOB_SET_ASIDE),
        jobs_resumed=resumed,
        steps_run=steps_run,
        steps_repeated=steps_repeated,
        steps_redone=steps_redone,
        attempts_burnt_by_deploy=burnt,
        releases=sum(event.kind is Kind.JOB_RELEASED for event in told),
        leases_lost=sum(event.kind is Kind.LEASE_LOST for event in told),
        pods_started=len(containers.by_pod),
        pods_killed_after_grace=killed,
        faults=dict(sorted(kinds.items())),
        drain_ms=tuple(drains),
        handover_ms=(*job_handovers, *owner_handovers),
        owner_handover_ms=tuple(owner_handovers),
        exit_codes={pod: tuple(codes) for pod, codes in exit_codes.items()},
        totals=dict(totals),
        truth=dict(truth),
        seconds=round(seconds, 3),
        seed=seed,
    )


def in_words(report: Report) -> list[str]:
    """The report as a few short sentences, the verdict first."""
    jobs, duplicates = _count(report.published, "job"), _count(report.duplicate_effects, "duplicate effect")
    resumed, steps = _count(report.jobs_resumed, "job"), _count(report.steps_run, "step")
    releases, pods = _count(report.releases, "release"), _count(report.pods_started, "pod")
    seed = "" if report.seed is None else f", seed {report.seed}"
    equal = "equal" if report.totals_equal else "differ from"
    faults = ", ".join(f"{kind} {times}" for kind, times in report.faults.items()) or "none"
    lines = ["The audit holds." if report.holds else "The audit does NOT hold."]
    lines += [f"  - {problem}" for problem in report.problems]
    lines.append(
        f"{jobs} published, {report.completed} completed, {report.lost} lost, {report.dead} dead; "
        f"{duplicates}; the totals {equal} the truth."
    )
    lines.append(
        f"{resumed} went on from a checkpoint; {steps} run, {report.steps_repeated} repeated; {releases}; "
        f"attempts burnt by the deploy: {report.attempts_burnt_by_deploy}."
    )
    if report.set_aside:
        lines.append(f"{_count(report.set_aside, 'job')} of the newer schema met pods that left them to newer pods.")
    lines.append(
        f"{pods} started, {report.pods_killed_after_grace} killed after the grace period; "
        f"drain: {_spread(report.drain_ms)}."
    )
    owner = report.owner_handover_ms
    lines.append(
        f"Hand-over of the aggregator: {_spread(owner)}; of a job, to the next free hand: "
        f"{_spread(report.handover_ms[: len(report.handover_ms) - len(owner)])}."
    )
    lines.append(f"Faults: {faults}. {report.seconds:.1f} s{seed}.")
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _some(names: Iterable[str], most: int = 5) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _spread(values: Sequence[int]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]} ms (median, longest {ordered[-1]} ms)"
