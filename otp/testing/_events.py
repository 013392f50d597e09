"""Capture the events of a tree."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, final

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

    def clear(self) -> None:
        """Forget what was captured so far."""
        self.all.clear()


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
