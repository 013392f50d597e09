"""Capture the events of a tree."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, final

from .. import _events as kinds  # pyright: ignore[reportPrivateUsage]  # private to otp
from .._events import EventBus

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from .._runtime import Runtime

E = TypeVar("E")


@final
class CapturedEvents:
    """The events that came while they were captured, in order."""

    def __init__(self) -> None:
        self.all: list[object] = []
        """All of them, and nothing of what :meth:`clear` made it forget."""

    def __iter__(self) -> Iterator[object]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def of(self, kind: type[E]) -> list[E]:
        """Those of one kind, or of any kind derived from it."""
        return [event for event in self.all if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        """The only one of its kind.

        Raises:
            AssertionError: if there is none, or more than one.
        """
        found = self.of(kind)
        assert len(found) == 1, f"expected one {kind.__name__}, got {found}"
        return found[0]

    def lines(self, *only: type) -> list[str]:
        """The lives of the children as text, one line per event, to be compared in one assert.

        ::

            assert events.lines() == [
                "started app/a",
                "started app/b",
                "ended app/a: crashed (ValueError: no such table)",
                "stopped app/b: shutdown",
            ]

        "ended" is by itself, "stopped" because its supervisor asked it to; the others are "failed" (to start),
        "ignored" and "stuck". What supervisors decided and what became of single messages is left out, unless it is
        asked for.

        Args:
            only: Only events of these kinds; default: all of :class:`ChildEvent`, except :class:`MessageEvent`.
        """
        wanted = only or (kinds.ChildEvent,)
        unwanted = () if only else (kinds.MessageEvent, kinds.ActorCrashed)
        return [line(event) for event in self.all if isinstance(event, wanted) and not isinstance(event, unwanted)]

    def take_lines(self, *only: type) -> list[str]:
        """:meth:`lines`, and forget everything that was captured so far."""
        lines = self.lines(*only)
        self.clear()
        return lines

    def clear(self) -> None:
        """Forget what was captured so far."""
        self.all.clear()


def line(event: object) -> str:
    """One event as a line; see :meth:`CapturedEvents.lines`."""
    match event:
        case kinds.ChildStarted():
            return f"started {event.path}"
        case kinds.ChildIgnored():
            return f"ignored {event.path}"
        case kinds.ChildStartFailed():
            return f"failed {event.path}: {event.reason}"
        case kinds.ChildExited():
            return f"{'stopped' if event.asked else 'ended'} {event.path}: {event.reason}"
        case kinds.ChildStuck():
            return f"stuck {event.path}"
        case kinds.MessagesDropped():
            return f"unread {event.path}: {event.count}"
        case kinds.SupervisorDecided():
            return f"decided {event.path}: {event.decision.verdict} {event.decision.child}"
        case kinds.ConditionChanged():
            return f"condition {event.path}: {event.name} {'ok' if event.ok else 'not ok'}"
        case _:
            return str(event)


@contextmanager
def capture_events(source: Runtime | EventBus) -> Generator[CapturedEvents]:
    """Capture all events of a tree within the block; they can still be read after it.

    Args:
        source: A runtime, or its event bus. To see the start of a tree, make the :class:`Runtime` before it:
            ``open_supervisor(app, runtime=runtime)``.
    """
    captured = CapturedEvents()
    bus = source if isinstance(source, EventBus) else source.events
    unsubscribe = bus.subscribe(captured.all.append)
    try:
        yield captured
    finally:
        unsubscribe()
