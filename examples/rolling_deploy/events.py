"""The event records of the demo, and the one file that all processes write them to.

Every process of a run appends to the same file, one JSON object per line and one ``write`` per line. A line
that has been written is in the kernel's page cache, so a ``kill -9`` of the writer does not lose it. What a
kill can do is to stop a write half-way at a page boundary; the record was then never written, and the reader
steps over its stump even though the next writer's line follows it without a line feed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attrs import Factory, asdict, frozen

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Event",
    "EventTail",
    "EventWriter",
    "Json",
    "Kind",
    "Sink",
    "event_now",
    "read_events",
    "write_events",
]

Json = Any
"""A value that :mod:`json` can write."""


_BEGINNING = '{"kind":"'


class Kind(StrEnum):
    """What happened. The value is the word on the wire."""

    # The deployment, written by the controller.
    ROLLOUT_STARTED = "rollout_started"
    """A new pod template was applied; ``detail``: ``version``, ``revision``."""
    ROLLOUT_FINISHED = "rollout_finished"
    """All replicas run the newest template and are available; no older pod is counted any more."""
    POD_STARTED = "pod_started"
    """A container was started; ``detail``: ``pid``, ``version``, ``revision``, ``restarts``, ``port``."""
    POD_READY = "pod_ready"
    POD_UNREADY = "pod_unready"
    POD_AVAILABLE = "pod_available"
    """Ready for at least ``minReadySeconds``."""
    LIVENESS_FAILED = "liveness_failed"
    """The liveness probe failed too often: the container is stopped and started again."""
    TERMINATING = "terminating"
    """The pod was deleted: its grace period runs, and it no longer counts. ``detail``: ``grace``."""
    PRE_STOP = "pre_stop"
    """The preStop hook ended; ``detail``: ``seconds``, ``code`` or ``error``."""
    SIGTERM = "sigterm"
    """SIGTERM is being sent. Written just before, so that nothing the pod does about it comes earlier."""
    GRACE_EXPIRED = "grace_expired"
    """The container outlived its grace period and is being killed."""
    POD_EXIT = "pod_exit"
    """The container has ended; ``detail``: ``code`` (negative: the signal), ``restarts``, ``seconds``."""
    POD_GONE = "pod_gone"
    """A terminating pod has ended for good."""
    CRASH_LOOP = "crash_loop"
    """The container is started again only after ``detail.delay`` seconds."""
    LOG = "log"
    """A line that a pod wrote to its stdout or stderr; ``detail``: ``line``."""
    FAULT = "fault"
    """About to be put in; ``detail``: ``kind`` (``kill``, ``pause``, ``resume``, ``term``)."""

    # The work, written by the publisher and the pods.
    JOB_PUBLISHED = "job_published"
    JOB_CLAIMED = "job_claimed"
    JOB_SET_ASIDE = "job_set_aside"
    """The pod met ``detail.jobs`` jobs of a newer schema, and left them to newer pods."""
    JOB_RESUMED = "job_resumed"
    """A checkpoint was found; ``step`` is the step at which the job goes on."""
    STEP_STARTED = "step_started"
    STEP_RUN = "step_run"
    """The body of the step ran to its end in this lease *and* its result was saved."""
    JOB_FINISHED = "job_finished"
    JOB_FAILED = "job_failed"
    """The handler raised; ``detail``: ``error``."""
    JOB_RELEASED = "job_released"
    LEASE_LOST = "lease_lost"
    ENTRY_APPLIED = "entry_applied"
    """The aggregator committed a job's figures into the totals; ``epoch`` is the aggregator's."""
    OWNER_ACQUIRED = "owner_acquired"
    """This pod now holds the aggregator's name; ``epoch`` is the name's."""
    OWNER_RELEASED = "owner_released"


@frozen
class Event:
    """One thing that happened, in one process, at one moment.

    ``wall`` is seconds since 1970, for people. ``mono`` is ``CLOCK_MONOTONIC`` in seconds: processes on one
    host share it, so it orders the events of a run and its differences are durations. Fields that a kind has
    no use for stay empty (``""``) or zero. ``attempt`` and ``epoch`` count from 1.
    """

    kind: Kind
    wall: float
    mono: float
    pod: str = ""
    job: str = ""
    step: str = ""
    attempt: int = 0
    epoch: int = 0
    detail: Mapping[str, Json] = Factory(dict[str, Json])

    def to_line(self) -> str:
        """Give the event as one line of JSON, without the line feed. ``kind`` always comes first."""
        record = {key: value for key, value in asdict(self).items() if value not in ("", 0, {})}
        return json.dumps(record, ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Event:
        """The inverse of :meth:`to_line`. Raises ``ValueError`` for anything else."""
        try:
            record: dict[str, Any] = {"wall": 0.0, "mono": 0.0, **json.loads(line)}
            record["kind"] = Kind(record["kind"])
            return cls(**record)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"not an event: {line[:200]!r}") from error


Sink = Callable[[Event], None]
"""What events are handed to. It must not block for long and must not raise."""


def event_now(
    kind: Kind,
    *,
    pod: str = "",
    job: str = "",
    step: str = "",
    attempt: int = 0,
    epoch: int = 0,
    detail: Mapping[str, Json] | None = None,
) -> Event:
    """An event that happens now, by this host's clocks."""
    return Event(kind, time.time(), time.monotonic(), pod, job, step, attempt, epoch, detail or {})


