"""What the audit of a run comes to: the figures, and the same in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import asdict, frozen

if TYPE_CHECKING:
    from examples.rolling_deploy.events import Json

__all__ = ["Report", "count", "in_words", "some"]


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


def in_words(report: Report) -> list[str]:
    """The report as a few short sentences, the verdict first."""
    jobs, duplicates = count(report.published, "job"), count(report.duplicate_effects, "duplicate effect")
    resumed, steps = count(report.jobs_resumed, "job"), count(report.steps_run, "step")
    releases, pods = count(report.releases, "release"), count(report.pods_started, "pod")
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
        lines.append(f"{count(report.set_aside, 'job')} of the newer schema met pods that left them to newer pods.")
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


def count(number: int, thing: str) -> str:
    """So many things, in words."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few of the names."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _spread(values: Sequence[int]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]} ms (median, longest {ordered[-1]} ms)"
