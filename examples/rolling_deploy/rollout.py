"""The decisions of a rolling update, without clocks, processes or tasks.

This follows Kubernetes: a Deployment moves pods between ReplicaSets, one per pod template, by changing how
many pods each should have; each ReplicaSet then makes or deletes pods until it has them. A pod that is
terminating is counted nowhere, so its replacement starts while it drains.

:func:`reconcile` looks at what is there and returns what to do. It keeps nothing between calls but the
ReplicaSets handed to it, so it may be called at any time and after any disturbance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Create", "Delete", "Desired", "Plan", "Pod", "ReplicaSet", "reconcile"]


@frozen
class Desired:
    """What the deployment should come to: ``replicas`` pods of ``revision``, within the two limits."""

    replicas: int
    max_surge: int
    max_unavailable: int
    revision: int


@frozen
class ReplicaSet:
    """How many pods of one revision there should be just now. Revisions grow with each new template."""

    revision: int
    replicas: int


@frozen
class Pod:
    """A pod as it is seen. ``available``: ready for ``minReadySeconds``. ``created`` orders pods by age."""

    name: str
    revision: int
    created: int
    ready: bool = False
    available: bool = False
    restarts: int = 0
    terminating: bool = False


@frozen
class Create:
    """Make one pod of this revision."""

    revision: int


@frozen
class Delete:
    """End this pod: preStop, SIGTERM, grace."""

    pod: str


@frozen
class Plan:
    """What to do now: the ReplicaSets to keep for the next call, and the actions in order.

    ``complete``: all replicas are of the desired revision and available, and no other pod is counted.
    """

    sets: tuple[ReplicaSet, ...]
    actions: tuple[Create | Delete, ...]
    complete: bool


def reconcile(desired: Desired, sets: Iterable[ReplicaSet], pods: Iterable[Pod]) -> Plan:
    """Decide the next actions.

    Guarantees, whatever the pods do: no action brings the pods that are not terminating above ``replicas +
    max_surge`` (other than when ``replicas`` was just lowered, when they only shrink), and no action ends an
    available pod when that would leave fewer than ``replicas - max_unavailable`` available.
    """
    counted = sorted((pod for pod in pods if not pod.terminating), key=lambda pod: pod.created)
    wanted = {each.revision: each.replicas for each in sets}
    wanted.setdefault(desired.revision, 0)
    available = _available_by_revision(counted)

    if not _scale_new(desired, wanted):
        _scale_old(desired, wanted, counted, available)

    actions: list[Create | Delete] = []
    for revision, replicas in sorted(wanted.items()):
        mine = [pod for pod in counted if pod.revision == revision]
        actions += [Create(revision)] * (replicas - len(mine))
        actions += [Delete(pod.name) for pod in sorted(mine, key=_deletion_rank)[: max(0, len(mine) - replicas)]]
    # Deletions first: the pods they free are no longer counted when the new ones start.
    actions.sort(key=lambda action: isinstance(action, Create))

    complete = (
        not actions and len(counted) == desired.replicas and available.get(desired.revision, 0) == desired.replicas
    )
    kept = tuple(
        ReplicaSet(revision, replicas)
        for revision, replicas in sorted(wanted.items())
        if replicas or revision == desired.revision
    )
    return Plan(kept, tuple(actions), complete)


def _available_by_revision(pods: Sequence[Pod]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for pod in pods:
        counts[pod.revision] = counts.get(pod.revision, 0) + pod.available
    return counts


def _scale_new(desired: Desired, wanted: dict[int, int]) -> bool:
    """Change how many pods of the new revision there should be; whether it was changed."""
    now = wanted[desired.revision]
    if now > desired.replicas:
        goal = desired.replicas
    else:
        room = desired.replicas + desired.max_surge - sum(wanted.values())
        goal = now + max(0, min(room, desired.replicas - now))
    wanted[desired.revision] = goal
    return goal != now


def _scale_old(desired: Desired, wanted: dict[int, int], pods: Sequence[Pod], available: dict[int, int]) -> None:
    """Take pods from the older revisions: those that are not available, then as many as may be missing."""
    old = [revision for revision in sorted(wanted) if revision != desired.revision]
    least = desired.replicas - desired.max_unavailable
    new = desired.revision
    # New pods that are not available yet are as good as missing, so that many more old ones have to stay.
    budget = sum(wanted.values()) - least - (wanted[new] - min(wanted[new], available.get(new, 0)))
    for revision in old:
        broken = wanted[revision] - min(wanted[revision], available.get(revision, 0))
        taken = max(0, min(budget, broken))
        wanted[revision] -= taken
        budget -= taken
    spare = sum(pod.available for pod in pods) - least
    for revision in old:
        taken = max(0, min(spare, wanted[revision]))
        wanted[revision] -= taken
        spare -= taken


def _deletion_rank(pod: Pod) -> tuple[bool, bool, int, int]:
    """Which pod of a ReplicaSet goes first: not ready, not available, most restarts, youngest."""
    return (pod.ready, pod.available, -pod.restarts, -pod.created)
