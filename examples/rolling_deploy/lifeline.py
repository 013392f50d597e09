"""Nothing outlives the demo, not even when it is killed with -9 and can clean up nothing.

Two means, each of which suffices for its case:

- the *lifeline*: a pipe of which only the demo holds the writing end. A pod reads it in a thread
  (:func:`hold_on`); the end of the file means that the demo is gone, and the pod kills its own process group,
  worker processes and all;
- the *guardian*: a small process that knows the process groups of all pods and kills them when its own pipe
  ends. It reaches what no thread of the pod's own can: a pod that is stopped, or has not come so far as to
  hold on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LIFELINE_ENV", "Lifeline", "hold_on"]

LIFELINE_ENV = "HOLDFAST_DEMO_LIFELINE"
"""The variable that tells a pod the number of the pipe's file descriptor."""

_GUARDIAN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


def hold_on() -> bool:
    """Called by a pod as the first thing: from now on it dies when the demo dies.

    Returns whether there is a lifeline to hold on to; in a container there is none, and nothing is done.
    Raises ``ValueError`` when the variable is set to what is no open file descriptor.
    """
    value = os.environ.get(LIFELINE_ENV)
    if value is None:
        return False
    try:
        fd = int(value)
        os.fstat(fd)
    except (ValueError, OSError) as error:
        raise ValueError(f"{LIFELINE_ENV} must be the number of an open file descriptor, not {value!r}") from error
    # Worker processes of this pod must not take it for theirs.
    os.set_inheritable(fd, False)  # noqa: FBT003 - takes no keywords
    threading.Thread(target=_die_at_end, args=(fd,), name="lifeline", daemon=True).start()
    return True


def _die_at_end(fd: int) -> None:
    while os.read(fd, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


class Lifeline:
    """The demo's end: the pipe and the guardian. A context manager; leaving it ends both.

    Whatever group is still enrolled then is killed by the guardian.
    """

    def __init__(self) -> None:
        self.fd, self._write_end = os.pipe()
        """The reading end, to be passed on to every pod."""
        # In a session of its own, so that Ctrl-C does not end it before its work.
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARDIAN],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def enrol(self, group: int) -> None:
        """The process group ``group`` is to die with the demo."""
        self._tell(f"+{group}\n")

    def strike(self, group: int) -> None:
        """The process group ``group`` has ended; its number may come to belong to others."""
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        if self._guardian.stdin is None:  # pragma: no cover - it was asked for a pipe
            raise RuntimeError("the guardian has no pipe")
        try:
            os.write(self._guardian.stdin.fileno(), line.encode("ascii"))
        except BrokenPipeError:
            # Somebody killed the guardian. The pods still have the lifeline.
            pass

    def close(self) -> None:
        """End the guardian and let go of the pipe."""
        self._guardian.communicate()
        os.close(self._write_end)
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
