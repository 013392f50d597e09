"""The table of all groups of one tree, by their names; :class:`Group` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from ._monitors import Monitor
    from ._ref import Ref


@final
class Groups:
    """Who is in which group, and who watches it. What nobody is in or watches is not there."""

    __slots__ = ("_members", "_monitors")

    def __init__(self) -> None:
        self._members: dict[str, dict[Ref, None]] = {}
        self._monitors: dict[str, dict[Monitor, None]] = {}

    def members(self, name: str) -> tuple[Ref, ...]:
        """The members, in order."""
        return tuple(self._members.get(name, ()))

    def add(self, name: str, ref: Ref) -> None:
        """Add a member, behind the others."""
        self._members.setdefault(name, {})[ref] = None

    def remove(self, name: str, ref: Ref) -> None:
        """Remove a member."""
        members = self._members[name]
        del members[ref]
        if not members:
            del self._members[name]

    def put_last(self, name: str, ref: Ref) -> None:
        """Make a member the last in the order."""
        members = self._members[name]
        members[ref] = members.pop(ref)

    def watched(self, name: str) -> dict[Monitor, None]:
        """Where to place a monitor on a group."""
        return self._monitors.setdefault(name, {})

    def watching(self, name: str) -> tuple[Monitor, ...]:
        """The monitors on a group."""
        monitors = self._monitors.get(name)
        if monitors is None:
            return ()
        if not monitors:  # the last of them was removed
            del self._monitors[name]
        return tuple(monitors)