class EventWriter:
    """Appends events to a file that other processes append to as well.

    Safe to use from several threads. ``write`` returns when the kernel has the line; nothing is buffered
    here, so nothing is lost when this process is killed.
    """

    def __init__(self, path: str | os.PathLike[str], *, pod: str = "") -> None:
        """Open ``path`` for appending, creating it; ``pod`` is put into events that :meth:`emit` makes."""
        self._pod = pod
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, event: Event) -> None:
        """Append one event. Raises ``OSError`` when the file system takes no or only part of the line."""
        line = (event.to_line() + "\n").encode("ascii")
        written = os.write(self._fd, line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes of an event were written")

    def emit(
        self,
        kind: Kind,
        /,
        *,
        job: str = "",
        step: str = "",
        attempt: int = 0,
        epoch: int = 0,
        **detail: Json,
    ) -> Event:
        """Append an event of this pod that happens now, and return it; other keywords become ``detail``."""
        event = event_now(kind, pod=self._pod, job=job, step=step, attempt=attempt, epoch=epoch, detail=detail)
        self.write(event)
        return event

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventTail:
    """Reads a growing event file from its beginning, a little more each time it is asked."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Follow ``path``; it need not exist yet."""
        self._path = Path(path)
        self._offset = 0
        self._rest = b""
        self.stumps = 0
        """How many torn records were stepped over so far."""

    def poll(self) -> list[Event]:
        """The events written since the last call, in the order of the file."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [event for line in lines if line and (event := self._decode(line)) is not None]

    def _decode(self, line: bytes) -> Event | None:
        text = line.decode("utf-8", "replace")
        try:
            return Event.from_line(text)
        except ValueError:
            # A stump of a killed writer, then perhaps a whole record.
            self.stumps += 1
            start = text.find(_BEGINNING, 1)
            while start > 0:
                try:
                    return Event.from_line(text[start:])
                except ValueError:
                    start = text.find(_BEGINNING, start + 1)
            return None


def read_events(path: str | os.PathLike[str]) -> list[Event]:
    """All events of a file, ordered by their monotonic time."""
    return sorted(EventTail(path).poll(), key=lambda event: event.mono)


def write_events(path: str | os.PathLike[str], events: Iterable[Event]) -> None:
    """Write ``events`` to a file of their own, as JSON lines, replacing what was there."""
    lines: Sequence[str] = [event.to_line() + "\n" for event in events]
    Path(path).write_text("".join(lines), encoding="ascii")
