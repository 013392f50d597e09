"""Find one's way in a tree, and see the whole of it at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._ref import Ref
    from .._statistics import SupervisorStatistics
    from .._supervisor_ref import SupervisorRef


def find(supervisor: SupervisorRef, path: str) -> Ref:
    """The child at `path`, the ids from below `supervisor` on: ``find(app, "jobs/worker")``.

    Raises:
        ChildNotFound: if there is no such child.
        NotAlive: if it, or a supervisor on the way, is not alive at this moment.
        TypeError: if something on the way is not a supervisor.
    """
    *above, id_ = path.split("/")
    for each in above:
        supervisor = supervisor.supervisor(each)
    return supervisor.ref(id_)


def outline(supervisor: SupervisorRef) -> list[str]:
    """Everything below `supervisor`, in start order, one line per child: ``["jobs running", "jobs/worker stopped"]``.

    The word is the child's status; for a child that does not end although it was cancelled it is "stuck".
    """
    return _outline(supervisor.statistics(), "")


def _outline(statistics: SupervisorStatistics, prefix: str) -> list[str]:
    lines: list[str] = []
    for each in statistics.children:
        lines.append(f"{prefix}{each.id} {'stuck' if each.stuck else each.status}")
        if each.children is not None:
            lines += _outline(each.children, f"{prefix}{each.id}/")
    return lines
