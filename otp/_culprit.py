"""Who occupies the loop: read from the frames of the loop's thread by another thread."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ._child import current_context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_OURS: Final = frozenset({"_holdfast", "checkpoints", "hypercorn", "otp", "outcome", "patterns", "queues", "trio"})
"""Packages whose frames stand between the loop and the code that somebody wrote for a child."""


@attrs.frozen(kw_only=True)
class Culprit:
    """What the loop's thread was doing at one moment."""

    path: str | None
    """The path of the child whose task was running, if it was one's."""
    handler: str | None
    """The qualified name of its function: the outermost frame that is neither this library's nor Python's own."""
    stack: str
    """The stack of the running task, innermost frame last, as in a traceback; empty if no task was running."""

    def __str__(self) -> str:
        if not self.stack:
            return "no task is running"
        return f"{self.path or 'a task outside of the tree'} in {self.handler or 'library code'}"


def find_culprit(thread: int) -> Culprit:
    """Look at what the trio loop in `thread` (its ident) is doing right now; to be called by another thread."""
    frames: list[FrameType] = []  # of the task only, innermost first
    frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]  # documented
    while frame is not None and not _is_run_loop(frame):
        frames.append(frame)
        frame = frame.f_back
    # While it waits for something to do, or is between two tasks, there is none. (That the loop's function
    # keeps the task in a variable of this name is no published fact: a test watches it.)
    task = None if frame is None else frame.f_locals.get("task")
    if not frames or not isinstance(task, trio.lowlevel.Task):
        return Culprit(path=None, handler=None, stack="")
    frames.reverse()
    return Culprit(
        path=_path(task),
        handler=_handler(frames),
        stack="".join(traceback.format_list([_summary(f) for f in frames])),
    )


def _path(task: trio.lowlevel.Task) -> str | None:
    # The context is in use by the loop's thread, so a copy of it is asked. The tasks of a child inherit it.
    try:
        return task.context.copy().run(current_context).path
    except RuntimeError:
        return None


def _is_run_loop(frame: FrameType) -> bool:
    return frame.f_code.co_name == "unrolled_run" and frame.f_globals.get("__name__") == "trio._core._run"


def _handler(frames: Sequence[FrameType]) -> str | None:
    for frame in frames:
        module = str(frame.f_globals.get("__name__"))
        package = module.partition(".")[0]
        if (package not in _OURS and package not in sys.stdlib_module_names) or package == "__main__":
            return f"{module}.{frame.f_code.co_qualname}"
    return None


def _summary(frame: FrameType) -> traceback.FrameSummary:
    return traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)
