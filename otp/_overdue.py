"""Who was cancelled and should have ended, but has not: what is stuck is said, and waited for.

Nothing in a process can be killed by force. A task that shields itself, swallows its cancellation or waits for a thread
goes on for as long as it likes, and the supervisor, which cannot leave before its children, with it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING, Final, final

from ._events import ChildStuck, StuckAfter

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._life import Life

GRACE: Final = 5.0
"""Seconds that a child may go on after it was cancelled before it is reported as stuck."""


@final
class Overdue:
    """Keeps in mind until when the children of one supervisor are to have ended.

    `lives`: the children that are alive, by id. What was expected of one that is not is forgotten when its time comes
    to the front: so nothing has to be looked for when a child ends.
    """

    __slots__ = ("_began", "_expected", "_lives", "_numbers", "_start_due", "_starting", "stuck")

    def __init__(self, lives: dict[str, Life]) -> None:
        self._lives = lives
        self._expected: list[tuple[float, int, str, int, float, StuckAfter]] = []
        self._numbers = itertools.count()
        # The child that began its init last (there is one at a time), and when it must be up. Its own scope could watch
        # that, too; but most are up at once, and a deadline set and taken back is a tenth of their start.
        self._starting: Life | None = None
        self._began = 0.0
        self._start_due = math.inf
        self.stuck: set[Life] = set()
        """Those that were reported and have not ended."""

    def starts(self, life: Life, now: float) -> float:
        """Its init begins, for which it has `init_timeout`; returns when that is over."""
        self._starting, self._began = life, now
        self._start_due = due = now + life.spec.init_timeout
        return due

    def is_up(self, life: Life) -> None:
        """Its init is done. The clock may be looked at all the same: for a row of quick starts that is once."""
        if self._starting is life:
            self._starting = None

    def stops(self, life: Life, since: float) -> None:
        """It was asked to stop `since` then; said again when its `stop_deadline` has been moved forward."""
        self._expect(life, life.stop_deadline, since, "asked to stop")

    def ends(self, life: Life, by: float, now: float) -> None:
        """It has begun to end by itself, and has time for that until `by`."""
        self._expect(life, by, now, "began to end")

    def _expect(self, life: Life, by: float, now: float, after: StuckAfter) -> None:
        if by < math.inf:
            entry = by + GRACE, next(self._numbers), life.spec.id, life.incarnation, now, after
            heapq.heappush(self._expected, entry)

    def next_look(self) -> float:
        """When to look again, if nothing happens before; inf for never."""
        expected = self._expected
        while expected and self._find(expected[0][2], expected[0][3]) is None:
            heapq.heappop(expected)
        return min(expected[0][0], self._start_due) if expected else self._start_due

    def find(self, now: float) -> Generator[ChildStuck]:
        """Cancel the init that takes too long; report those whose time is over, each once."""
        if self._start_due <= now:
            yield from self._late_start(now)
        while self._expected and self._expected[0][0] <= now:
            _, _, id_, incarnation, since, after = heapq.heappop(self._expected)
            life = self._find(id_, incarnation)
            if life is not None:
                yield from self._report(life, since, after, now)

    def _late_start(self, now: float) -> Generator[ChildStuck]:
        life, self._start_due = self._starting, math.inf
        if life is None or life.stop_asked:
            return
        if life.cancelled:
            yield from self._report(life, self._began, "began to start", now)
        else:
            life.cancel(f"its init took longer than {life.spec.init_timeout:g} s")
            self._start_due = now + GRACE

    def forget(self, life: Life) -> None:
        """It has ended."""
        self.stuck.discard(life)
        self.is_up(life)

    def _report(self, life: Life, since: float, after: StuckAfter, now: float) -> Generator[ChildStuck]:
        if life not in self.stuck:
            self.stuck.add(life)
            yield ChildStuck(path=life.path, incarnation=life.incarnation, at=now, after=after, waited=now - since)

    def _find(self, id_: str, incarnation: int) -> Life | None:
        life = self._lives.get(id_)
        return life if life is not None and life.incarnation == incarnation else None
