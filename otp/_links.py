"""Links: end together.

When one of two linked children ends other than normally, so does the other, at once: its handler is cancelled at its
next await, it cleans up, and it ends with the same reason. (A crash is passed on as :exc:`LinkedExit`, whose cause is
the first exception, since one exception object cannot be raised in two tasks.) Who would rather hear of it traps exits.

Two things are never changed by a link: a supervisor does not end by one, as the exits of others are its trade, and a
child that was asked to stop goes on stopping in its own time.

This module and `_groups` know each other, as the only two of the package: a group's link ends those that it ties as any
link does, here; and what comes of it names the group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs

from ._entries import Notice
from ._errors import LinkedExit, NotAlive
from ._exit import Crashed, ExitReason, Normal, Stop
from ._life import Life, Part
from ._monitors import NoProcess
from ._ref import Ref

if TYPE_CHECKING:
    from ._groups import Group  # noqa: TC004  (see above)


@attrs.frozen(kw_only=True)
class Exited(Notice):
    """Somebody linked to an actor that traps exits has ended, for whatever reason, normal ones too.

    It comes as a message. OTP's ``{'EXIT', Pid, Reason}``.
    """

    ref: Ref = attrs.field(eq=id)
    """Who has ended."""
    reason: ExitReason | NoProcess
    """What it ended with; :class:`NoProcess` if it had ended already when it was linked."""
    group: Group | None = None
    """The group by which the two were linked; None if it was a link between just them."""


class _ExitSignal(Stop):
    """Makes a child end with any exit reason that is not a crash."""

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(reason)
        self._exit_reason = reason

    def exit_reason(self) -> ExitReason:
        return self._exit_reason


@final
class Links(Part):
    """The links of a life, in both directions."""

    # Kept in step on both sides of each link: A is in `tells` of B exactly when B is in `hears` of A.
    __slots__ = ("hears", "tells", "trapping")

    def __init__(self, life: Life) -> None:
        super().__init__(life)
        self.tells: dict[Life, None] = {}  # who is sent this life's exit
        self.hears: dict[Life, None] = {}  # whose exits this life is sent
        self.trapping = False

    def link(self, other: Life, *, one_way: bool) -> None:
        """End when `other` does, and unless `one_way` the other way round, too."""
        if other is self.life:
            return
        if other.box.ended:
            if not self.trapping:
                raise NotAlive(other.path, other.box.reason)
            self.life.box.put_notice(Exited(ref=other.ref, reason=NoProcess()))
            return
        others = other.part(Links)
        others.tells[self.life] = self.hears[other] = None
        if not one_way:
            self.tells[other] = others.hears[self.life] = None

    def unlink(self, other: Life) -> None:
        """Remove the link, and a notice of it that was not handled."""
        self._cut(other)
        self.life.box.take_back(
            lambda entry: isinstance(entry, Exited) and entry.ref is other.ref and entry.group is None
        )

    def ended(self, reason: ExitReason) -> None:
        """Tell the others, when nothing ties them to this life any more."""
        told = list(self.tells)
        for other in {**self.tells, **self.hears}:
            self._cut(other)
        for other in told:
            other.part(Links).hear(self.life, reason)

    def _cut(self, other: Life) -> None:
        others = other.part(Links)
        for mine, theirs in ((self.tells, others.hears), (self.hears, others.tells)):
            mine.pop(other, None)
            theirs.pop(self.life, None)

    def hear(self, who: Life, reason: ExitReason, group: Group | None = None) -> None:
        """An exit signal."""
        life = self.life
        if self.trapping:
            life.box.put_notice(Exited(ref=who.ref, reason=reason, group=group))
        elif isinstance(reason, Normal) or life.spec.is_supervisor or life.supervisor is not None:
            pass
        elif life.stop_asked or life.box.reason is not None:
            pass  # it ends already, for a reason of its own
        elif isinstance(reason, Crashed):
            life.fail(LinkedExit(who.path, reason))
        else:
            life.fail(_ExitSignal(reason))
