"""The table of all groups of one tree, by their names; :class:`Group` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, final
from weakref import WeakValueDictionary

from ._monitors import Monitor

if TYPE_CHECKING:
    from ._ref import Ref


@final
class _Watching(dict[Monitor, None]):
    """The monitors on one group; a dict itself cannot be referred to weakly."""

    __slots__ = ("__weakref__",)


@final
class Groups:
    """Who is in which group, who is linked with it and who watches it. A group without any of these is not there."""

    __slots__ = ("_linked", "_members", "_monitors")

    def __init__(self) -> None:
        self._members: dict[str, dict[Ref, None]] = {}
        self._linked: dict[str, dict[Ref, bool]] = {}  # who is linked with the group, and whether in both directions
        # Each monitor holds the dict that it is placed in: with the last of them it is gone, and the group with it.
        self._monitors: WeakValueDictionary[str, _Watching] = WeakValueDictionary()

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

    def linked(self, name: str) -> tuple[Ref, ...]:
        """Those that are linked with the group."""
        return tuple(self._linked.get(name, ()))

    def link(self, name: str, ref: Ref, *, both_ways: bool) -> None:
        """Add one that is linked with the group."""
        linked = self._linked.setdefault(name, {})
        linked[ref] = both_ways or linked.get(ref, False)

    def unlink(self, name: str, ref: Ref) -> bool:
        """Remove it. Returns whether there was a link in both directions."""
        linked = self._linked.get(name, {})
        both_ways = linked.pop(ref, False)
        if not linked:
            self._linked.pop(name, None)
        return both_ways

    def watched(self, name: str) -> dict[Monitor, None]:
        """Where to place a monitor on the group."""
        return self._monitors.setdefault(name, _Watching())

    def watching(self, name: str) -> tuple[Monitor, ...]:
        """The monitors on the group."""
        return tuple(self._monitors.get(name, ()))
